/* The token's cache row, the pooled row that it completes, and attention to the pooled rows. */
#include "tile.cuh"

namespace ek::cuda::narrow {

namespace {

constexpr int kRowDim = kLatent + 2 * kRope;

__device__ inline float as_stored(float x) { return __half2float(__float2half_rn(x)); }

/* Where a position's cache row begins. */
__device__ inline __half* row_of(const Buffers& b, int32_t layer, int32_t position) {
  const size_t at = b.kv.block_at(layer, b.blocks[position / EK_KV_BLOCK]) +
                    static_cast<size_t>(position % EK_KV_BLOCK) * kRowDim;
  return static_cast<__half*>(b.kv.base) + at;
}

/* Where pooled row i begins: its key, or its value. */
__device__ inline __half* pooled_of(const Buffers& b, int32_t layer, int32_t i, bool value) {
  const int32_t last = kPoolStride * i + kPoolLength - 1, slot = last % EK_KV_BLOCK / kPoolStride;
  const size_t block = b.kv.block_at(layer, b.blocks[last / EK_KV_BLOCK]);
  return static_cast<__half*>(b.kv.base) + block +
         (value ? b.kv.pooled_v_at + static_cast<size_t>(slot) * kLatent
                : b.kv.pooled_k_at + static_cast<size_t>(slot) * kWidth);
}

/* row (kRowDim): the token's row as it is stored, [c | rotated k | k]. Ends in a barrier. */
__device__ void make_row(float* row, const Buffers& b, const Layer& l, float eps) {
  __shared__ float shared[kWarps];
  const int32_t i = threadIdx.x;
  const float x = i < kLatent ? b.kv_a[i] : 0.0f;
  const float sum = block_sum<kThreads>(x * x, shared);
  if (i < kLatent) {
    row[i] = as_stored(x * (1.0f / sqrtf(sum / static_cast<float>(kLatent) + eps)) * l.kv_norm[i]);
  } else if (i < kLatent + kRope / 2) {
    const int32_t pair = i - kLatent, at = kLatent + 2 * pair;
    const float even = b.kv_a[at], odd = b.kv_a[at + 1];
    const float2 turn = b.turn[pair];
    row[at] = as_stored(even * turn.x - odd * turn.y);
    row[at + 1] = as_stored(even * turn.y + odd * turn.x);
    row[at + kRope] = as_stored(even);
    row[at + kRope + 1] = as_stored(odd);
  }
  __syncthreads();
}

/* The pooled row whose last token is the step's, to the cache and to row `r` of the tile. A thread has a
 * column; neighbours are a rotary pair. */
__device__ void pool_newest(Tile& tile, int32_t r, const Buffers& b, const Layer& l, int32_t layer,
                            int32_t index, float eps) {
  __shared__ float newest[kRowDim];
  make_row(newest, b, l, eps);
  const int32_t i = threadIdx.x, first = kPoolStride * index;
  if (i >= kWidth) return;
  const bool rotary = i >= kLatent;
  const int32_t from = rotary ? i + kRope : i; /* the key before rotation lies behind the rotated one */
  float k = 0, v = 0;
  for (int32_t m = 0; m < kPoolLength; m++) {
    const float x = m == kPoolLength - 1 ? newest[from] : __half2float(row_of(b, layer, first + m)[from]);
    k = fmaf(l.cmp_k[m * kWidth + i], x, k);
    if (!rotary) v = fmaf(l.cmp_v[m * kLatent + i], x, v);
  }
  const float other = __shfl_xor_sync(0xffffffffu, k, 1);
  if (rotary) {
    float s, c;
    sincosf(static_cast<float>(first) * b.inv_freq[(i - kLatent) / 2], &s, &c);
    k = i % 2 == 0 ? k * c - other * s : other * s + k * c;
  }
  const __half key = __float2half_rn(k), value = __float2half_rn(v);
  tile.keys[r * kKeyPitch + i] = pooled_of(b, layer, index, false)[i] = key;
  if (!rotary) tile.values[r * kValuePitch + i] = pooled_of(b, layer, index, true)[i] = value;
}

/* A block per 32 pooled rows; the last one stores the token's row. */
__global__ void __launch_bounds__(kThreads) pooled_kernel(Buffers b, Layer l, Shape s, int32_t layer) {
  allow_next_kernel();
  /* project has begun, so the step before is done: its state and rows are there. */
  const int32_t t = b.state->position, visible = b.kv.n_visible(t);
  if (blockIdx.x == gridDim.x - 1) {
    __shared__ float row[kRowDim];
    wait_for_kernel_before();
    make_row(row, b, l, s.eps);
    for (int32_t i = threadIdx.x; i < kRowDim; i += kThreads)
      row_of(b, layer, t)[i] = __float2half_rn(row[i]);
    return;
  }
  Tile& tile = *dynamic_shared<Tile>();
  const int32_t split = blockIdx.x, first = split * kTileRows, n = min(kTileRows, visible - first);
  if (n <= 0) return wait_for_kernel_before();
  const int32_t newest = b.kv.n_visible(t - 1) < visible ? visible - 1 - first : -1;
  for (const bool value : {false, true}) {
    copy_rows(value ? tile.values : tile.keys, value ? kValuePitch : kKeyPitch, value ? kLatent : kWidth,
              newest, [&](int r) { return r < n ? pooled_of(b, layer, first + r, value) : nullptr; });
  }
  copy_async_commit();
  wait_for_kernel_before();
  load_query(tile, b.query);
  if (newest >= 0 && newest < n) pool_newest(tile, newest, b, l, layer, first + newest, s.eps);
  copy_async_wait<0>();
  __syncthreads();
  const float score = score_of(tile);
  const int32_t row = threadIdx.x / kMostHeads;
  if (row < n) b.scores[static_cast<size_t>(first) * kMostHeads + threadIdx.x] = score;
  weigh<1>(tile, score, {row < n}, {b.pooled_max + split * kMostHeads}, {b.pooled_sum + split * kMostHeads});
  float* const out[1] = {b.pooled_part + static_cast<size_t>(split) * s.n_heads * kLatent};
  sum_values<1>(tile, tile.values, kValuePitch, {true}, out, s.n_heads);
}

}  // namespace

void launch_pooled(const Step& s, const Layer& layer, int32_t layer_index, int32_t n_splits) {
  s.run("pooled", n_splits + 1, sizeof(Tile), pooled_kernel, s.b, layer, s.shape, layer_index);
}

}  // namespace ek::cuda::narrow
