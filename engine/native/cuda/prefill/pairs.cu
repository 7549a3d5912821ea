/* Pairs of token and expert sorted by expert, and the sum of what the experts gave. Every order is fixed: the
 * same chunk gives the same bits. */
#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kSortThreads = 1024, kSortWarps = kSortThreads / kWarp,
              kOwnPairs = 8; /* of a thread in a turn */

/* A block per expert goes over all pairs in order, eight of them a thread at a time. Counts those of the
 * expert or, when offsets are known, gives them their slots. */
template <bool Scatter>
__global__ void __launch_bounds__(kSortThreads)
    sort_pairs_kernel(ChunkBuffers b, int32_t n_pairs, int32_t top_k) {
  __shared__ int32_t warp_count[2][kSortWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t expert = blockIdx.x, offset = Scatter ? b.offsets[expert] : 0;
  int32_t before = 0; /* pairs of the expert in earlier turns */
  for (int32_t begin = 0, turn = 0; begin < n_pairs; begin += kSortThreads * kOwnPairs, turn++) {
    const int32_t first = begin + static_cast<int32_t>(threadIdx.x) * kOwnPairs;
    uint32_t own = 0;
#pragma unroll
    for (int i = 0; i < kOwnPairs; i++)
      own |= (first + i < n_pairs && b.experts[first + i] == expert ? 1u : 0u) << i;
    const WarpCounts counts = counts_before(__popc(own), lane);
    if (lane == 0) warp_count[turn % 2][warp] = counts.all;
    __syncthreads();
    int32_t at = offset + before + counts.before;
    for (int w = 0; w < kSortWarps; w++) {
      if (w < warp) at += warp_count[turn % 2][w];
      before += warp_count[turn % 2][w];
    }
    if constexpr (Scatter) {
      for (int i = 0; i < kOwnPairs; i++) {
        if ((own >> i & 1) == 0) continue;
        b.token_of[at] = (first + i) / top_k;
        b.slot_of[first + i] = at++;
      }
    }
  }
  if (!Scatter && threadIdx.x == 0) b.counts[expert] = before;
}

/* One warp. */
__global__ void __launch_bounds__(kWarp)
    plan_tiles_kernel(ChunkBuffers b, int32_t n_experts, int32_t tile_rows) {
  plan_tiles(b, b.counts, b.offsets, n_experts, tile_rows);
}

/* A block per token; a thread has eight columns at a time. */
__global__ void __launch_bounds__(kThreads)
    add_experts_kernel(ChunkBuffers b, int32_t top_k, int32_t hidden) {
  wait_for_kernel_before();
  allow_next_kernel();
  const size_t pair = static_cast<size_t>(blockIdx.x) * top_k;
  for (int32_t c = threadIdx.x * 8; c < hidden; c += kThreads * 8) {
    float sum[8] = {};
#pragma unroll 6
    for (int32_t k = 0; k < top_k; k++) {
      const float weight = b.weights[pair + k];
      const uint4 y =
          *reinterpret_cast<const uint4*>(b.y + static_cast<size_t>(b.slot_of[pair + k]) * hidden + c);
      const uint32_t word[4] = {y.x, y.y, y.z, y.w};
      for (int i = 0; i < 4; i++) {
        sum[2 * i] = fmaf(weight, bf16_value(word[i] & 0xffff), sum[2 * i]);
        sum[2 * i + 1] = fmaf(weight, bf16_value(word[i] >> 16), sum[2 * i + 1]);
      }
    }
    float4* to = reinterpret_cast<float4*>(b.x + static_cast<size_t>(blockIdx.x) * hidden + c);
    for (int i = 0; i < 2; i++) {
      const float4 x = to[i];
      to[i] = {x.x + sum[4 * i], x.y + sum[4 * i + 1], x.z + sum[4 * i + 2], x.w + sum[4 * i + 3]};
    }
  }
}

}  // namespace

void launch_sort_pairs(const Chunk& c) {
  const LiteShape& s = c.shape;
  const int32_t n_pairs = c.n * s.top_k;
  launch(c.stream, "count_pairs", {s.n_experts, kSortThreads}, sort_pairs_kernel<false>, c.b, n_pairs,
         s.top_k);
  launch(c.stream, "plan_tiles", {1, kWarp}, plan_tiles_kernel, c.b, s.n_experts, tile_rows(c));
  launch(c.stream, "scatter_pairs", {s.n_experts, kSortThreads}, sort_pairs_kernel<true>, c.b, n_pairs,
         s.top_k);
  c.mark("sort");
}

void launch_add_experts(const Chunk& c) {
  launch(c.stream, "add_experts", {c.n, kThreads, 0, true}, add_experts_kernel, c.b, c.shape.top_k,
         c.shape.hidden);
  c.mark("add_experts");
}

}  // namespace ek::cuda
