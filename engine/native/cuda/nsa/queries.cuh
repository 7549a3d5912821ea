/* Tiles of neighbouring queries: which a block has, and what it leaves of them. */
#ifndef EK_CUDA_NSA_QUERIES_CUH
#define EK_CUDA_NSA_QUERIES_CUH
#include "expanded.cuh"

namespace ek::cuda {

__device__ inline QueryTile query_tile(const PrefillQueries& q) {
  const int32_t from_end = blockIdx.x;
  return {((q.end - 1) / kTileQueries - from_end) * kTileQueries, static_cast<int32_t>(blockIdx.y)};
}

__device__ inline bool is_new(const PrefillQueries& q, int32_t position) {
  return position >= q.first && position < q.end;
}

/* The last query of the tile. */
__device__ inline int32_t last_of(const PrefillQueries& q, const QueryTile& tile) {
  return min(q.end, tile.at + kTileQueries) - 1;
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* Weight of a branch of the lane's query r; 0 where it saw nothing. */
__device__ inline float gate_over_total(const PrefillQueries& q, const QueryTile& tile, const QuerySums& sums,
                                        int r, int branch) {
  const size_t row = static_cast<size_t>(tile.position(r) - q.first) * kHeads + tile.head;
  const float total = sums.total[r / 2][r % 2];
  return total == 0 ? 0.0f : sigmoid(q.gates[row * 3 + branch]) / total;
}

/* Calls visit(r, i, first, second) for each pair of weighted values of the lane's query r, times factor(r):
 * columns 8 i + 2 (lane % 4) and the next. */
template <class Factor, class Visit>
__device__ void for_each_pair(const QuerySums& sums, Factor&& factor, Visit&& visit) {
#pragma unroll
  for (int r = 0; r < 4; r++) {
    const float f = factor(r);
#pragma unroll
    for (int i = 0; i < kValue / 8; i++)
      visit(r, i, f * sums.out[r / 2][i][r % 2 * 2], f * sums.out[r / 2][i][r % 2 * 2 + 1]);
  }
}

/* Where column 2 (lane % 4) of the lane's query r goes, null of none of the run. */
__device__ inline __nv_bfloat16* out_of(const PrefillQueries& q, const QueryTile& tile, int r) {
  const int32_t position = tile.position(r);
  if (!is_new(q, position)) return nullptr;
  return q.out + (static_cast<size_t>(position - q.first) * kHeads + tile.head) * kValue +
         threadIdx.x % 4 * 2;
}

/* What a thread saves of a tile from one kernel to the next, pair i of query r at saved_at(r, i): threads
 * beside each other, so that all is one address and constants. */
__device__ inline float2* saved_of(float2* saved, const PrefillQueries& q, const QueryTile& tile) {
  const int32_t index = (tile.at / kTileQueries - q.first / kTileQueries) * kHeads + tile.head;
  return saved + static_cast<size_t>(index) * kSavedPairs + threadIdx.x;
}
__device__ inline int saved_at(int r, int i) { return (r * (kValue / 8) + i) * kQueryThreads; }

}  // namespace ek::cuda
#endif
