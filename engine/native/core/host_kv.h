/* The cache of the host backends: pages reserved by mmap, touched when a block is first written.
 *
 * Per layer and block, elements of f32 or f16:
 *   rows     (latent + 2 rope, 64): [c | rotated k | k], token innermost, so that kernels read 64 tokens of
 * one channel pooled k (latent + rope, P):    row innermost, P = 64 / cmp_stride pooled rows pooled v (P,
 * latent) Pooled row i covers tokens d*i .. d*i + l - 1 and lies in the block of its last token, slot (last
 * mod 64) / d. */
#ifndef EK_CORE_HOST_KV_H
#define EK_CORE_HOST_KV_H
#include <cmath>

#include "backend.h"
#include "f16.h"

namespace ek {

/* Where one pooled row lies. */
struct PooledSlot {
  int32_t seq_block; /* index into the sequence's block list */
  int32_t slot;
};

class HostKv : public Storage {
 public:
  explicit HostKv(const ek_kv_params& params);
  ~HostKv() override;
  HostKv(const HostKv&) = delete;
  HostKv& operator=(const HostKv&) = delete;

  const ek_kv_params params;
  const int32_t row_dim;    /* latent + 2 rope */
  const int32_t pooled_dim; /* latent + rope */
  const int32_t n_pooled;   /* pooled rows per block */
  const size_t element;     /* bytes */

  size_t n_bytes() const { return n_bytes_; }
  /* Address of the rows, pooled keys or pooled values of a block. */
  void* rows(int32_t layer, int32_t block) const { return at(layer, block, 0); }
  void* pooled_k(int32_t layer, int32_t block) const { return at(layer, block, row_elements_); }
  void* pooled_v(int32_t layer, int32_t block) const {
    return at(layer, block, row_elements_ + static_cast<size_t>(pooled_dim) * n_pooled);
  }
  float load(const void* base, size_t index) const {
    return element == 4 ? static_cast<const float*>(base)[index]
                        : f16_to_f32(static_cast<const f16*>(base)[index]);
  }
  void store(void* base, size_t index, float value) const {
    if (element == 4) {
      static_cast<float*>(base)[index] = value;
    } else {
      static_cast<f16*>(base)[index] = f32_to_f16(value);
    }
  }
  PooledSlot pooled_slot(int32_t index) const {
    const int32_t last = params.cmp_stride * index + params.cmp_len - 1;
    return {last / EK_KV_BLOCK, last % EK_KV_BLOCK / params.cmp_stride};
  }
  /* Pooled rows that position t may see. */
  int32_t n_visible(int32_t t) const {
    return params.cmp_len == 0 || t + 1 < params.cmp_len ? 0
                                                         : (t + 1 - params.cmp_len) / params.cmp_stride + 1;
  }
  void copy_block(int32_t dst, int32_t src);

 private:
  void* at(int32_t layer, int32_t block, size_t offset) const {
    const size_t index = static_cast<size_t>(layer) * params.n_blocks + block;
    return base_ + (index * block_elements_ + offset) * element;
  }
  size_t row_elements_, block_elements_, n_bytes_;
  uint8_t* base_;
};

/* Turns the pairs (2i, 2i+1) of row (2 n_pairs) to position `position`. The angle is a float product, as in
 * PyTorch. */
template <class T>
void rotate_row(T* row, const float* inv_freq, int32_t n_pairs, int32_t position) {
  for (int32_t i = 0; i < n_pairs; i++) {
    const double angle = static_cast<float>(position) * inv_freq[i];
    const T c = static_cast<T>(std::cos(angle)), s = static_cast<T>(std::sin(angle));
    const T even = row[2 * i], odd = row[2 * i + 1];
    row[2 * i] = even * c - odd * s;
    row[2 * i + 1] = even * s + odd * c;
  }
}

}  // namespace ek
#endif
