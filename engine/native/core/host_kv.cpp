#include "host_kv.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace ek {

HostKv::HostKv(const ek_kv_params& p)
    : params(p),
      row_dim(p.latent_dim + 2 * p.rope_dim),
      pooled_dim(p.latent_dim + p.rope_dim),
      n_pooled(p.cmp_len == 0 ? 0 : EK_KV_BLOCK / p.cmp_stride),
      element(p.type == EK_F32 ? 4 : 2) {
  row_elements_ = static_cast<size_t>(row_dim) * EK_KV_BLOCK;
  const size_t used = row_elements_ + static_cast<size_t>(pooled_dim + p.latent_dim) * n_pooled;
  block_elements_ = (used + 31) / 32 * 32; /* blocks start at cache lines */
  n_bytes_ = block_elements_ * element * p.n_blocks * p.n_layers;
  void* address =
      mmap(nullptr, n_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<uint8_t*>(address);
}

HostKv::~HostKv() { munmap(base_, n_bytes_); }

void HostKv::copy_block(int32_t dst, int32_t src) {
  if (dst == src) return;
  for (int32_t layer = 0; layer < params.n_layers; layer++) {
    std::memcpy(rows(layer, dst), rows(layer, src), block_elements_ * element);
  }
}

}  // namespace ek
