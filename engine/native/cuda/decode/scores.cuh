/* Scores of the 16 heads' queries with 64 rows in shared memory, for attention and for block selection. */
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
  const uint32_t* upper = reinterpret_cast<const uint32_t*>(query + g * kPitch) + t;
  const uint32_t* lower = reinterpret_cast<const uint32_t*>(query + (g + 8) * kPitch) + t;
  const uint32_t* row = reinterpret_cast<const uint32_t*>(tile + (first + g) * kPitch) + t;
  float even[4] = {}, odd[4] = {};
#pragma unroll 6
  for (int k = begin / 2; k < end / 2; k += 16) {
    mma_bf16(even, upper[k], lower[k], upper[k + 4], lower[k + 4], row[k], row[k + 4]);
    mma_bf16(odd, upper[k + 8], lower[k + 8], upper[k + 12], lower[k + 12], row[k + 8], row[k + 12]);
  }
  float* to = score + g * kSPitch + first + 2 * t;
  to[0] = even[0] + odd[0];
  to[1] = even[1] + odd[1];
  to[8 * kSPitch] = even[2] + odd[2];
  to[8 * kSPitch + 1] = even[3] + odd[3];
}

/* Scores of a whole tile: warp w has rows 8 w to 8 w + 7. */
__device__ inline void score_tile(float* score, const __nv_bfloat16* query, const __nv_bfloat16* tile) {
  score_rows(score, query, tile, threadIdx.x / kWarp * 8, 0, kRow);
}

}  // namespace ek::cuda
#endif
