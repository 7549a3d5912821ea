/* The blocks that queries chose: neighbours choose differently, so a block of the grid has one block of keys
 * and the queries that chose it, wherever they are. Every query and block gives a part of its own, and the
 * parts of a query are put together at the end (docs/decisions/0009). */
#include "expanded.cuh"

namespace ek::cuda {

namespace {

constexpr int kCombineThreads = 256, kCombineHeads = kCombineThreads / kWarp;

/* grid (tiles of pairs, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    attend_pairs_kernel(PrefillQueries q, ExpandedRows rows, ChosenPairs pairs, SelectedParts parts) {
  __shared__ int32_t slot[kTileQueries], query[kTileQueries];
  const int32_t tile = blockIdx.x;
  if (tile >= *pairs.n_tiles) return;
  const ExpandedShared s = expanded_shared();
  const int32_t first = pairs.tile_first[tile], n = pairs.tile_end[tile] - first, head = blockIdx.y;
  const int32_t at = pairs.tile_block[tile] * kBlockRows;
  for (int32_t i = threadIdx.x; i < kTileQueries; i += kQueryThreads) {
    slot[i] = i < n ? pairs.pair[first + i] : -1;
    query[i] = i < n ? slot[i] / parts.n : -1;
  }
  __syncthreads();
  load_query_rows(s, q, head, [&](int row) { return query[row]; });
  load_keys(s, rows, at, at + kBlockRows, head);
  load_values(s, rows, at, at + kBlockRows, head);
  copy_async_wait<1>();
  __syncthreads();
  const bool counts = static_cast<int32_t>(threadIdx.x) / kWarp * kWarpQueries < n;
  BlockScores scores;
  QuerySums sums;
  clear(sums);
  if (counts) {
    score_block(scores, s);
    float scale[2][2];
    weigh_block(scores, sums, scale);
    join_totals(sums);
  }
  copy_async_wait<0>();
  __syncthreads();
  if (!counts) return;
  add_values(sums, scores, s);
  store_slots(s, parts, sums, head, [&](int row) { return slot[row]; });
}

/* A warp per query and head, a lane per 4 values. grid (queries, heads in groups) */
__global__ void __launch_bounds__(kCombineThreads)
    combine_slots_kernel(PrefillQueries q, NsaRule rule, SelectedParts parts, const float* before) {
  const int lane = threadIdx.x % kWarp;
  const size_t query = blockIdx.x, head = blockIdx.y * kCombineHeads + threadIdx.x / kWarp;
  const int32_t t = q.first + static_cast<int32_t>(blockIdx.x), own = t / kBlockRows;
  const int32_t chosen = rule.n_selected(t) - min(own + 1, rule.initial + rule.local);
  /* Slot i of those that have something: the chosen ones, then the forced one. */
  const auto row_of = [&](int32_t i) {
    return (query * parts.n + (i < chosen ? i : parts.n - 1)) * kHeads + head;
  };
  float top = -INFINITY, total = 0;
  for (int32_t i = 0; i <= chosen; i++) top = fmaxf(top, parts.sums[row_of(i)].x);
  float4 sum = {0, 0, 0, 0};
#pragma unroll 4
  for (int32_t i = 0; i <= chosen; i++) {
    const float2 part = parts.sums[row_of(i)];
    const uint2 v = *reinterpret_cast<const uint2*>(parts.values + row_of(i) * kValue + lane * 4);
    const float w = exp2f(part.x - top);
    total = fmaf(w, part.y, total);
    sum = {fmaf(w, bf16_value(v.x & 0xffff), sum.x), fmaf(w, bf16_value(v.x >> 16), sum.y),
           fmaf(w, bf16_value(v.y & 0xffff), sum.z), fmaf(w, bf16_value(v.y >> 16), sum.w)};
  }
  const size_t row = query * kHeads + head, at = row * kValue + lane * 4;
  const float scale = 1.0f / (1.0f + expf(-q.gates[row * 3 + 1])) / total;
  const float4 other = *reinterpret_cast<const float4*>(before + at);
  *reinterpret_cast<uint2*>(q.out + at) = {
      pack_bf16(fmaf(scale, sum.x, other.x), fmaf(scale, sum.y, other.y)),
      pack_bf16(fmaf(scale, sum.z, other.z), fmaf(scale, sum.w, other.w))};
}

}  // namespace

void launch_attend_pairs(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                         const ChosenPairs& pairs, const SelectedParts& parts) {
  launch(stream, "attend_pairs", {{pairs.most_tiles, kHeads}, kQueryThreads, kExpandedShared},
         attend_pairs_kernel, q, rows, pairs, parts);
}

void launch_combine_slots(cudaStream_t stream, const PrefillQueries& q, const NsaRule& rule,
                          const SelectedParts& parts, const float* sums) {
  launch(stream, "combine_slots", {{q.end - q.first, kHeads / kCombineHeads}, kCombineThreads},
         combine_slots_kernel, q, rule, parts, sums);
}

}  // namespace ek::cuda
