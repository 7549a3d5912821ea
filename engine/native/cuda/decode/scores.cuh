/* Scores of the 16 heads' queries with rows in shared memory, for block selection; attention takes its tiles
 * and its threads from here too. */
#ifndef EK_CUDA_DECODE_SCORES_CUH
#define EK_CUDA_DECODE_SCORES_CUH
#include "kernels.h"

namespace ek::cuda {

constexpr int kTileTokens = 64, kWarps = 8, kThreads = kWarps * kWarp;
/* Rows lie 4 banks apart, so that the 8 rows of a fragment meet all 32 banks. */
constexpr int kPitch = kRow + 8;         /* bf16 */
constexpr int kSPitch = kTileTokens + 4; /* f32, scores */

__device__ inline void load_query(__nv_bfloat16* to, const __nv_bfloat16* query) {
  constexpr int kChunks = kRow / 8;
  for (int i = threadIdx.x; i < kHeads * kChunks; i += kThreads) {
    const int h = i / kChunks, chunk = i % kChunks;
    *reinterpret_cast<uint4*>(to + h * kPitch + chunk * 8) =
        *reinterpret_cast<const uint4*>(query + h * kRow + chunk * 8);
  }
}

/* A warp's scores of rows first to first + 7 of the tile over columns [begin, end), a multiple of 32 wide:
 * score (heads, kSPitch). */
__device__ inline void score_rows(float* score, const __nv_bfloat16* query, const __nv_bfloat16* tile,
                                  int first, int begin, int end) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const __nv_bfloat16* left = query + lane % 16 * kPitch + lane / 16 * 8;
  const __nv_bfloat16* right = tile + (first + lane % 8) * kPitch + lane / 8 * 8;
  float even[4] = {}, odd[4] = {};
#pragma unroll 3
  for (int k = begin; k < end; k += 32) {
    uint32_t a[2][4], b[4];
    load_matrices(a[0], left + k);
    load_matrices(a[1], left + k + 16);
    load_matrices(b, right + k);
    mma_bf16(even, a[0][0], a[0][1], a[0][2], a[0][3], b[0], b[1]);
    mma_bf16(odd, a[1][0], a[1][1], a[1][2], a[1][3], b[2], b[3]);
  }
  float* to = score + g * kSPitch + first + 2 * t;
  to[0] = even[0] + odd[0];
  to[1] = even[1] + odd[1];
  to[8 * kSPitch] = even[2] + odd[2];
  to[8 * kSPitch + 1] = even[3] + odd[3];
}

}  // namespace ek::cuda
#endif
