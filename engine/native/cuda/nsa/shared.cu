/* Where the tokens of a tile share a choice (NsaRule::sharing), they attend to its blocks as to any others.
 * The window holds the last blocks, which are selected as well: they are attended to once and first, what
 * they leave is kept, and the rest of the window adds to it; then come the other selected ones, and the
 * branches are put together. */
#include "queries.cuh"

namespace ek::cuda {

namespace {

/* Blocks from the last one of a tile down, n_near of them, and then those of a list. */
struct SharedBlocks {
  const int32_t* list; /* shared memory */
  int32_t last, n_near;

  __device__ int32_t block(int32_t entry) const {
    return entry < n_near ? last - entry : list[entry - n_near];
  }
  __device__ int32_t at(int32_t entry) const { return block(entry) * kBlockRows; }
  __device__ BlockPlace place(int32_t entry) const { return {at(entry), at(entry)}; }
  __device__ bool counts(int32_t, int32_t) const { return true; }
};

/* Listed blocks lie before all queries of the tile: nothing is hidden. */
struct AllRows {
  __device__ int32_t begin(int32_t) const { return 0; }
  __device__ int32_t end(int32_t) const { return INT32_MAX; }
};
template <class P>
__device__ TeamSeen team_seen(const AllRows&, const QueryTile<P>&) {
  return {INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX};
}

/* Keeps what the tile's queries have of the last blocks where their results will be. */
template <class P>
__device__ void keep_local(const PrefillQueries& q, const QueryTile<P>& tile, const QuerySums<P>& sums,
                           PartSums* local) {
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    const float total = joined_total(sums.total[r / 2][r % 2]);
    if (!tile.is_new(tile.position(r))) continue;
    store_by_lanes(q.out + tile.row(r) * kValue, sums, r, 1.0f);
    if (threadIdx.x % 4 == 0) local[tile.row(r)] = {sums.top[r / 2][r % 2], total};
  }
}

/* branch += the gated window, in place. */
template <class P>
__device__ void add_window(const PrefillQueries& q, const QueryTile<P>& tile, QuerySums<P>& sums,
                           __nv_bfloat16* branch) {
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    if (!tile.is_new(tile.position(r))) continue;
    __nv_bfloat16* row = branch + tile.row(r) * kValue;
    scale_query(sums, r, gate_over_total(q, tile, sums, r, 2));
    add_by_lanes(sums, r, row, 1.0f);
    store_by_lanes(row, sums, r, 1.0f);
  }
}

/* out = the selected branch, of what `sums`, joined, and the last blocks leave, gated, + branch. */
template <class P>
__device__ void put_together(const PrefillQueries& q, const QueryTile<P>& tile, QuerySums<P>& sums,
                             const PartSums* local, const __nv_bfloat16* branch) {
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    if (!tile.is_new(tile.position(r))) continue;
    const PartSums other = local[tile.row(r)];
    float& total = sums.total[r / 2][r % 2];
    const float own_top = sums.top[r / 2][r % 2], top = fmaxf(own_top, other.top);
    const float own = exp2_approx(own_top - top), of_other = exp2_approx(other.top - top);
    const float gate = sigmoid(q.gates[tile.row(r) * 3 + 1]) / fmaf(own, total, of_other * other.total);
    scale_query(sums, r, gate * own);
    add_by_lanes(sums, r, q.out + tile.row(r) * kValue, gate * of_other);
    add_by_lanes(sums, r, branch + tile.row(r) * kValue, 1.0f);
    total = 1;
  }
  __syncwarp(); /* nobody needs what was kept */
  store_values(q.out, sums, tile);
}

/* lists: (tiles of the prompt, selected). grid (tiles, heads) */
template <class P>
__global__ void __launch_bounds__(QueryTile<P>::kThreads, 2)
    attend_shared_kernel(PrefillQueries q, ExpandedRows rows, NsaRule rule, const int32_t* lists,
                         PartSums* local, __nv_bfloat16* branch) {
  __shared__ int32_t list[kMostSelected];
  const ExpandedShared s = expanded_shared<P>();
  const QueryTile<P> tile = tile_of_block<P>(q.first, q.end);
  load_queries(s, q.query, tile);
  /* Of the tile's first token, whose last blocks end its list. */
  const int32_t chooser = tile.at / kBlockRows, n_local = min(rule.local, chooser + 1),
                n_listed = rule.n_selected(tile.at) - n_local;
  const int32_t thread = static_cast<int32_t>(threadIdx.x);
  /* Complete behind the barriers of the last blocks, which are not listed. */
  if (thread < n_listed) list[thread] = lists[tile.at / kTileQueries * rule.selected + thread];
  const int32_t last = tile.last(), own = last / kBlockRows, since = max(tile.at, q.first);
  const SharedBlocks blocks{list, own, own - rule.window_begin(since) / kBlockRows + 1};
  const int32_t n_all = blocks.n_near + n_listed, first_local = chooser + 1 - n_local;
  QuerySums<P> sums;
  clear(sums);
  attend_blocks(s, rows, blocks, {0, blocks.n_near, n_all}, last + 1, tile, WindowBefore{rule}, sums,
                IgnoreWeights{}, [&](int32_t entry) {
                  if (blocks.block(entry) == first_local) keep_local(q, tile, sums, local);
                });
  join_totals(sums);
  add_window(q, tile, sums, branch);
  clear(sums);
  attend_blocks(s, rows, blocks, {blocks.n_near, n_all, n_all}, last + 1, tile, AllRows{}, sums);
  join_totals(sums);
  put_together(q, tile, sums, local, branch);
}

}  // namespace

void launch_attend_shared(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                          const NsaRule& rule, const int32_t* lists, PartSums* local, __nv_bfloat16* branch) {
  with_products([&]<class P>(P) {
    launch(stream, "attend_shared",
           {{n_tiles_of(q.first, q.end), kHeads}, QueryTile<P>::kThreads, kExpandedShared<P>},
           attend_shared_kernel<P>, q, rows, rule, lists, local, branch);
  });
}

}  // namespace ek::cuda
