/* What a chunk does row by row: embedding, normalisation, cache rows, queries. */
#include "../decode/rows.cuh"
#include "../device/e4m3.cuh"
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
  wait_for_kernel_before();
  allow_next_kernel();
  const float* from = x + static_cast<size_t>(blockIdx.x) * dim;
  float sum = 0;
  for (int32_t c = threadIdx.x; c < dim; c += kThreads) sum += from[c] * from[c];
  const float scale = rsqrtf(block_sum<kThreads>(sum, shared) / static_cast<float>(dim) + eps);
  for (int32_t c = threadIdx.x; c < dim; c += kThreads)
    h[static_cast<size_t>(blockIdx.x) * dim + c] = __float2bfloat16_rn(from[c] * scale * norm[c]);
}

/* Cosine and sine of a pair's angle, as the decoder has them. */
__device__ float2 angle_of(float inv_freq, int32_t position) {
  float2 turn;
  sincosf(static_cast<float>(position) * inv_freq, &turn.y, &turn.x);
  return turn;
}

/* One block per token: its cache row, and its queries. */
__global__ void __launch_bounds__(kThreads)
    store_rows_kernel(ChunkBuffers b, StepBuffers cache, const float* norm, int32_t n_blocks, int32_t layer,
                      int32_t first, float eps, float softmax_scale) {
  static_assert(kThreads == kRowThreads, "the threads of a block make a row");
  wait_for_kernel_before();
  allow_next_kernel();
  const int32_t t = first + static_cast<int32_t>(blockIdx.x);
  const int own = static_cast<int>(threadIdx.x);
  const size_t place = static_cast<size_t>(layer) * n_blocks + cache.blocks[t / 64];
  const RowPairs kv = load_row_pairs(b.kv_a + static_cast<size_t>(blockIdx.x) * kRow);
  const float2 turn = own < kRope / 2 ? angle_of(cache.inv_freq[own], t) : float2{1, 0};
  const RowPairs row = store_row_pairs(cache.cache, place * 64 + t % 64, kv,
                                       reinterpret_cast<const float2*>(norm)[own], turn, eps);
  if (t % kTileQueries == 0) {
    const size_t tile = static_cast<size_t>(t / kTileQueries - first / kTileQueries);
    __nv_bfloat162* to = reinterpret_cast<__nv_bfloat162*>(b.tile_row + tile * kRow);
    to[own] = __floats2bfloat162_rn(row.latent.x, row.latent.y);
    if (own < kRope / 2) to[kLatent / 2 + own] = __floats2bfloat162_rn(row.rope.x, row.rope.y);
  }
  constexpr int kWidth = kNope + kRope, kPairs = kWidth / 2;
  for (int i = threadIdx.x; i < kHeads * kPairs; i += kThreads) {
    const int h = i / kPairs, pair = i % kPairs, rope_pair = pair - kNope / 2;
    const size_t at = (static_cast<size_t>(blockIdx.x) * kHeads + h) * kWidth;
    reinterpret_cast<__nv_bfloat162*>(b.query + at)[pair] =
        rope_pair < 0 ? __floats2bfloat162_rn(b.q[at + 2 * pair] * softmax_scale,
                                              b.q[at + 2 * pair + 1] * softmax_scale)
                      : turned({b.q[at + 2 * pair], b.q[at + 2 * pair + 1]},
                               angle_of(cache.inv_freq[rope_pair], t), softmax_scale);
  }
}

/* One block per pooled row that the chunk touches: the mean of its rows, as the cache has them, up to
 * position `last`. */
template <RowFormat R>
__global__ void __launch_bounds__(kThreads)
    pool_touched_kernel(StepBuffers cache, int32_t n_blocks, int32_t layer, int32_t first, int32_t last) {
  wait_for_kernel_before();
  allow_next_kernel();
  const int32_t index = first / kPoolStride + static_cast<int32_t>(blockIdx.x), t = index * kPoolStride;
  const size_t place = static_cast<size_t>(layer) * n_blocks + cache.blocks[t / 64];
  const uint8_t* rows = cache.cache.row(place * 64 + t % 64);
  __nv_bfloat162* pooled = reinterpret_cast<__nv_bfloat162*>(cache.pooled + (place * 4 + index % 4) * kRow);
  const int n = min(kPoolStride, last + 1 - t);
  for (int pair = threadIdx.x; pair < kRow / 2; pair += kThreads) {
    float2 sum{0, 0};
    for (int i = 0; i < n; i++) {
      const float2 v = cached_pair<R>(rows + i * cache_row_bytes(R), pair);
      sum = {sum.x + v.x, sum.y + v.y};
    }
    const float tokens = static_cast<float>(n);
    pooled[pair] = __floats2bfloat162_rn(sum.x / tokens, sum.y / tokens);
  }
}

/* The latents of rows of fp8 as bf16, (n, latent): grid (4 rows). Rows as those of GemmRows. */
__global__ void __launch_bounds__(kThreads)
    unpack_rows_kernel(__nv_bfloat16* out, const uint8_t* cache, GemmRows rows, int32_t n) {
  constexpr int kUnits = kLatent / 8, kBytes = cache_row_bytes(RowFormat::kFp8);
  const int32_t r = static_cast<int32_t>(blockIdx.x) * (kThreads / kUnits) + threadIdx.x / kUnits;
  if (r >= rows.existing(n)) return;
  const int unit = threadIdx.x % kUnits;
  const uint8_t* row = cache + rows.index(r) * kBytes;
  const uint2 v = reinterpret_cast<const uint2*>(row)[unit];
  const uint32_t by = e4m3_factor(reinterpret_cast<const float*>(row + kLatent)[unit * 8 / kScaledLatents]);
  reinterpret_cast<uint4*>(out + static_cast<size_t>(r) * kLatent)[unit] = {
      e4m3_pair(v.x, 0, by), e4m3_pair(v.x, 1, by), e4m3_pair(v.y, 0, by), e4m3_pair(v.y, 1, by)};
}

}  // namespace

void launch_embed(const Chunk& c, const WeightView& embedding) {
  for_decode_type(embedding.type, [&]<ek_type F>() {
    launch(c.stream, "embed", {c.n, kThreads}, embed_rows_kernel<F>, c.b.x, embedding, c.b.tokens);
  });
  c.mark("embed");
}

void launch_norm(const Chunk& c, const float* norm) {
  launch(c.stream, "norm", {c.n, kThreads, 0, true}, norm_rows_kernel, c.b.h, c.b.x, norm, c.shape.hidden,
         c.shape.eps);
  c.mark("norm");
}

void launch_store(const Chunk& c, const LiteLayer& layer, int32_t index) {
  const int32_t last = c.first + c.n - 1;
  launch(c.stream, "store", {c.n, kThreads, 0, true}, store_rows_kernel, c.b, c.cache, layer.kv_norm,
         c.shape.n_blocks, index, c.first, c.shape.eps, c.shape.softmax_scale);
  for_row_format(c.cache.cache.format, [&]<RowFormat R>() {
    launch(c.stream, "pool", {last / kPoolStride - c.first / kPoolStride + 1, kThreads, 0, true},
           pool_touched_kernel<R>, c.cache, c.shape.n_blocks, index, c.first, last);
  });
  c.mark("store");
}

GemmRows launch_latents(const Chunk& c, int32_t index, const GemmRows& rows, int32_t n) {
  const CachedRows& cache = c.cache.cache;
  const uint8_t* of_layer =
      cache.row(static_cast<size_t>(index) * static_cast<size_t>(c.shape.n_blocks) * 64);
  if (cache.format == RowFormat::kBf16) {
    GemmRows out = rows;
    out.a = reinterpret_cast<const __nv_bfloat16*>(of_layer);
    out.width = kRow;
    return out;
  }
  launch(c.stream, "unpack_rows", {ceil_div(n, kThreads / (kLatent / 8)), kThreads}, unpack_rows_kernel,
         c.b.latents, of_layer, rows, n);
  c.mark("unpack");
  return {c.b.latents, kLatent, nullptr, nullptr, rows.first, rows.n_blocks};
}

}  // namespace ek::cuda
