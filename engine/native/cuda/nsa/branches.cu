/* The branches of queries put together. Nothing but memory is busy here, so that many small blocks do it:
 * within a kernel that multiplies, too few threads would ask for too little at a time. */
#include "../prefill/lane_rows.cuh"
#include "../prefill/tile.cuh"
#include "part_values.cuh"
#include "prefill_kernels.h"

namespace ek::cuda {

namespace {

constexpr int kQueries = 4, kThreads = kQueries * kHeads * 4, kPartsAtOnce = 3;

/* sum += the lane's values of a row that store_by_lanes stored. */
__device__ void add_row(float (&sum)[kLaneValues], const __nv_bfloat16* row) {
  visit_by_lanes(row, [&](int i, float x) { sum[i] += x; });
}

/* kQueries queries per block, four lanes per head: what these have of a part is one after the other in their
 * rows. */
__global__ void __launch_bounds__(kThreads)
    combine_branches_kernel(PrefillQueries q, NsaRule rule, SelectedParts parts, const __nv_bfloat16* pooled,
                            const __nv_bfloat16* window) {
  const int head = threadIdx.x / 4 % kHeads, t = threadIdx.x % 4;
  const int32_t query = static_cast<int32_t>(blockIdx.x * kQueries + threadIdx.x / (4 * kHeads)),
                position = q.first + query, own = position / 64;
  if (position >= q.end) return;
  const int32_t n = kForcedSlots + rule.n_selected(position) - min(own + 1, rule.initial + rule.local);
  const size_t own_row = static_cast<size_t>(query) * kHeads + head,
               first = static_cast<size_t>(query) * parts.n;
  const PartSums* part = parts.sums_of(first, head);
  const float gate = 1.0f / (1.0f + expf(-q.gates[own_row * 3 + 1]));
  float top = -INFINITY, total = 0, weights = 0, sum[kLaneValues] = {};
#pragma unroll 4
  for (int32_t i = t; i < n; i += 4) top = fmaxf(top, part[i].top);
  for (int lanes = 1; lanes < 4; lanes *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, lanes));
#pragma unroll kPartsAtOnce
  for (int32_t i = 0; i < n; i++) {
    uint32_t word[kLaneWords];
    load_part(word, parts.words_of(first + static_cast<size_t>(i), head));
    const PartSums p = part[i];
    const float weight = exp2_approx(p.top - top);
    total = fmaf(weight, p.total, total);
    weights += weight;
    add_values(sum, word, weight);
  }
  const float factor = gate / total;
  for (float& x : sum) x = factor * fmaf(-1.5f, weights, x);
  add_row(sum, pooled + own_row * kValue);
  add_row(sum, window + own_row * kValue);
  __nv_bfloat16* to = q.out + own_row * kValue + t * 2;
#pragma unroll
  for (int i = 0; i < kLaneValues / 2; i++)
    *reinterpret_cast<uint32_t*>(to + i * 8) = pack_bf16(sum[2 * i], sum[2 * i + 1]);
}

}  // namespace

void launch_combine_branches(cudaStream_t stream, const PrefillQueries& q, const NsaRule& rule,
                             const SelectedParts& parts, const __nv_bfloat16* pooled,
                             const __nv_bfloat16* window) {
  launch(stream, "combine_branches", {ceil_div(q.end - q.first, kQueries), kThreads}, combine_branches_kernel,
         q, rule, parts, pooled, window);
}

}  // namespace ek::cuda
