/* Rows of values in the order of the lanes that have them: what store_by_lanes (expanded.cuh) stored. */
#ifndef EK_CUDA_PREFILL_LANE_ROWS_CUH
#define EK_CUDA_PREFILL_LANE_ROWS_CUH
#include <cuda_bf16.h>

#include "../decode/shape.h"
#include "../device/ptx.cuh"

namespace ek::cuda {

/* Calls add(i, v) with the lane's i-th of kValue / 4 numbers of a row. */
template <class Add>
__device__ void visit_by_lanes(const __nv_bfloat16* row, Add&& add) {
  const uint4* from = reinterpret_cast<const uint4*>(row) + threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < kValue / 32; i++) {
    const uint4 four = from[i * 4];
    const uint32_t word[4] = {four.x, four.y, four.z, four.w};
    for (int n = 0; n < 4; n++) {
      add(8 * i + 2 * n, bf16_value(word[n] & 0xffff));
      add(8 * i + 2 * n + 1, bf16_value(word[n] >> 16));
    }
  }
}

}  // namespace ek::cuda
#endif
