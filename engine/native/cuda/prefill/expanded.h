/* Cached rows as keys and values of every head. */
#ifndef EK_CUDA_PREFILL_EXPANDED_H
#define EK_CUDA_PREFILL_EXPANDED_H
#include <cuda_bf16.h>

#include <cstdint>

namespace ek::cuda {

/* Rows in device memory: the rotary half of a key is shared by all heads. */
struct ExpandedRows {
  const __nv_bfloat16* keys;   /* (rows, heads, nope) */
  const __nv_bfloat16* rotary; /* (rows, rope), rows `rotary_stride` elements apart */
  const __nv_bfloat16* values; /* (rows, heads, value) */
  int32_t rotary_stride;
};

}  // namespace ek::cuda
#endif
