/* Routing of a short run, in three kernels: few tokens would leave most of the device without work if a block
 * had all experts of some tokens, as in route.cu. Sums of the router are f32. */
#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kTokens = 4; /* of a block; a warp has an expert */
constexpr int kHeld = 16, kHeldColumns = kHeld * kWarp * 4;           /* of an expert, in registers */

__device__ float4 four(const float* from, int32_t column) {
  return *reinterpret_cast<const float4*>(from + column);
}
__device__ float dot(const float4& a, const float4& b, float sum) {
  return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, sum))));
}

/* row = x * norm / rms, and h, unless it is null, the same as bf16. A warp calls. */
__device__ void norm_row(float* row, __nv_bfloat16* h, const float* x, const float* norm, int32_t hidden,
                         float eps, int lane) {
  float sum = 0;
#pragma unroll 16
  for (int32_t c = lane * 4; c < hidden; c += kWarp * 4) {
    const float4 v = four(x, c);
    sum = dot(v, v, sum);
  }
  const float factor = rsqrtf(warp_sum(sum) / static_cast<float>(hidden) + eps);
#pragma unroll 16
  for (int32_t c = lane * 4; c < hidden; c += kWarp * 4) {
    const float4 v = four(x, c), w = four(norm, c);
    const float4 out{v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z, v.w * factor * w.w};
    *reinterpret_cast<float4*>(row + c) = out;
    if (h != nullptr) *reinterpret_cast<uint2*>(h + c) = {pack_bf16(out.x, out.y), pack_bf16(out.z, out.w)};
  }
}

/* Logits of kTokens tokens and kWarps experts; the blocks of the first experts also store h. */
__global__ void __launch_bounds__(kThreads)
    logits_few_kernel(ChunkBuffers b, const float* router, const float* norm, LiteShape shape, int32_t n) {
  float* rows = dynamic_shared<float>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kTokens, hidden = shape.hidden,
                expert = static_cast<int32_t>(blockIdx.y) * kWarps + warp;
  const float* weights = router + static_cast<size_t>(min(expert, shape.n_experts - 1)) * hidden;
  float4 held[kHeld];
  const auto hold = [&](int32_t column) {
#pragma unroll
    for (int i = 0; i < kHeld; i++) {
      const int32_t c = column + (i * kWarp + lane) * 4;
      held[i] = c < hidden ? four(weights, c) : float4{0, 0, 0, 0};
    }
  };
  hold(0);
  wait_for_kernel_before();
  allow_next_kernel();
  if (warp < kTokens && first + warp < n) {
    const size_t at = static_cast<size_t>(first + warp) * hidden;
    norm_row(rows + warp * hidden, blockIdx.y == 0 ? b.h + at : nullptr, b.x + at, norm, hidden, shape.eps,
             lane);
  }
  __syncthreads();
  float sum[kTokens] = {};
  for (int32_t column = 0; column < hidden; column += kHeldColumns) {
    if (column > 0) hold(column);
#pragma unroll
    for (int i = 0; i < kHeld; i++) {
      const int32_t c = column + (i * kWarp + lane) * 4;
      if (c >= hidden) break;
      for (int t = 0; t < kTokens; t++) sum[t] = dot(four(rows + t * hidden, c), held[i], sum[t]);
    }
  }
  for (int t = 0; t < kTokens; t++) {
    const float all = warp_sum(sum[t]);
    if (lane == 0 && first + t < n && expert < shape.n_experts)
      b.logits[static_cast<size_t>(first + t) * shape.n_experts + expert] = all;
  }
}

constexpr int kSortThreads = 1024, kSortWarps = kSortThreads / kWarp;

/* Calls visit(pair, whether it is the expert's, which lanes have one of its) for 32 pairs at a time. */
template <class Visit>
__device__ void visit_pairs(const int32_t* experts, int32_t n_pairs, int32_t expert, Visit&& visit) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll 4
  for (int32_t first = 0; first < n_pairs; first += kWarp) {
    const int32_t i = first + lane;
    const bool own = i < n_pairs && experts[i] == expert;
    visit(i, own, __ballot_sync(0xffffffffu, own));
  }
}

/* A warp per token. */
__global__ void __launch_bounds__(kWarp) choose_few_kernel(ChunkBuffers b, int32_t top_k, int32_t n_experts) {
  const size_t token = blockIdx.x;
  wait_for_kernel_before();
  allow_next_kernel();
  choose_by_warp(b.logits + token * n_experts, n_experts, top_k, b.experts + token * top_k,
                 b.weights + token * top_k, threadIdx.x);
}

/* One block, a warp for an expert. */
__global__ void __launch_bounds__(kSortThreads, 1)
    sort_few_kernel(ChunkBuffers b, int32_t n_pairs, int32_t top_k, int32_t n_experts) {
  __shared__ int32_t count[kMostExperts], offset[kMostExperts];
  int32_t* experts = dynamic_shared<int32_t>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  wait_for_kernel_before();
  allow_next_kernel();
  for (int32_t i = threadIdx.x; i < n_pairs; i += kSortThreads) experts[i] = b.experts[i];
  __syncthreads();
  for (int32_t e = warp; e < n_experts; e += kSortWarps) {
    int32_t own = 0;
    visit_pairs(experts, n_pairs, e, [&](int32_t, bool, uint32_t all) { own += __popc(all); });
    if (lane == 0) count[e] = own;
  }
  __syncthreads();
  if (warp == 0) plan_tiles(b, count, offset, n_experts, kFewHeld);
  __syncthreads();
  for (int32_t e = warp; e < n_experts; e += kSortWarps) {
    int32_t at = offset[e];
    visit_pairs(experts, n_pairs, e, [&](int32_t i, bool own, uint32_t all) {
      const int32_t slot = at + __popc(all & ((1u << lane) - 1));
      if (own) {
        b.token_of[slot] = i / top_k;
        b.slot_of[i] = slot;
      }
      at += __popc(all);
    });
  }
}

}  // namespace

void launch_route_few(const Chunk& c, const LiteLayer& layer) {
  const LiteShape& s = c.shape;
  launch(c.stream, "logits_few",
         {{ceil_div(c.n, kTokens), ceil_div(s.n_experts, kWarps)},
          kThreads,
          sizeof(float) * kTokens * static_cast<size_t>(s.hidden),
          true},
         logits_few_kernel, c.b, layer.router, layer.ffn_norm, s, c.n);
  c.mark("route");
  launch(c.stream, "choose_few", {c.n, kWarp, 0, true}, choose_few_kernel, c.b, s.top_k, s.n_experts);
  const int32_t n_pairs = c.n * s.top_k;
  launch(c.stream, "sort_few", {1, kSortThreads, sizeof(int32_t) * static_cast<size_t>(n_pairs), true},
         sort_few_kernel, c.b, n_pairs, s.top_k, s.n_experts);
  c.mark("sort");
}

}  // namespace ek::cuda
