/* What every query attends to whatever it chose: the window, and the forced blocks. The window holds the last
 * blocks, which are forced as well: they are attended to once and first, what they leave is stored, and the
 * rest of the window adds to it. So blocks come in descending order, each once for all queries of a tile,
 * whose last blocks are not the same. */
#include "queries.cuh"

namespace ek::cuda {

namespace {

/* Blocks from the last one of a tile down, n_near of them, and then the first ones, of which a team leaves
 * out what is local for its queries. */
struct NearBlocks {
  int32_t last, n_near, n_local;

  __device__ int32_t block(int32_t entry) const { return entry < n_near ? last - entry : entry - n_near; }
  __device__ int32_t at(int32_t entry) const { return block(entry) * kBlockRows; }
  __device__ BlockPlace place(int32_t entry) const { return {at(entry), at(entry)}; }
  __device__ bool counts(int32_t entry, int32_t of) const {
    return entry < n_near || entry - n_near <= of - n_local;
  }
};

/* Stores what the tile's queries have of forced blocks. */
template <class P>
__device__ void store_forced(const SelectedParts& parts, const QueryTile<P>& tile, const QuerySums<P>& sums,
                             int slot) {
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    const float total = joined_total(sums.total[r / 2][r % 2]);
    const bool exists = tile.is_new(tile.position(r));
    const size_t at = static_cast<size_t>(exists ? tile.position(r) - tile.first : 0) * parts.n + slot;
    store_query_part(parts, at, tile.head, sums, r, total, exists);
  }
}

/* q: a group, window: (n, heads, value). grid (tiles, heads) */
template <class P>
__global__ void __launch_bounds__(QueryTile<P>::kThreads, 2)
    attend_near_kernel(PrefillQueries q, ExpandedRows rows, NsaRule rule, SelectedParts parts,
                       __nv_bfloat16* window) {
  const ExpandedShared s = expanded_shared<P>();
  const QueryTile<P> tile = tile_of_block<P>(q.first, q.end);
  load_queries(s, q.query, tile);
  const int32_t last = tile.last(), own = last / kBlockRows, since = max(tile.at, q.first);
  const NearBlocks near{own, own - rule.window_begin(since) / kBlockRows + 1, rule.local};
  const int32_t n_all = near.n_near + min(rule.initial, own + 1);
  const int32_t first_local = max(0, tile.team_at() / kBlockRows - rule.local + 1);
  QuerySums<P> sums;
  clear(sums);
  attend_blocks(s, rows, near, {0, near.n_near, n_all}, last + 1, tile, WindowBefore{rule}, sums,
                IgnoreWeights{}, [&](int32_t entry) {
                  if (near.block(entry) == first_local) store_forced(parts, tile, sums, 0);
                });
  join_totals(sums);
  store_branch(window, q, tile, sums, 2);
  clear(sums);
  attend_blocks(s, rows, near, {near.n_near, n_all, n_all}, last + 1, tile, RowsBefore{}, sums);
  store_forced(parts, tile, sums, 1);
}

}  // namespace

void launch_attend_near(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                        const NsaRule& rule, const SelectedParts& parts, __nv_bfloat16* window) {
  with_products([&]<class P>(P) {
    launch(stream, "attend_near",
           {{n_tiles_of(q.first, q.end), kHeads}, QueryTile<P>::kThreads, kExpandedShared<P>},
           attend_near_kernel<P>, q, rows, rule, parts, window);
  });
}

}  // namespace ek::cuda
