/* The context behind the C header, and what every entry point is wrapped in. */
#ifndef EK_ABI_CONTEXT_H
#define EK_ABI_CONTEXT_H
#include <chrono>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "../core/backend.h"
#include "../core/check.h"

struct ek_context {
  std::shared_ptr<ek::Backend> backend;
  std::string description;
  bool profiling = false;
  std::vector<ek_op_profile> profile;
};

namespace ek {

void set_last_error(const char* message) noexcept;

/* Runs body and turns any exception into a status; nothing throws, exits or aborts past an entry point. */
template <class Body>
ek_status guarded(Body&& body) noexcept {
  try {
    body();
    return EK_OK;
  } catch (const ArgError& e) {
    set_last_error(e.what());
    return EK_ERR_ARG;
  } catch (const DeviceError& e) {
    set_last_error(e.what());
    return EK_ERR_DEVICE;
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory");
    return EK_ERR_OOM;
  } catch (const std::exception& e) {
    set_last_error(e.what());
    return EK_ERR_INTERNAL;
  } catch (...) {
    set_last_error("unknown exception");
    return EK_ERR_INTERNAL;
  }
}

/* Adds one call of `op` (a static string) to the context's profile. */
void record(ek_context& ctx, const char* op, double ns, double bytes, double flops);

/* Runs an op, timed when profiling is on. */
template <class Body>
void run_op(ek_context& ctx, const char* op, double bytes, double flops, Body&& body) {
  if (!ctx.profiling) {
    body();
    return;
  }
  const auto begin = std::chrono::steady_clock::now();
  body();
  ctx.backend->synchronise();
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - begin;
  record(ctx, op, time.count(), bytes, flops);
}

/* Checks that a handle is there and belongs to the context's device. */
template <class Handle>
void require_handle(const ek_context* ctx, const Handle* handle, const char* op, const char* name) {
  EK_REQUIRE(handle != nullptr, "%s: %s is NULL", op, name);
  EK_REQUIRE(handle->backend == ctx->backend, "%s: %s belongs to another context", op, name);
}

inline void require_context(const ek_context* ctx, const char* op) {
  EK_REQUIRE(ctx != nullptr, "%s: ctx is NULL", op);
}

/* Fills the sequences, blocks and counts of a batch from the arguments of `op`, which are checked. */
void fill_sequences(ek_batch& batch, const char* op, int32_t n_seqs, const int32_t* start,
                    const int32_t* n_new, const int32_t* n_seq_blocks, const int32_t* blocks);

/* Checks that a weight is n_matrices x (n_rows, n_cols) of the context's device. */
void require_weight(const ek_context* ctx, const ek_weight* w, int32_t n_matrices, int32_t n_rows,
                    int32_t n_cols, const char* op, const char* name);

/* The floats of a buffer that must hold at least (n_rows, n_cols) from row `first_row` on. */
float* require_floats(const ek_context* ctx, const ek_buffer* buffer, int64_t first_row, int64_t n_rows,
                      int64_t n_cols, const char* op, const char* name);

}  // namespace ek
#endif
