/* The forced blocks of a tile of queries, the parts that these have of their chosen blocks, and the window,
 * in one kernel: the parts come from device memory while another block of the multiprocessor multiplies. */
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
  __device__ bool counts(int32_t entry, int32_t of) const { return rule.is_forced(block(entry), of); }
};

/* Adds the parts of the lane's query r to what its forced blocks gave. */
template <int R>
__device__ void add_slots(QuerySums& sums, const PrefillQueries& q, const QueryTile& tile,
                          const NsaRule& rule, const SelectedParts& parts) {
  constexpr int m = R / 2, kFirst = R % 2 * 2;
  const int32_t position = tile.position(R), own = position / kBlockRows;
  if (!is_new(q, position)) return;
  const int32_t chosen = rule.n_selected(position) - min(own + 1, rule.initial + rule.local);
  const size_t row = static_cast<size_t>(position - q.first) * parts.n * kHeads + tile.head;
  const float2* part = parts.sums + row;
  const uint4* values = reinterpret_cast<const uint4*>(parts.values + row * kValue) + threadIdx.x % 4;
  float top = sums.top[m][R % 2];
#pragma unroll 4
  for (int32_t i = 0; i < chosen; i++) top = fmaxf(top, part[i * kHeads].x);
  const float scale = exp2_approx(sums.top[m][R % 2] - top);
  sums.total[m][R % 2] *= scale;
#pragma unroll
  for (int n = 0; n < kValue / 8; n++) {
    sums.out[m][n][kFirst] *= scale;
    sums.out[m][n][kFirst + 1] *= scale;
  }
#pragma unroll 2
  for (int32_t i = 0; i < chosen; i++) {
    uint4 v[kValue / 32];
#pragma unroll
    for (int k = 0; k < kValue / 32; k++)
      v[k] = values[static_cast<size_t>(i) * (kHeads * kValue / 8) + k * 4];
    const float2 p = part[i * kHeads];
    const float w = exp2_approx(p.x - top);
    sums.total[m][R % 2] = fmaf(w, p.y, sums.total[m][R % 2]);
#pragma unroll
    for (int k = 0; k < kValue / 32; k++) {
      const uint32_t word[4] = {v[k].x, v[k].y, v[k].z, v[k].w};
      for (int n = 0; n < 4; n++) {
        float* out = sums.out[m][k * 4 + n];
        out[kFirst] = fmaf(w, bf16_value(word[n] & 0xffff), out[kFirst]);
        out[kFirst + 1] = fmaf(w, bf16_value(word[n] >> 16), out[kFirst + 1]);
      }
    }
  }
}

/* q: a group. grid (tiles, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    attend_near_kernel(PrefillQueries q, ExpandedRows rows, NsaRule rule, SelectedParts parts,
                       float2* saved) {
  const ExpandedShared s = expanded_shared();
  const QueryTile tile = query_tile(q);
  load_queries(s, q, tile);
  const int32_t last = last_of(q, tile), own = last / kBlockRows, since = max(tile.at, q.first);
  const auto ignore = [](int32_t, const BlockScores&, const float(&)[2][2]) {};
  float2* own_saved = saved_of(saved, q, tile);
  QuerySums sums;
  clear(sums);
  const int32_t first = rule.window_begin(since) / kBlockRows;
  attend_blocks(s, rows, BlocksInOrder{first}, own - first + 1, last + 1, q, tile, WindowBefore{rule}, sums,
                ignore);
  for_each_pair(
      sums, [&](int r) { return gate_over_total(q, tile, sums, r, 2); },
      [&](int r, int i, float a, float b) {
        float2& sum = own_saved[saved_at(r, i)];
        sum = {sum.x + a, sum.y + b};
      });
  clear(sums);
  const ForcedBlocks forced{rule, since / kBlockRows - rule.local + 1, own};
  attend_blocks(s, rows, forced, forced.count(), last + 1, q, tile, RowsBefore{}, sums, ignore);
  add_slots<0>(sums, q, tile, rule, parts);
  add_slots<1>(sums, q, tile, rule, parts);
  add_slots<2>(sums, q, tile, rule, parts);
  add_slots<3>(sums, q, tile, rule, parts);
  for_each_pair(
      sums, [&](int r) { return gate_over_total(q, tile, sums, r, 1); },
      [&](int r, int i, float a, float b) {
        const float2 sum = own_saved[saved_at(r, i)];
        if (__nv_bfloat16* to = out_of(q, tile, r))
          *reinterpret_cast<uint32_t*>(to + i * 8) = pack_bf16(sum.x + a, sum.y + b);
      });
}

}  // namespace

void launch_attend_near(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                        const NsaRule& rule, const SelectedParts& parts, float2* saved) {
  launch(stream, "attend_near", {{n_tiles_of(q.first, q.end), kHeads}, kQueryThreads, kExpandedShared},
         attend_near_kernel, q, rows, rule, parts, saved);
}

}  // namespace ek::cuda
