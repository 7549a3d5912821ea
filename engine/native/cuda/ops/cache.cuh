/* Reading and writing cache elements, which are f32 or f16, and turning rotary pairs. */
#ifndef EK_CUDA_OPS_CACHE_CUH
#define EK_CUDA_OPS_CACHE_CUH
#include <cuda_fp16.h>

#include "ops.h"

namespace ek::cuda {

__device__ inline float load_element(const float* at) { return *at; }
__device__ inline float load_element(const __half* at) { return __half2float(*at); }
__device__ inline void store_element(float* at, float value) { *at = value; }
__device__ inline void store_element(__half* at, float value) { *at = __float2half_rn(value); }

/* The pair (even, odd) turned to `position`; the angle is a float product, as in PyTorch. */
__device__ inline void rotate_pair(float& even, float& odd, float inv_freq, int32_t position) {
  float s, c;
  sincosf(static_cast<float>(position) * inv_freq, &s, &c);
  const float turned = even * c - odd * s;
  odd = even * s + odd * c;
  even = turned;
}

/* Block id that holds position t of a sequence. */
__device__ inline int32_t block_of(const BatchView& batch, const DeviceSequence& seq, int32_t t) {
  return batch.blocks[seq.first_block + t / EK_KV_BLOCK];
}

/* Element index of the cache row of position t. */
__device__ inline size_t row_at(const KvView& kv, int32_t layer, const BatchView& batch,
                                const DeviceSequence& seq, int32_t t) {
  return kv.block_at(layer, block_of(batch, seq, t)) + static_cast<size_t>(t % EK_KV_BLOCK) * kv.row_dim();
}

/* Element index of pooled row i: of its key, or of its value. */
__device__ inline size_t pooled_at(const KvView& kv, int32_t layer, const BatchView& batch,
                                   const DeviceSequence& seq, int32_t i, bool value) {
  const int32_t last = kv.cmp_stride * i + kv.cmp_len - 1, slot = last % EK_KV_BLOCK / kv.cmp_stride;
  const size_t block = kv.block_at(layer, block_of(batch, seq, last));
  return value ? block + kv.pooled_v_at + static_cast<size_t>(slot) * kv.latent
               : block + kv.pooled_k_at + static_cast<size_t>(slot) * kv.pooled_dim();
}

/* The sequence of activation row `row`, and the row's position. */
struct TokenPlace {
  DeviceSequence seq;
  int32_t t;
};
__device__ inline TokenPlace place_of(const BatchView& batch, int32_t row) {
  const DeviceSequence seq = batch.sequences[batch.sequence_of[row]];
  return {seq, seq.start + row - seq.first_row};
}

}  // namespace ek::cuda
#endif
