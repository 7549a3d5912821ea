/* What routing of long and of short runs shares: the choice of a token's experts, and the tiles of pairs. */
#ifndef EK_CUDA_PREFILL_ROUTE_CUH
#define EK_CUDA_PREFILL_ROUTE_CUH
#include "kernels.h"
#include "tile.cuh"

namespace ek::cuda {

constexpr int kMostExperts = 256;

/* A float as an integer of the same order; NaN becomes the least. */
__device__ inline uint32_t ordered(float x) {
  const uint32_t bits = __float_as_uint(x);
  return x != x ? 0 : bits >> 31 == 0 ? bits | 0x80000000u : ~bits;
}

/* The top_k largest of n logits, ties to the lowest index, with their probabilities. A warp calls. */
__device__ inline void choose_by_warp(const float* logit, int32_t n, int32_t top_k, int32_t* experts,
                                      float* weights, int lane) {
  constexpr int kOwn = kMostExperts / kWarp;
  uint32_t key[kOwn] = {}; /* 0: chosen, or none */
  float top = -INFINITY, total = 0;
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    if (i * kWarp >= n) break;
    const float own = i * kWarp + lane < n ? logit[i * kWarp + lane] : -INFINITY;
    key[i] = i * kWarp + lane < n ? max(ordered(own), 1u) : 0;
    top = fmaxf(top, own);
  }
  top = warp_max(top);
  for (int32_t i = lane; i < n; i += kWarp) total += expf(logit[i] - top);
  total = warp_sum(total);
  for (int32_t k = 0; k < top_k; k++) {
    uint32_t most = 0;
#pragma unroll
    for (int i = 0; i < kOwn; i++) most = max(most, key[i]);
    most = __reduce_max_sync(0xffffffffu, most);
    int32_t chosen = -1;
#pragma unroll
    for (int i = 0; i < kOwn; i++) {
      if (i * kWarp >= n) break;
      const uint32_t has = __ballot_sync(0xffffffffu, key[i] == most);
      if (chosen >= 0 || has == 0) continue;
      chosen = i * kWarp + 31 - __clz(static_cast<int>(has & -has));
      if (chosen % kWarp == lane) key[i] = 0;
    }
    if (lane == 0) experts[k] = chosen;
  }
  __syncwarp();
  for (int32_t k = lane; k < top_k; k += kWarp) weights[k] = expf(logit[experts[k]] - top) / total;
}

/* The sum of the counts of the lanes before, and of the warp. */
struct WarpCounts {
  int before, all;
};
__device__ inline WarpCounts counts_before(int own, int lane) {
  int sum = own;
#pragma unroll
  for (int by = 1; by < kWarp; by *= 2) {
    const int below = __shfl_up_sync(0xffffffffu, sum, by);
    if (lane >= by) sum += below;
  }
  return {sum - own, __shfl_sync(0xffffffffu, sum, kWarp - 1)};
}

/* Plans the tiles of the grouped products from the counts of the experts; offset[e]: the first slot of each.
 * The block's first warp calls, a lane for eight experts. */
__device__ inline void plan_tiles(const ChunkBuffers& b, const int32_t* count, int32_t* offset,
                                  int32_t n_experts, int32_t tile_rows) {
  constexpr int kOwn = kMostExperts / kWarp;
  const int lane = threadIdx.x;
  int32_t own[kOwn], tiles[kOwn], n = 0, n_tiles = 0;
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const int32_t e = lane * kOwn + i;
    own[i] = e < n_experts ? count[e] : 0;
    tiles[i] = (own[i] + tile_rows - 1) / tile_rows;
    n += own[i];
    n_tiles += tiles[i];
  }
  int32_t first = counts_before(n, lane).before;
  const WarpCounts all_tiles = counts_before(n_tiles, lane);
  int32_t tile = all_tiles.before;
  if (lane == 0) *b.n_tiles = all_tiles.all;
#pragma unroll
  for (int i = 0; i < kOwn; i++) {
    const int32_t e = lane * kOwn + i;
    if (e < n_experts) offset[e] = first;
    for (int32_t t = 0; t < tiles[i]; t++, tile++) {
      b.tile_expert[tile] = e;
      b.tile_first[tile] = first + t * tile_rows;
      b.tile_end[tile] = first + own[i];
    }
    first += own[i];
  }
}

}  // namespace ek::cuda
#endif
