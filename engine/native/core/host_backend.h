/* What the reference and the CPU backend share: plain memory and the cache in it. */
#ifndef EK_CORE_HOST_BACKEND_H
#define EK_CORE_HOST_BACKEND_H
#include <cstring>
#include <new>

#include "backend.h"
#include "host_kv.h"

namespace ek {

class HostBackend : public Backend {
 public:
  void* alloc(size_t n_bytes) override { return ::operator new(n_bytes, std::align_val_t(64)); }
  void free(void* data) override { ::operator delete(data, std::align_val_t(64)); }
  void upload(void* dst, const void* src, size_t n_bytes) override { std::memcpy(dst, src, n_bytes); }
  void download(void* dst, const void* src, size_t n_bytes) override { std::memcpy(dst, src, n_bytes); }

  std::unique_ptr<Storage> make_kv(const ek_kv_params& params, size_t* n_bytes) override {
    auto kv = std::make_unique<HostKv>(params);
    *n_bytes = kv->n_bytes();
    return kv;
  }
  void copy_block(ek_kv_cache& kv, int32_t dst, int32_t src) override {
    static_cast<HostKv&>(*kv.storage).copy_block(dst, src);
  }
  void prepare_batch(ek_batch&) override {}
  void gather_rows(float* out, const float* x, const int32_t* rows, int32_t n_rows, int32_t dim) override {
    for (int32_t i = 0; i < n_rows; i++) {
      std::memmove(out + static_cast<size_t>(i) * dim, x + static_cast<size_t>(rows[i]) * dim,
                   sizeof(float) * dim);
    }
  }
  void concat(float* out, const float* a, const float* b, int32_t n_rows, int32_t dim) override {
    for (size_t r = 0; r < static_cast<size_t>(n_rows); r++) {
      std::memcpy(out + 2 * r * dim, a + r * dim, sizeof(float) * dim);
      std::memcpy(out + (2 * r + 1) * dim, b + r * dim, sizeof(float) * dim);
    }
  }
  void synchronise() override {}
};

inline const HostKv& host_kv(const ek_kv_cache& kv) { return static_cast<const HostKv&>(*kv.storage); }

}  // namespace ek
#endif
