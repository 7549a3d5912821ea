/* The cache and a step's batch as kernels see them. */
#ifndef EK_CUDA_DEVICE_KV_H
#define EK_CUDA_DEVICE_KV_H
#include <cstddef>
#include <cstdint>

#include "engine_kernels.h"
#include "host_device.h"

namespace ek::cuda {

/* Per layer and block of 64 tokens, elements of f16 or f32, token-major:
 *   rows      (64, latent + 2 rope): [c | rotated k | k]
 *   pooled k  (P, latent + rope)     P = 64 / cmp_stride
 *   pooled v  (P, latent)
 * Pooled row i covers tokens d i .. d i + l - 1 and lies in the block of its last token, slot (last % 64) /
 * d. */
struct KvView {
  void* base;
  size_t layer_elements, block_elements; /* distance of layers and of blocks */
  size_t pooled_k_at, pooled_v_at;       /* within a block */
  int32_t latent, rope, cmp_len, cmp_stride;
  bool is_f32;

  EK_HD int32_t row_dim() const { return latent + 2 * rope; }
  EK_HD int32_t pooled_dim() const { return latent + rope; }
  /* Element index of a block's beginning; row `i` of the block is at + i * row_dim(). */
  EK_HD size_t block_at(int32_t layer, int32_t block) const {
    return layer * layer_elements + block * block_elements;
  }
  /* Pooled rows that position t sees. */
  EK_HD int32_t n_visible(int32_t t) const {
    return cmp_len == 0 || t + 1 < cmp_len ? 0 : (t + 1 - cmp_len) / cmp_stride + 1;
  }
};

struct DeviceSequence {
  int32_t start, n_new, first_row;
  int32_t first_block, n_blocks; /* in BatchView::blocks */
};

struct BatchView {
  const DeviceSequence* sequences;
  const int32_t* blocks;      /* block ids of all sequences, concatenated */
  const int32_t* sequence_of; /* (n_tokens) */
  const float* inv_freq;      /* (rope / 2) */
  int32_t n_tokens, n_sequences;
  int32_t max_position; /* of the new tokens */
};

}  // namespace ek::cuda
#endif
