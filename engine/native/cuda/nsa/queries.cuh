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

/* The lane's query r among rows (n, heads). */
__device__ inline size_t row_of(const PrefillQueries& q, const QueryTile& tile, int r) {
  return static_cast<size_t>(tile.position(r) - q.first) * kHeads + tile.head;
}

/* Weight of a branch of the lane's query r; 0 where it saw nothing. */
__device__ inline float gate_over_total(const PrefillQueries& q, const QueryTile& tile, const QuerySums& sums,
                                        int r, int branch) {
  const float total = sums.total[r / 2][r % 2];
  return total == 0 ? 0.0f : sigmoid(q.gates[row_of(q, tile, r) * 3 + branch]) / total;
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
  return q.out + row_of(q, tile, r) * kValue + threadIdx.x % 4 * 2;
}

/* Stores a gated branch of the tile's queries, in rows (n, heads, value) from the first query of q on. */
__device__ inline void store_branch(__nv_bfloat16* to, const PrefillQueries& q, const QueryTile& tile,
                                    const QuerySums& sums, int branch) {
#pragma unroll
  for (int r = 0; r < 4; r++) {
    if (!is_new(q, tile.position(r))) continue;
    store_by_lanes(to + row_of(q, tile, r) * kValue, sums, r, gate_over_total(q, tile, sums, r, branch));
  }
}

}  // namespace ek::cuda
#endif
