/* Routing of a decode step. The router's logits are R (norm x) / rms(x) with x = x_before + W_o heads, so
 * they need not wait for x: R diag(norm) x_before is computed beside attention, and R diag(norm) W_o, made
 * once (fold_router), meets the heads beside W_o. The factor 1 / rms changes no order, so the experts that
 * are chosen are known when the kernel begins that reads them. */
#ifndef EK_CUDA_DECODE_ROUTE_CUH
#define EK_CUDA_DECODE_ROUTE_CUH
#include "kernels.h"

namespace ek::cuda {

constexpr int kRouteThreads = 256, kRouteWarps = kRouteThreads / kWarp;
constexpr int kRouted = kRouteWarps / 2; /* experts per block: two warps share one's columns */
constexpr int kRouteLoads = 8;           /* of four columns, before the vector is there */
constexpr int kMostExperts = 256;        /* check_lite_shape */

__device__ inline float4 times(const float4& a, const float4& b) {
  return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w};
}

/* The products of kRouted rows (n_experts, dim) with a vector, by block `block`. weight_at(row, c),
 * vector_at(c): four columns; the vector is there behind wait_for_kernel_before. store(expert, product) by
 * one thread. */
template <class WeightAt, class VectorAt, class Store>
__device__ void route_rows(int32_t block, int32_t n_experts, int32_t dim, WeightAt&& weight_at,
                           VectorAt&& vector_at, Store&& store) {
  __shared__ float dots[kRouteWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t expert = block * kRouted + warp / 2, first = (warp % 2 * kWarp + lane) * 4;
  const int32_t row = min(expert, n_experts - 1);
  constexpr int32_t kStep = 2 * kWarp * 4;
  float4 weight[kRouteLoads];
#pragma unroll
  for (int i = 0; i < kRouteLoads; i++) {
    if (first + i * kStep < dim) weight[i] = weight_at(row, first + i * kStep);
  }
  wait_for_kernel_before();
  float dot = 0;
  const auto add = [&](int32_t c, const float4& w) {
    const float4 p = times(w, vector_at(c));
    dot += (p.x + p.y) + (p.z + p.w);
  };
#pragma unroll
  for (int i = 0; i < kRouteLoads; i++) {
    if (first + i * kStep < dim) add(first + i * kStep, weight[i]);
  }
  for (int32_t c = first + kRouteLoads * kStep; c < dim; c += kStep) add(c, weight_at(row, c));
  dot = warp_sum(dot);
  if (lane == 0) dots[warp] = dot;
  __syncthreads();
  if (lane == 0 && warp % 2 == 0 && expert < n_experts) store(expert, dots[warp] + dots[warp + 1]);
}

/* Blocks that route_rows needs. */
inline int32_t route_blocks(int32_t n_experts) { return ceil_div(n_experts, kRouted); }

/* The top_k experts with the largest of n logits in shared memory, the best first; of equal ones the lower
 * index is better. All threads of a block of kRouteThreads or more call, behind a barrier, and need one after
 * it. */
__device__ inline void rank_experts(const float* logit, int32_t n, int32_t top_k, int32_t* chosen) {
  const int quarter = threadIdx.x % 4;
  for (int32_t first = 0; first < n; first += kRouteThreads / 4) {
    const int32_t expert = first + static_cast<int32_t>(threadIdx.x) / 4;
    const float own = expert < n ? logit[expert] : 0.0f;
    int32_t rank = 0;
    for (int32_t j = quarter; j < n; j += 4) rank += logit[j] > own || (logit[j] == own && j < expert);
    rank += __shfl_xor_sync(0xffffffffu, rank, 1);
    rank += __shfl_xor_sync(0xffffffffu, rank, 2);
    if (quarter == 0 && expert < n && rank < top_k) chosen[rank] = expert;
  }
}

/* The same of the logits that the output projection left: ends with a barrier. */
__device__ inline void choose_experts(const float* router, int32_t n, int32_t top_k, float* logit,
                                      int32_t* chosen) {
  const int32_t i = threadIdx.x;
  if (i < n) logit[i] = router[i];
  if (i < top_k) chosen[i] = i; /* where a NaN has no rank */
  __syncthreads();
  rank_experts(logit, n, top_k, chosen);
  __syncthreads();
}

}  // namespace ek::cuda
#endif
