/* Which experts a chunk's tokens go to, the pairs of token and expert sorted by expert, and the sum of what
 * the experts gave. Every order is fixed: the same chunk gives the same bits. */
#include "kernels.h"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kTokens = 8, kMostExperts = 256;
constexpr int kSortThreads = 1024, kSortWarps = kSortThreads / kWarp;
static_assert(kTokens <= kWarps, "a warp per token chooses");

/* The top_k largest of the warp's logits, ties to the lowest index, with their probabilities. */
__device__ void choose(const float* logit, int32_t n, int32_t top_k, int32_t* experts, float* weights,
                       int lane) {
  float top = -INFINITY, total = 0;
  for (int32_t i = lane; i < n; i += kWarp) top = fmaxf(top, logit[i]);
  top = warp_max(top);
  for (int32_t i = lane; i < n; i += kWarp) total += expf(logit[i] - top);
  total = warp_sum(total);
  for (int32_t i = lane; i < n; i += kWarp) {
    int rank = 0;
    for (int32_t j = 0; j < n; j++) rank += logit[j] > logit[i] || (logit[j] == logit[i] && j < i);
    if (rank >= top_k) continue;
    experts[rank] = i;
    weights[rank] = expf(logit[i] - top) / total;
  }
}

/* A block per kTokens tokens: a warp per expert reads its row once for all of them, then a warp per token
 * chooses. Shared: kTokens normalised rows. */
__global__ void __launch_bounds__(kThreads)
    route_rows_kernel(ChunkBuffers b, const float* router, const float* norm, LiteShape shape, int32_t n) {
  __shared__ float shared[kWarps], logit[kTokens][kMostExperts];
  float* rows = dynamic_shared<float>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kTokens, hidden = shape.hidden;
  for (int i = 0; i < kTokens; i++) {
    const size_t row = static_cast<size_t>(min(first + i, n - 1)) * hidden;
    float sum = 0;
    for (int32_t c = threadIdx.x; c < hidden; c += kThreads) sum += b.x[row + c] * b.x[row + c];
    const float scale = rsqrtf(block_sum<kThreads>(sum, shared) / static_cast<float>(hidden) + shape.eps);
    for (int32_t c = threadIdx.x; c < hidden; c += kThreads) {
      const float v = b.x[row + c] * scale * norm[c];
      rows[i * hidden + c] = v;
      if (first + i < n) b.h[row + c] = __float2bfloat16_rn(v);
    }
  }
  __syncthreads();
  for (int32_t e = warp; e < shape.n_experts; e += kWarps) {
    const float* w = router + static_cast<size_t>(e) * hidden;
    float dot[kTokens] = {};
    for (int32_t c = lane; c < hidden; c += kWarp) {
      const float value = w[c];
      for (int i = 0; i < kTokens; i++) dot[i] = fmaf(value, rows[i * hidden + c], dot[i]);
    }
    for (int i = 0; i < kTokens; i++) {
      const float sum = warp_sum(dot[i]);
      if (lane == 0) logit[i][e] = sum;
    }
  }
  __syncthreads();
  if (warp >= kTokens || first + warp >= n) return;
  const size_t pair = static_cast<size_t>(first + warp) * shape.top_k;
  choose(logit[warp], shape.n_experts, shape.top_k, b.experts + pair, b.weights + pair, lane);
}

/* A block per expert goes over all pairs in order. Counts those of the expert or, when offsets are known,
 * gives them their slots. */
template <bool Scatter>
__global__ void __launch_bounds__(kSortThreads)
    sort_pairs_kernel(ChunkBuffers b, int32_t n_pairs, int32_t top_k) {
  __shared__ int32_t warp_count[kSortWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t expert = blockIdx.x;
  int32_t before = 0; /* pairs of the expert in earlier turns */
  for (int32_t begin = 0; begin < n_pairs; begin += kSortThreads) {
    const int32_t pair = begin + static_cast<int32_t>(threadIdx.x);
    const bool own = pair < n_pairs && b.experts[pair] == expert;
    const unsigned lanes = __ballot_sync(0xffffffffu, own);
    if (lane == 0) warp_count[warp] = __popc(lanes);
    __syncthreads();
    int32_t at = before;
    for (int w = 0; w < kSortWarps; w++) {
      if (w < warp) at += warp_count[w];
      before += warp_count[w];
    }
    if (Scatter && own) {
      const int32_t slot = b.offsets[expert] + at + __popc(lanes & ((1u << lane) - 1));
      b.token_of[slot] = pair / top_k;
      b.slot_of[pair] = slot;
    }
    __syncthreads();
  }
  if (!Scatter && threadIdx.x == 0) b.counts[expert] = before;
}

/* One block, a thread per expert: where its slots begin, and its tiles of the grouped products. */
__global__ void __launch_bounds__(kMostExperts)
    plan_tiles_kernel(ChunkBuffers b, int32_t n_experts, int32_t tile_rows) {
  __shared__ int32_t count[kMostExperts];
  const int32_t e = threadIdx.x;
  if (e < n_experts) count[e] = b.counts[e];
  __syncthreads();
  if (e >= n_experts) return;
  int32_t at = 0, tile = 0;
  for (int32_t i = 0; i < e; i++) {
    at += count[i];
    tile += (count[i] + tile_rows - 1) / tile_rows;
  }
  const int32_t end = at + count[e];
  b.offsets[e] = at;
  for (; at < end; at += tile_rows) {
    b.tile_expert[tile] = e;
    b.tile_first[tile] = at;
    b.tile_end[tile++] = end;
  }
  if (e == n_experts - 1) *b.n_tiles = tile;
}

__global__ void __launch_bounds__(kThreads)
    add_experts_kernel(ChunkBuffers b, int32_t top_k, int32_t hidden) {
  const size_t token = blockIdx.x;
  for (int32_t c = threadIdx.x; c < hidden; c += kThreads) {
    float sum = 0;
    for (int32_t k = 0; k < top_k; k++) {
      const size_t pair = token * top_k + k;
      sum = fmaf(b.weights[pair], b.y[static_cast<size_t>(b.slot_of[pair]) * hidden + c], sum);
    }
    b.x[token * hidden + c] += sum;
  }
}

}  // namespace

void launch_route(const Chunk& c, const LiteLayer& layer) {
  const LiteShape& s = c.shape;
  const int32_t n_pairs = c.n * s.top_k;
  launch(c.stream, "route",
         {ceil_div(c.n, kTokens), kThreads, sizeof(float) * kTokens * static_cast<size_t>(s.hidden)},
         route_rows_kernel, c.b, layer.router, layer.ffn_norm, s, c.n);
  c.mark("route");
  launch(c.stream, "count_pairs", {s.n_experts, kSortThreads}, sort_pairs_kernel<false>, c.b, n_pairs,
         s.top_k);
  launch(c.stream, "plan_tiles", {1, kMostExperts}, plan_tiles_kernel, c.b, s.n_experts, gemm_tile_rows());
  launch(c.stream, "scatter_pairs", {s.n_experts, kSortThreads}, sort_pairs_kernel<true>, c.b, n_pairs,
         s.top_k);
  c.mark("sort");
}

void launch_add_experts(const Chunk& c) {
  launch(c.stream, "add_experts", {c.n, kThreads}, add_experts_kernel, c.b, c.shape.top_k, c.shape.hidden);
  c.mark("add_experts");
}

}  // namespace ek::cuda
