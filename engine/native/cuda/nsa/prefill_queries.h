/* A run of new tokens whose attention is asked for. */
#ifndef EK_CUDA_NSA_PREFILL_QUERIES_H
#define EK_CUDA_NSA_PREFILL_QUERIES_H
#include <cuda_bf16.h>

#include <cstdint>

namespace ek::cuda {

/* The tokens at positions [first, end). */
struct PrefillQueries {
  const __nv_bfloat16* query; /* (n, heads, nope + rope) scaled and rotated */
  const float* gates;         /* (n, heads, 3) before the sigmoid: pooled, selected, window */
  __nv_bfloat16* out;         /* (n, heads, value) */
  int32_t first, end;
};

}  // namespace ek::cuda
#endif
