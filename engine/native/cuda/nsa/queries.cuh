/* Which rows neighbouring queries see in the branches of native sparse attention, and what a block leaves of
 * them. */
#ifndef EK_CUDA_NSA_QUERIES_CUH
#define EK_CUDA_NSA_QUERIES_CUH
#include "../prefill/expanded.cuh"
#include "prefill_kernels.h"

namespace ek::cuda {

/* Ranges as RowsBefore: of pooled rows, and of the window. */
struct PooledBefore {
  __device__ int32_t begin(int32_t) const { return 0; }
  __device__ int32_t end(int32_t position) const { return pooled_visible(position); }
};
struct WindowBefore {
  NsaRule rule;
  __device__ int32_t begin(int32_t position) const { return rule.window_begin(position); }
  __device__ int32_t end(int32_t position) const { return position + 1; }
};

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* Weight of a branch of the lane's query r; 0 where it saw nothing. */
template <class P>
__device__ float gate_over_total(const PrefillQueries& q, const QueryTile<P>& tile, const QuerySums<P>& sums,
                                 int r, int branch) {
  const float total = sums.total[r / 2][r % 2];
  return total == 0 ? 0.0f : sigmoid(q.gates[tile.row(r) * 3 + branch]) / total;
}

/* Stores a gated branch of the tile's queries, in rows (n, heads, value) from the first query of q on. */
template <class P>
__device__ void store_branch(__nv_bfloat16* to, const PrefillQueries& q, const QueryTile<P>& tile,
                             const QuerySums<P>& sums, int branch) {
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    if (!tile.is_new(tile.position(r))) continue;
    store_by_lanes(to + tile.row(r) * kValue, sums, r, gate_over_total(q, tile, sums, r, branch));
  }
}

/* Stores what the lane's query r has as a part of a head. exists: the same in the four lanes of a query;
 * total: joined. All lanes of a warp call. */
template <class P>
__device__ void store_query_part(const SelectedParts& parts, size_t slot, int head, const QuerySums<P>& sums,
                                 int r, float total, bool exists) {
  float v[kLaneValues];
#pragma unroll
  for (int i = 0; i < kLaneValues; i++) v[i] = sums.out[r / 2][i / 2][r % 2 * 2 + i % 2];
  store_part(parts.sums_of(slot, head), parts.words_of(slot, head), v, sums.top[r / 2][r % 2], total, exists);
}

}  // namespace ek::cuda
#endif
