/* The branches of queries put together. Nothing but memory is busy here, so that many small blocks do it:
 * within a kernel that multiplies, too few threads would ask for too little at a time. */
#include "../prefill/tile.cuh"
#include "prefill_kernels.h"

namespace ek::cuda {

namespace {

constexpr int kChunk = 8, kHeadThreads = kValue / kChunk, kQueryRowThreads = kHeads * kHeadThreads;

/* sum += w times the 8 numbers of a chunk. */
__device__ void add_chunk(float (&sum)[kChunk], float w, const uint4& v) {
  const uint32_t word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int n = 0; n < 4; n++) {
    sum[2 * n] = fmaf(w, bf16_value(word[n] & 0xffff), sum[2 * n]);
    sum[2 * n + 1] = fmaf(w, bf16_value(word[n] >> 16), sum[2 * n + 1]);
  }
}

/* A query per block, 16 threads per head. */
__global__ void __launch_bounds__(kQueryRowThreads)
    combine_branches_kernel(PrefillQueries q, NsaRule rule, SelectedParts parts, const __nv_bfloat16* pooled,
                            const __nv_bfloat16* window) {
  const int head = threadIdx.x / kHeadThreads, chunk = threadIdx.x % kHeadThreads;
  const int32_t position = q.first + static_cast<int32_t>(blockIdx.x), own = position / 64;
  const int32_t n = kForcedSlots + rule.n_selected(position) - min(own + 1, rule.initial + rule.local);
  const size_t own_row = static_cast<size_t>(blockIdx.x) * kHeads + head;
  const size_t first = static_cast<size_t>(blockIdx.x) * parts.n * kHeads + head;
  const float2* part = parts.sums + first;
  const auto chunk_of = [&](const __nv_bfloat16* rows, size_t row) {
    return *(reinterpret_cast<const uint4*>(rows + row * kValue) + chunk);
  };
  const uint4 from_pooled = chunk_of(pooled, own_row), from_window = chunk_of(window, own_row);
  const float gate = 1.0f / (1.0f + expf(-q.gates[own_row * 3 + 1]));
  float top = -INFINITY, total = 0, sum[kChunk] = {};
#pragma unroll 7
  for (int32_t i = 0; i < n; i++) top = fmaxf(top, part[i * kHeads].x);
#pragma unroll 7
  for (int32_t i = 0; i < n; i++) {
    const float2 p = part[i * kHeads];
    const float w = exp2_approx(p.x - top);
    total = fmaf(w, p.y, total);
    add_chunk(sum, w, chunk_of(parts.values, first + static_cast<size_t>(i) * kHeads));
  }
  const float factor = gate / total;
  for (float& x : sum) x *= factor;
  add_chunk(sum, 1, from_pooled);
  add_chunk(sum, 1, from_window);
  __nv_bfloat16* to = q.out + own_row * kValue + chunk / 4 * 32 + chunk % 4 * 2;
  for (int i = 0; i < 4; i++)
    *reinterpret_cast<uint32_t*>(to + i * 8) = pack_bf16(sum[2 * i], sum[2 * i + 1]);
}

}  // namespace

void launch_combine_branches(cudaStream_t stream, const PrefillQueries& q, const NsaRule& rule,
                             const SelectedParts& parts, const __nv_bfloat16* pooled,
                             const __nv_bfloat16* window) {
  launch(stream, "combine_branches", {q.end - q.first, kQueryRowThreads}, combine_branches_kernel, q, rule,
         parts, pooled, window);
}

}  // namespace ek::cuda
