/* Entry points that own things: contexts, buffers, mappings, weights, caches, batches. Ops: abi_ops.cpp. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "../core/quant.h"
#include "context.h"

namespace ek {

namespace {
thread_local std::string last_error;
}

void set_last_error(const char* message) noexcept {
  try {
    last_error = message;
  } catch (const std::bad_alloc&) {
    last_error.clear();
  }
}

void record(ek_context& ctx, const char* op, double ns, double bytes, double flops) {
  for (ek_op_profile& entry : ctx.profile) {
    if (std::strcmp(entry.op, op) == 0) {
      entry.n_calls++;
      entry.ns += ns;
      entry.bytes += bytes;
      entry.flops += flops;
      return;
    }
  }
  ctx.profile.push_back({op, 1, ns, bytes, flops});
}

float* require_floats(const ek_context* ctx, const ek_buffer* buffer, int64_t first_row, int64_t n_rows,
                      int64_t n_cols, const char* op, const char* name) {
  require_handle(ctx, buffer, op, name);
  EK_REQUIRE(first_row >= 0 && n_rows > 0 && n_cols > 0,
             "%s: %s needs positive sizes, got rows %lld+%lld, columns %lld", op, name,
             static_cast<long long>(first_row), static_cast<long long>(n_rows),
             static_cast<long long>(n_cols));
  const double needed = 4.0 * static_cast<double>(first_row + n_rows) * static_cast<double>(n_cols);
  EK_REQUIRE(needed <= static_cast<double>(buffer->n_bytes), "%s: %s needs %.0f bytes, its buffer has %zu",
             op, name, needed, buffer->n_bytes);
  return static_cast<float*>(buffer->data) + first_row * n_cols;
}

void require_weight(const ek_context* ctx, const ek_weight* w, int32_t n_matrices, int32_t n_rows,
                    int32_t n_cols, const char* op, const char* name) {
  require_handle(ctx, w, op, name);
  EK_REQUIRE(w->shape.n_matrices == n_matrices && w->shape.n_rows == n_rows && w->shape.n_cols == n_cols,
             "%s: %s must be %d x (%d, %d), is %d x (%d, %d)", op, name, n_matrices, n_rows, n_cols,
             w->shape.n_matrices, w->shape.n_rows, w->shape.n_cols);
}

}  // namespace ek

using ek::guarded;
using ek::require_context;
using ek::require_handle;

namespace {

void check_weight_shape(const ek::WeightShape& s, const char* op) {
  EK_REQUIRE(ek::is_known_type(s.type), "%s: type is %d, expected one of ek_type", op,
             static_cast<int>(s.type));
  EK_REQUIRE(s.n_matrices > 0 && s.n_rows > 0 && s.n_cols > 0, "%s: shape %d x (%d, %d) is not positive", op,
             s.n_matrices, s.n_rows, s.n_cols);
  EK_REQUIRE(s.n_cols % ek::block_columns(s.type) == 0,
             "%s: a quantised weight needs columns in multiples of %d, got %d", op, ek::block_columns(s.type),
             s.n_cols);
}

/* data: n_bytes that hold the weight from their beginning. */
void make_weight(ek_context* ctx, const uint8_t* data, size_t n_bytes, const ek::WeightShape& shape,
                 const char* op, ek_weight** out) {
  check_weight_shape(shape, op);
  const double needed =
      static_cast<double>(ek::row_bytes(shape.type, shape.n_cols)) * shape.n_rows * shape.n_matrices;
  EK_REQUIRE(needed <= static_cast<double>(n_bytes), "%s: the weight needs %.0f bytes, %zu are there", op,
             needed, n_bytes);
  *out = new ek_weight{ctx->backend, shape, ctx->backend->make_weight(shape, data)};
}

void check_kv_params(const ek_kv_params& p) {
  EK_REQUIRE(p.n_layers > 0 && p.latent_dim > 0 && p.n_blocks > 0,
             "ek_kv_create: layers %d, latent %d and blocks %d must be positive", p.n_layers, p.latent_dim,
             p.n_blocks);
  EK_REQUIRE(p.latent_dim % 16 == 0, "ek_kv_create: latent_dim must be a multiple of 16, got %d",
             p.latent_dim);
  EK_REQUIRE(p.rope_dim > 0 && p.rope_dim % 2 == 0,
             "ek_kv_create: rope_dim must be even and positive, got %d", p.rope_dim);
  EK_REQUIRE(p.type == EK_F16 || p.type == EK_F32, "ek_kv_create: type must be F16 or F32, got %d",
             static_cast<int>(p.type));
  if (p.cmp_len == 0) return;
  EK_REQUIRE(
      p.cmp_stride > 0 && EK_KV_BLOCK % p.cmp_stride == 0 && p.cmp_len > 0 && p.cmp_len % p.cmp_stride == 0,
      "ek_kv_create: cmp_stride must divide %d and cmp_len, got stride %d, length %d", EK_KV_BLOCK,
      p.cmp_stride, p.cmp_len);
}

void* map_file(const char* path, size_t* n_bytes) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  EK_REQUIRE(file >= 0, "ek_mapping_open: cannot open %s: %s", path, std::strerror(errno));
  struct stat info;
  const bool known = fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0;
  *n_bytes = known ? static_cast<size_t>(info.st_size) : 0;
  void* address = known ? mmap(nullptr, *n_bytes, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  close(file);
  EK_REQUIRE(known, "ek_mapping_open: %s is not a file with content", path);
  if (address == MAP_FAILED) throw ek::DeviceError(ek::format("ek_mapping_open: cannot map %s", path));
  return address;
}

}  // namespace

extern "C" {

uint32_t ek_abi_version(void) { return EK_ABI_VERSION; }
const char* ek_last_error(void) { return ek::last_error.c_str(); }

ek_status ek_context_create(ek_device device, int32_t ordinal, int32_t n_threads, const char* isa,
                            ek_context** out) {
  return guarded([&] {
    EK_REQUIRE(out != nullptr, "ek_context_create: out is NULL");
    EK_REQUIRE(n_threads >= 0 && n_threads <= 256, "ek_context_create: n_threads must be 0 to 256, got %d",
               n_threads);
    std::shared_ptr<ek::Backend> backend;
    if (device == EK_CPU) {
      EK_REQUIRE(ordinal == 0, "ek_context_create: the CPU has ordinal 0, got %d", ordinal);
      backend = ek::make_cpu_backend(n_threads, isa);
    } else if (device == EK_REFERENCE) {
      backend = ek::make_reference_backend();
    } else if (device == EK_CUDA) {
      backend = ek::make_cuda_backend(ordinal);
    } else {
      throw ek::ArgError(
          ek::format("ek_context_create: device must be 0 to 2, got %d", static_cast<int>(device)));
    }
    std::string description = backend->describe();
    *out = new ek_context{std::move(backend), std::move(description), false, {}};
  });
}

void ek_context_destroy(ek_context* ctx) { delete ctx; }
const char* ek_context_describe(ek_context* ctx) { return ctx == nullptr ? "" : ctx->description.c_str(); }

ek_status ek_device_memory(ek_context* ctx, size_t* free_bytes, size_t* total_bytes) {
  return guarded([&] {
    require_context(ctx, "ek_device_memory");
    EK_REQUIRE(free_bytes != nullptr && total_bytes != nullptr, "ek_device_memory: an output is NULL");
    *free_bytes = *total_bytes = 0;
    ctx->backend->device_memory(free_bytes, total_bytes);
  });
}

ek_status ek_buffer_alloc(ek_context* ctx, size_t n_bytes, ek_buffer** out) {
  return guarded([&] {
    require_context(ctx, "ek_buffer_alloc");
    EK_REQUIRE(out != nullptr, "ek_buffer_alloc: out is NULL");
    EK_REQUIRE(n_bytes > 0, "ek_buffer_alloc: n_bytes is 0");
    if (n_bytes > (size_t{1} << 46)) throw std::bad_alloc();
    auto buffer = std::make_unique<ek_buffer>(ek_buffer{ctx->backend, nullptr, n_bytes});
    buffer->data = ctx->backend->alloc(n_bytes);
    *out = buffer.release();
  });
}

void ek_buffer_free(ek_buffer* buffer) {
  if (buffer == nullptr) return;
  buffer->backend->free(buffer->data);
  delete buffer;
}

ek_status ek_buffer_upload(ek_context* ctx, ek_buffer* dst, size_t offset, const void* src, size_t n_bytes) {
  return guarded([&] {
    require_context(ctx, "ek_buffer_upload");
    require_handle(ctx, dst, "ek_buffer_upload", "dst");
    EK_REQUIRE(src != nullptr || n_bytes == 0, "ek_buffer_upload: src is NULL");
    EK_REQUIRE(offset <= dst->n_bytes && n_bytes <= dst->n_bytes - offset,
               "ek_buffer_upload: %zu bytes at %zu do not fit into %zu", n_bytes, offset, dst->n_bytes);
    if (n_bytes > 0) ctx->backend->upload(static_cast<uint8_t*>(dst->data) + offset, src, n_bytes);
  });
}

ek_status ek_buffer_download(ek_context* ctx, void* dst, const ek_buffer* src, size_t offset,
                             size_t n_bytes) {
  return guarded([&] {
    require_context(ctx, "ek_buffer_download");
    require_handle(ctx, src, "ek_buffer_download", "src");
    EK_REQUIRE(dst != nullptr || n_bytes == 0, "ek_buffer_download: dst is NULL");
    EK_REQUIRE(offset <= src->n_bytes && n_bytes <= src->n_bytes - offset,
               "ek_buffer_download: %zu bytes at %zu are not in %zu", n_bytes, offset, src->n_bytes);
    if (n_bytes > 0) ctx->backend->download(dst, static_cast<const uint8_t*>(src->data) + offset, n_bytes);
  });
}

ek_status ek_mapping_open(const char* path, ek_mapping** out, size_t* n_bytes) {
  return guarded([&] {
    EK_REQUIRE(path != nullptr && out != nullptr && n_bytes != nullptr,
               "ek_mapping_open: an argument is NULL");
    auto mapping = std::make_unique<ek_mapping>();
    mapping->data = static_cast<const uint8_t*>(map_file(path, &mapping->n_bytes));
    *n_bytes = mapping->n_bytes;
    *out = mapping.release();
  });
}

void ek_mapping_close(ek_mapping* mapping) {
  if (mapping == nullptr) return;
  munmap(const_cast<uint8_t*>(mapping->data), mapping->n_bytes);
  delete mapping;
}

ek_status ek_weight_create(ek_context* ctx, const ek_mapping* mapping, size_t offset, ek_type type,
                           int32_t n_matrices, int32_t n_rows, int32_t n_cols, ek_weight** out) {
  return guarded([&] {
    require_context(ctx, "ek_weight_create");
    EK_REQUIRE(mapping != nullptr && out != nullptr, "ek_weight_create: mapping or out is NULL");
    EK_REQUIRE(offset <= mapping->n_bytes, "ek_weight_create: offset %zu is behind the mapping's %zu bytes",
               offset, mapping->n_bytes);
    make_weight(ctx, mapping->data + offset, mapping->n_bytes - offset, {type, n_matrices, n_rows, n_cols},
                "ek_weight_create", out);
  });
}

ek_status ek_weight_create_from_memory(ek_context* ctx, const void* data, size_t n_bytes, ek_type type,
                                       int32_t n_matrices, int32_t n_rows, int32_t n_cols, ek_weight** out) {
  return guarded([&] {
    require_context(ctx, "ek_weight_create_from_memory");
    EK_REQUIRE(data != nullptr && out != nullptr, "ek_weight_create_from_memory: data or out is NULL");
    make_weight(ctx, static_cast<const uint8_t*>(data), n_bytes, {type, n_matrices, n_rows, n_cols},
                "ek_weight_create_from_memory", out);
  });
}

void ek_weight_destroy(ek_weight* weight) { delete weight; }

ek_status ek_rope_create(ek_context* ctx, const float* inv_freq, int32_t dim, ek_rope** out) {
  return guarded([&] {
    require_context(ctx, "ek_rope_create");
    EK_REQUIRE(inv_freq != nullptr && out != nullptr, "ek_rope_create: inv_freq or out is NULL");
    EK_REQUIRE(dim > 0 && dim % 2 == 0, "ek_rope_create: dim must be even and positive, got %d", dim);
    *out = new ek_rope{ctx->backend, std::vector<float>(inv_freq, inv_freq + dim / 2)};
  });
}

void ek_rope_destroy(ek_rope* rope) { delete rope; }

ek_status ek_kv_create(ek_context* ctx, const ek_kv_params* params, ek_kv_cache** out) {
  return guarded([&] {
    require_context(ctx, "ek_kv_create");
    EK_REQUIRE(params != nullptr && out != nullptr, "ek_kv_create: params or out is NULL");
    check_kv_params(*params);
    auto kv = std::make_unique<ek_kv_cache>(ek_kv_cache{ctx->backend, *params, 0, nullptr});
    kv->storage = ctx->backend->make_kv(*params, &kv->n_bytes);
    *out = kv.release();
  });
}

void ek_kv_destroy(ek_kv_cache* kv) { delete kv; }
size_t ek_kv_bytes(const ek_kv_cache* kv) { return kv == nullptr ? 0 : kv->n_bytes; }

ek_status ek_kv_copy_block(ek_context* ctx, ek_kv_cache* kv, int32_t dst_block, int32_t src_block) {
  return guarded([&] {
    require_context(ctx, "ek_kv_copy_block");
    require_handle(ctx, kv, "ek_kv_copy_block", "kv");
    const int32_t n = kv->params.n_blocks;
    EK_REQUIRE(dst_block >= 0 && dst_block < n && src_block >= 0 && src_block < n,
               "ek_kv_copy_block: blocks must be 0 to %d, got %d and %d", n - 1, dst_block, src_block);
    ctx->backend->copy_block(*kv, dst_block, src_block);
  });
}

void ek_profile_reset(ek_context* ctx) {
  if (ctx == nullptr) return;
  ctx->profiling = true;
  ctx->profile.clear();
}

int32_t ek_profile_read(ek_context* ctx, ek_op_profile* out, int32_t capacity) {
  if (ctx == nullptr || out == nullptr) return 0;
  int32_t n = 0;
  for (const ek_op_profile& entry : ctx->profile) {
    if (n < capacity) out[n++] = entry;
  }
  return n;
}

ek_status ek_measure_limits(ek_context* ctx, size_t n_bytes, double* gb_per_s, double* gflop_per_s) {
  return guarded([&] {
    require_context(ctx, "ek_measure_limits");
    EK_REQUIRE(gb_per_s != nullptr && gflop_per_s != nullptr, "ek_measure_limits: an output is NULL");
    EK_REQUIRE(n_bytes >= 4096 && n_bytes <= (size_t{1} << 34),
               "ek_measure_limits: n_bytes must be 4096 to 2^34, got %zu", n_bytes);
    ctx->backend->measure_limits(n_bytes, gb_per_s, gflop_per_s);
  });
}

ek_status ek_measure_matrix_rate(ek_context* ctx, double* tflop_per_s) {
  return guarded([&] {
    require_context(ctx, "ek_measure_matrix_rate");
    EK_REQUIRE(tflop_per_s != nullptr, "ek_measure_matrix_rate: the output is NULL");
    *tflop_per_s = ctx->backend->measure_matrix_rate();
  });
}

ek_status ek_measure_attention(ek_context* ctx, int32_t n_tokens, int32_t batch, int32_t rounds,
                               ek_attention_times* out) {
  return guarded([&] {
    require_context(ctx, "ek_measure_attention");
    EK_REQUIRE(out != nullptr, "ek_measure_attention: the output is NULL");
    *out = ctx->backend->measure_attention(n_tokens, batch, rounds);
  });
}

}  // extern "C"
