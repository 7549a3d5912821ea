/* The blocks that queries chose: neighbours choose differently, so a block of the grid has one block of keys
 * and queries that chose it, wherever they are. Every query and block gives a part of its own, and the parts
 * of a query are put together at the end (docs/decisions/0009).
 *
 * Keys and values are loaded once. Then warps that multiply together go by themselves through queries, in
 * their own rows of shared memory: the next ones arrive while the values of the last are summed. */
#include "queries.cuh"

namespace ek::cuda {

namespace {

/* Begins to copy the warp's queries of a head to its rows, lane i's into row i; a negative slot: none, which
 * becomes zeros. */
template <class P>
__device__ void load_warp_queries(const ExpandedShared& s, const PrefillQueries& q, int head, int32_t slot,
                                  int32_t n_slots) {
  constexpr int kRowsAtOnce = kWarp / kQueryCopiers, kWarpQueries = QueryTile<P>::kWarpQueries;
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            first = static_cast<int>(threadIdx.x) % kWarp / kQueryCopiers;
  const int32_t own = slot < 0 ? -1 : slot / n_slots;
#pragma unroll
  for (int turn = 0; turn < kWarpQueries; turn += kRowsAtOnce) {
    const int32_t query = __shfl_sync(0xffffffffu, own, first + turn);
    load_query<typename P::Queries>(s.query, warp * kWarpQueries + first + turn, q.query,
                                    query < 0 ? 0 : query, head, query >= 0);
  }
  copy_async_commit();
}

/* Stores the sums of the warp's queries, whose slots its lanes have. */
template <class P>
__device__ void store_slots(const SelectedParts& parts, const QuerySums<P>& sums, int head,
                            int32_t own_slot) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    const int32_t slot = __shfl_sync(0xffffffffu, own_slot, r * 8 + lane / 4);
    store_query_part(parts, static_cast<size_t>(max(slot, 0)), head, sums, r, sums.total[r / 2][r % 2],
                     slot >= 0);
  }
}

/* The pair of each lane's query where the warp's team has those from `first` on; -1: none. */
template <class P>
__device__ int32_t slot_at(const ChosenPairs& pairs, int32_t first, int32_t end) {
  constexpr int kWarpQueries = QueryTile<P>::kWarpQueries;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % P::kTeamWarps;
  const int32_t own = first + warp * kWarpQueries + lane;
  return lane < kWarpQueries && own < end ? pairs.pair[own] : -1;
}

/* grid (tiles of pairs, heads): tiles of a head are neighbours, so that its queries stay in L2. */
template <class P>
__global__ void __launch_bounds__(QueryTile<P>::kThreads, 2)
    attend_pairs_kernel(PrefillQueries q, ExpandedRows rows, ChosenPairs pairs, SelectedParts parts) {
  const int32_t n_tiles = *pairs.n_tiles;
  const PairTile tile = pairs.tile[blockIdx.x]; /* loads beside their number */
  if (static_cast<int32_t>(blockIdx.x) >= n_tiles) return;
  const ExpandedShared s = expanded_shared<P>();
  const int head = blockIdx.y;
  const int32_t at = tile.block * kBlockRows;
  int32_t pair = tile.first + team_of_warp<P>() * QueryTile<P>::kTeamQueries; /* the team's first */
  int32_t slot = slot_at<P>(pairs, pair, tile.end);
  load_keys<P>(s, rows, {at, at}, kBlockRows, head);
  load_warp_queries<P>(s, q, head, slot, parts.n);
  load_values<P>(s, rows, {at, at}, kBlockRows, head);
  copy_async_wait<1>();
  P::publish();
  __syncthreads();
  for (bool is_first = true; is_first || pair < tile.end; is_first = false) {
    const bool counts = pair < tile.end;
    pair += kTileQueries;
    const int32_t next = slot_at<P>(pairs, pair, tile.end);
    PackedWeights<P> weights;
    QuerySums<P> sums;
    clear(sums);
    if (counts) {
      BlockScores<P> scores;
      P::score(scores, s);
      float scale[P::kTiles][2];
      weigh_block<P>(scores, sums, scale);
      join_totals(sums);
      pack_weights<P>(weights, scores);
    }
    P::sync_team(); /* nobody needs the queries */
    if (pair < tile.end) {
      load_warp_queries<P>(s, q, head, next, parts.n);
    } else {
      copy_async_commit();
    }
    if (is_first) {
      copy_async_wait<1>();
      P::publish();
      __syncthreads(); /* values are here */
    }
    if (!counts) break;
    P::add_values(sums.out, weights, s);
    store_slots(parts, sums, head, slot);
    slot = next;
    copy_async_wait<0>();
    P::publish();
    P::sync_team();
  }
}

}  // namespace

void launch_attend_pairs(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                         const ChosenPairs& pairs, const SelectedParts& parts) {
  with_products([&]<class P>(P) {
    launch(stream, "attend_pairs", {{pairs.most_tiles, kHeads}, QueryTile<P>::kThreads, kExpandedShared<P>},
           attend_pairs_kernel<P>, q, rows, pairs, parts);
  });
}

}  // namespace ek::cuda
