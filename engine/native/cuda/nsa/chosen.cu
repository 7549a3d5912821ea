/* The blocks that queries chose: neighbours choose differently, so a block of the grid has one block of keys
 * and queries that chose it, wherever they are. Every query and block gives a part of its own, and the parts
 * of a query are put together at the end (docs/decisions/0009).
 *
 * Keys and values are loaded once. Then a warp goes by itself through queries by 32, in its own rows of
 * shared memory: the next ones arrive while the values of the last are summed. */
#include "../prefill/expanded.cuh"
#include "prefill_kernels.h"

namespace ek::cuda {

namespace {

using Way = WarpProducts;
constexpr int kQueryThreads = QueryTile<Way>::kThreads, kWarpQueries = QueryTile<Way>::kWarpQueries;

/* Begins to copy the warp's 32 queries of a head, lane i's into row i; a negative slot: none, which becomes
 * zeros. */
__device__ void load_warp_queries(__nv_bfloat16* to, const PrefillQueries& q, int head, int32_t slot,
                                  int32_t n_slots) {
  constexpr int kRowsAtOnce = kWarp / kQueryCopiers;
  const int first = static_cast<int>(threadIdx.x) % kWarp / kQueryCopiers;
  const int32_t own = slot < 0 ? -1 : slot / n_slots;
#pragma unroll
  for (int turn = 0; turn < kWarpQueries; turn += kRowsAtOnce) {
    const int32_t query = __shfl_sync(0xffffffffu, own, first + turn);
    load_query<Way::Queries>(to, first + turn, q.query, query < 0 ? 0 : query, head, query >= 0);
  }
  copy_async_commit();
}

/* Stores the sums of the warp's queries, whose slots its lanes have. */
__device__ void store_slots(const SelectedParts& parts, const QuerySums<Way>& sums, int head,
                            int32_t own_slot) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < 4; r++) {
    const int32_t slot = __shfl_sync(0xffffffffu, own_slot, r * 8 + lane / 4);
    if (slot < 0) continue;
    const size_t row = static_cast<size_t>(slot) * kHeads + head;
    if (lane % 4 == 0) parts.sums[row] = {sums.top[r / 2][r % 2], sums.total[r / 2][r % 2]};
    store_by_lanes(parts.values + row * kValue, sums, r, 1);
  }
}

/* grid (tiles of pairs, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    attend_pairs_kernel(PrefillQueries q, ExpandedRows rows, ChosenPairs pairs, SelectedParts parts) {
  const int32_t tile = blockIdx.x;
  if (tile >= *pairs.n_tiles) return;
  const ExpandedShared s = expanded_shared<Way>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, head = blockIdx.y;
  const int32_t end = pairs.tile_end[tile], at = pairs.tile_block[tile] * kBlockRows;
  __nv_bfloat16* queries = s.query + warp * kWarpQueries * Way::Queries::kPitch;
  int32_t pair = pairs.tile_first[tile] + warp * kWarpQueries;
  const auto slot_at = [&](int32_t first) { return first + lane < end ? pairs.pair[first + lane] : -1; };
  int32_t slot = slot_at(pair);
  load_keys<Way>(s, rows, {at, at}, kBlockRows, head);
  load_warp_queries(queries, q, head, slot, parts.n);
  load_values<Way>(s, rows, {at, at}, kBlockRows, head);
  copy_async_wait<1>();
  __syncthreads();
  for (bool is_first = true; is_first || pair < end; is_first = false) {
    const bool counts = pair < end;
    pair += kTileQueries;
    const int32_t next = slot_at(pair);
    PackedWeights<Way> weights;
    QuerySums<Way> sums;
    clear(sums);
    if (counts) {
      BlockScores<Way> scores;
      score_block<Way>(scores, s);
      float scale[2][2];
      weigh_block<Way>(scores, sums, scale);
      join_totals(sums);
      pack_weights<Way>(weights, scores);
    }
    __syncwarp(); /* nobody needs the queries */
    if (pair < end) {
      load_warp_queries(queries, q, head, next, parts.n);
    } else {
      copy_async_commit();
    }
    if (is_first) {
      copy_async_wait<1>();
      __syncthreads(); /* values are here */
    }
    if (!counts) break;
    Way::add_values(sums.out, weights, s);
    store_slots(parts, sums, head, slot);
    slot = next;
    copy_async_wait<0>();
    __syncwarp();
  }
}

}  // namespace

void launch_attend_pairs(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                         const ChosenPairs& pairs, const SelectedParts& parts) {
  launch(stream, "attend_pairs", {{pairs.most_tiles, kHeads}, kQueryThreads, kExpandedShared<Way>},
         attend_pairs_kernel, q, rows, pairs, parts);
}

}  // namespace ek::cuda
