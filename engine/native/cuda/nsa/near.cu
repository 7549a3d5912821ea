/* What every query attends to whatever it chose: the window, and the forced blocks. */
#include "queries.cuh"

namespace ek::cuda {

namespace {

/* The forced blocks of a tile's queries: the first of all, and then from `first` on those in order, of which
 * a warp leaves out what is not forced for its queries. own: of the last query. */
struct ForcedBlocks {
  NsaRule rule;
  int32_t first, own;

  __device__ int32_t count() const {
    return min(rule.initial, own + 1) + max(0, own - max(rule.initial, first) + 1);
  }
  __device__ int32_t block(int32_t entry) const {
    return entry < rule.initial ? entry : max(rule.initial, first) + entry - rule.initial;
  }
  __device__ int32_t at(int32_t entry) const { return block(entry) * kBlockRows; }
  __device__ BlockPlace place(int32_t entry) const { return {at(entry), at(entry)}; }
  __device__ bool counts(int32_t entry, int32_t of) const { return rule.is_forced(block(entry), of); }
};

/* q: a group, window: (n, heads, value). grid (tiles, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    attend_near_kernel(PrefillQueries q, ExpandedRows rows, NsaRule rule, SelectedParts parts,
                       __nv_bfloat16* window) {
  const ExpandedShared s = expanded_shared();
  const QueryTile tile = tile_of_block(q.first, q.end);
  load_queries(s, q.query, tile);
  const int32_t last = tile.last(), own = last / kBlockRows, since = max(tile.at, q.first);
  QuerySums sums;
  clear(sums);
  const int32_t first = rule.window_begin(since) / kBlockRows;
  attend_blocks(s, rows, BlocksInOrder{first}, own - first + 1, last + 1, tile, WindowBefore{rule}, sums,
                IgnoreWeights{});
  join_totals(sums);
  store_branch(window, q, tile, sums, 2);
  clear(sums);
  const ForcedBlocks forced{rule, since / kBlockRows - rule.local + 1, own};
  attend_blocks(s, rows, forced, forced.count(), last + 1, tile, RowsBefore{}, sums, IgnoreWeights{});
  join_totals(sums);
#pragma unroll
  for (int r = 0; r < 4; r++) {
    if (!tile.is_new(tile.position(r))) continue;
    const size_t row =
        static_cast<size_t>(tile.position(r) - q.first) * parts.n * kHeads + tile.head; /* slot 0 */
    if (threadIdx.x % 4 == 0) parts.sums[row] = {sums.top[r / 2][r % 2], sums.total[r / 2][r % 2]};
    store_by_lanes(parts.values + row * kValue, sums, r, 1);
  }
}

}  // namespace

void launch_attend_near(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                        const NsaRule& rule, const SelectedParts& parts, __nv_bfloat16* window) {
  launch(stream, "attend_near", {{n_tiles_of(q.first, q.end), kHeads}, kQueryThreads, kExpandedShared},
         attend_near_kernel, q, rows, rule, parts, window);
}

}  // namespace ek::cuda
