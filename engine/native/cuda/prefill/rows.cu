/* What a chunk does row by row: embedding, normalisation, cache rows, queries. */
#include "kernels.h"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

template <ek_type F>
__global__ void embed_rows_kernel(float* x, WeightView table, const int32_t* tokens) {
  const size_t token = static_cast<size_t>(tokens[blockIdx.x]);
  float* to = x + static_cast<size_t>(blockIdx.x) * table.n_cols;
  for (int32_t unit = threadIdx.x; unit * 8 < table.n_cols; unit += kThreads) {
    float v[8];
    load_unit<F>(table, token, unit, v);
    for (int i = 0; i < 8; i++) to[unit * 8 + i] = v[i];
  }
}

__global__ void __launch_bounds__(kThreads)
    norm_rows_kernel(__nv_bfloat16* h, const float* x, const float* norm, int32_t dim, float eps) {
  __shared__ float shared[kWarps];
  const float* from = x + static_cast<size_t>(blockIdx.x) * dim;
  float sum = 0;
  for (int32_t c = threadIdx.x; c < dim; c += kThreads) sum += from[c] * from[c];
  const float scale = rsqrtf(block_sum<kThreads>(sum, shared) / static_cast<float>(dim) + eps);
  for (int32_t c = threadIdx.x; c < dim; c += kThreads)
    h[static_cast<size_t>(blockIdx.x) * dim + c] = __float2bfloat16_rn(from[c] * scale * norm[c]);
}

/* Numbers 2 pair and 2 pair + 1 of `from`, turned to `position`. */
__device__ __nv_bfloat162 turned(const float* from, int pair, float inv_freq, int32_t position, float scale) {
  float s, c;
  sincosf(static_cast<float>(position) * inv_freq, &s, &c);
  const float even = from[2 * pair], odd = from[2 * pair + 1];
  return __floats2bfloat162_rn((even * c - odd * s) * scale, (even * s + odd * c) * scale);
}

/* One block per token: its cache row, and its queries. */
__global__ void __launch_bounds__(kThreads)
    store_rows_kernel(ChunkBuffers b, StepBuffers cache, const float* norm, int32_t n_blocks, int32_t layer,
                      int32_t first, float eps, float softmax_scale) {
  __shared__ float shared[kWarps];
  const int32_t t = first + static_cast<int32_t>(blockIdx.x);
  const float* kv = b.kv_a + static_cast<size_t>(blockIdx.x) * kRow;
  const size_t place = static_cast<size_t>(layer) * n_blocks + cache.blocks[t / 64];
  __nv_bfloat16* row = cache.cache + (place * 64 + t % 64) * kRow;
  float sum = 0;
  for (int i = threadIdx.x; i < kLatent; i += kThreads) sum += kv[i] * kv[i];
  const float scale = rsqrtf(block_sum<kThreads>(sum, shared) / kLatent + eps);
  for (int i = threadIdx.x; i < kLatent; i += kThreads) row[i] = __float2bfloat16_rn(kv[i] * scale * norm[i]);
  for (int i = threadIdx.x; i < kRope / 2; i += kThreads)
    reinterpret_cast<__nv_bfloat162*>(row + kLatent)[i] = turned(kv + kLatent, i, cache.inv_freq[i], t, 1.0f);
  constexpr int kWidth = kNope + kRope, kPairs = kWidth / 2;
  for (int i = threadIdx.x; i < kHeads * kPairs; i += kThreads) {
    const int h = i / kPairs, pair = i % kPairs, rope_pair = pair - kNope / 2;
    const size_t at = (static_cast<size_t>(blockIdx.x) * kHeads + h) * kWidth;
    reinterpret_cast<__nv_bfloat162*>(b.query + at)[pair] =
        rope_pair < 0 ? __floats2bfloat162_rn(b.q[at + 2 * pair] * softmax_scale,
                                              b.q[at + 2 * pair + 1] * softmax_scale)
                      : turned(b.q + at + kNope, rope_pair, cache.inv_freq[rope_pair], t, softmax_scale);
  }
}

/* One block per pooled row that the chunk touches: the mean of its rows up to position `last`. */
__global__ void __launch_bounds__(kThreads)
    pool_touched_kernel(StepBuffers cache, int32_t n_blocks, int32_t layer, int32_t first, int32_t last) {
  const int32_t index = first / kPoolStride + static_cast<int32_t>(blockIdx.x), t = index * kPoolStride;
  const size_t place = static_cast<size_t>(layer) * n_blocks + cache.blocks[t / 64];
  const __nv_bfloat16* rows = cache.cache + (place * 64 + t % 64) * kRow;
  __nv_bfloat16* pooled = cache.pooled + (place * 4 + index % 4) * kRow;
  const int n = min(kPoolStride, last + 1 - t);
  for (int c = threadIdx.x; c < kRow; c += kThreads) {
    float mean = 0;
    for (int i = 0; i < n; i++) mean += __bfloat162float(rows[i * kRow + c]);
    pooled[c] = __float2bfloat16_rn(mean / static_cast<float>(n));
  }
}

}  // namespace

void launch_embed(const Chunk& c, const WeightView& embedding) {
  for_decode_type(embedding.type, [&]<ek_type F>() {
    launch(c.stream, "embed", {c.n, kThreads}, embed_rows_kernel<F>, c.b.x, embedding, c.b.tokens);
  });
  c.mark("embed");
}

void launch_norm(const Chunk& c, const float* norm) {
  launch(c.stream, "norm", {c.n, kThreads}, norm_rows_kernel, c.b.h, c.b.x, norm, c.shape.hidden,
         c.shape.eps);
  c.mark("norm");
}

void launch_store(const Chunk& c, const LiteLayer& layer, int32_t index) {
  const int32_t last = c.first + c.n - 1;
  launch(c.stream, "store", {c.n, kThreads}, store_rows_kernel, c.b, c.cache, layer.kv_norm, c.shape.n_blocks,
         index, c.first, c.shape.eps, c.shape.softmax_scale);
  launch(c.stream, "pool", {last / kPoolStride - c.first / kPoolStride + 1, kThreads}, pool_touched_kernel,
         c.cache, c.shape.n_blocks, index, c.first, last);
  c.mark("store");
}

}  // namespace ek::cuda
