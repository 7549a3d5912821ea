/* The small kernels around attention: into the latent space (queries, cache row, pooled row) and out of it.
 */
#include "kernels.h"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;
constexpr int kTilesPerHead = kLatent / kRows; /* of W_UK transposed: one group of 128 columns each */
constexpr int kAbsorbBlocks = kHeads * kTilesPerHead / kWarps;

/* Numbers 2 pair and 2 pair + 1 of `from`, turned to `position`. */
__device__ __nv_bfloat162 turned(const float* from, int pair, float inv_freq, int32_t position, float scale) {
  float s, c;
  sincosf(static_cast<float>(position) * inv_freq, &s, &c);
  const float even = from[2 * pair], odd = from[2 * pair + 1];
  return __floats2bfloat162_rn((even * c - odd * s) * scale, (even * s + odd * c) * scale);
}

/* The cache row of the step's token, the pooled row that it belongs to, and the rotary half of the queries.
 */
__device__ void store_row(const StepBuffers& b, const LiteLayer& layer, int32_t n_blocks, int32_t layer_index,
                          float eps, float softmax_scale) {
  __shared__ float shared[kWarps];
  const int32_t t = b.state->position, block = b.blocks[t / 64];
  const size_t place = static_cast<size_t>(layer_index) * n_blocks + block;
  __nv_bfloat16* row = b.cache + (place * 64 + t % 64) * kRow;
  float sum = 0;
  for (int i = threadIdx.x; i < kLatent; i += kThreads) sum += b.kv_a[i] * b.kv_a[i];
  const float scale = rsqrtf(block_sum<kThreads>(sum, shared) / kLatent + eps);
  for (int i = threadIdx.x; i < kLatent; i += kThreads)
    row[i] = __float2bfloat16_rn(b.kv_a[i] * scale * layer.kv_norm[i]);
  for (int i = threadIdx.x; i < kRope / 2; i += kThreads)
    reinterpret_cast<__nv_bfloat162*>(row + kLatent)[i] = turned(b.kv_a + kLatent, i, b.inv_freq[i], t, 1.0f);
  for (int i = threadIdx.x; i < kHeads * kRope / 2; i += kThreads) {
    const int h = i / (kRope / 2), pair = i % (kRope / 2);
    reinterpret_cast<__nv_bfloat162*>(b.query + h * kRow + kLatent)[pair] =
        turned(b.q + h * (kNope + kRope) + kNope, pair, b.inv_freq[pair], t, softmax_scale);
  }
  __syncthreads();
  const int n = t % kPoolStride + 1; /* tokens of the pooled row so far, this one included */
  const __nv_bfloat16* first = b.cache + (place * 64 + t % 64 / kPoolStride * kPoolStride) * kRow;
  __nv_bfloat16* pooled = b.pooled + (place * 4 + t % 64 / kPoolStride) * kRow;
  for (int c = threadIdx.x; c < kRow; c += kThreads) {
    float mean = 0;
    for (int i = 0; i < n; i++) mean += __bfloat162float(first[i * kRow + c]);
    pooled[c] = __float2bfloat16_rn(mean / static_cast<float>(n));
  }
}

/* What the last block of an absorbing kernel does. */
__device__ void store_step(const StepBuffers& b, const LiteLayer& layer, int32_t n_blocks,
                           int32_t layer_index, float eps, float softmax_scale) {
  wait_for_kernel_before();
  store_row(b, layer, n_blocks, layer_index, eps, softmax_scale);
  /* The counters of this layer's router: experts_in counts anew. */
  if (threadIdx.x < 2) b.arrived[threadIdx.x] = 0;
}

/* W_UK transposed. Blocks 0 to kAbsorbBlocks - 1: a warp per 16 latent rows of a head. The last: store_step.
 */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    absorb_kernel(StepBuffers b, LiteLayer layer, int32_t n_blocks, int32_t layer_index, float eps,
                  float softmax_scale) {
  __shared__ uint4 memory[(kUnitsPerGroup * 36 + 64) / 16];
  allow_next_kernel();
  if (blockIdx.x == kAbsorbBlocks) {
    store_step(b, layer, n_blocks, layer_index, eps, softmax_scale);
    return;
  }
  const int lane = threadIdx.x % kWarp, tile = blockIdx.x * kWarps + threadIdx.x / kWarp;
  const int h = tile / kTilesPerHead, row = tile % kTilesPerHead * kRows;
  const Fragment<F> f = load_fragment<F>(layer.k_b, layer.k_b.row(h, row), 0, lane);
  wait_for_kernel_before();
  const Parts x = parts_in(memory, kUnitsPerGroup);
  if (threadIdx.x < kUnitsPerGroup) {
    float v[8];
    for (int i = 0; i < 8; i++) v[i] = b.q[h * (kNope + kRope) + threadIdx.x * 8 + i] * softmax_scale;
    store_unit(x, threadIdx.x, v);
  }
  __syncthreads();
  float y[2] = {};
  multiply_fragment<F>(f, x, 0, lane, y);
  for (int r = 0; r < 2; r++) {
    const float sum = quad_sum(y[r]);
    if (lane % 4 == 0) b.query[h * kRow + row + lane / 4 + 8 * r] = __float2bfloat16_rn(sum);
  }
}

constexpr int kSlices = kThreads / kUnitsPerGroup; /* of a head's plain rows */

/* W_UK as files have it, (nope, latent): the sum runs over rows, which a tensor core would need transposed,
 * so it is done in f32. A block per head and group of latent columns; a thread has 8 columns of a slice of
 * the rows. The last block: store_step. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    absorb_rows_kernel(StepBuffers b, LiteLayer layer, int32_t n_blocks, int32_t layer_index, float eps,
                       float softmax_scale) {
  __shared__ float query[kNope], sums[kSlices][kGroup];
  constexpr int kGroups = kLatent / kGroup;
  allow_next_kernel();
  if (blockIdx.x == kHeads * kGroups) {
    store_step(b, layer, n_blocks, layer_index, eps, softmax_scale);
    return;
  }
  const int h = blockIdx.x / kGroups, group = blockIdx.x % kGroups;
  const int unit = threadIdx.x % kUnitsPerGroup, slice = threadIdx.x / kUnitsPerGroup;
  wait_for_kernel_before();
  for (int i = threadIdx.x; i < kNope; i += kThreads) query[i] = b.q[h * (kNope + kRope) + i] * softmax_scale;
  __syncthreads();
  float sum[8] = {};
#pragma unroll 4
  for (int i = slice; i < kNope; i += kSlices) {
    float w[8];
    load_unit<F>(layer.k_b, layer.k_b.row(h, i), group * kUnitsPerGroup + unit, w);
    for (int c = 0; c < 8; c++) sum[c] = fmaf(query[i], w[c], sum[c]);
  }
  for (int c = 0; c < 8; c++) sums[slice][unit * 8 + c] = sum[c];
  __syncthreads();
  for (int c = threadIdx.x; c < kGroup; c += kThreads) {
    float total = 0;
    for (int i = 0; i < kSlices; i++) total += sums[i][c];
    b.query[h * kRow + group * kGroup + c] = __float2bfloat16_rn(total);
  }
}

/* One block per head and quarter of the latent: combines the splits' latents, then W_UV's columns of that
 * quarter. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) combine_kernel(StepBuffers b, WeightView v_b) {
  constexpr int kQuarter = kLatent / 4;
  __shared__ uint4 memory[(kUnitsPerGroup * 36 + 64) / 16];
  __shared__ float weight[kSplits], shared[kWarps], partial[2][kQuarter];
  static_assert(kQuarter == kGroup && kSplits <= kThreads && kValue == kWarps * kRows, "a group per block");
  const int h = blockIdx.x / 4, quarter = blockIdx.x % 4;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  allow_next_kernel();
  const Fragment<F> f = load_fragment<F>(v_b, v_b.row(h, warp * kRows), quarter, lane);
  wait_for_kernel_before();
  const bool has = threadIdx.x < kSplits;
  const float split_sum = has ? b.part_sum[threadIdx.x * kHeads + h] : 0.0f;
  const float split_max =
      split_sum > 0 || isnan(split_sum) ? b.part_max[threadIdx.x * kHeads + h] : -INFINITY;
  const float top = block_max<kThreads>(split_max, shared);
  const float w = split_max == -INFINITY ? 0.0f : expf(split_max - top);
  const float total = block_sum<kThreads>(w * split_sum, shared);
  if (has) weight[threadIdx.x] = w / total;
  __syncthreads();
  const int c = threadIdx.x % kQuarter, half = threadIdx.x / kQuarter;
  float sum = 0;
#pragma unroll 8
  for (int s = half; s < kSplits; s += 2) {
    /* Splits without a row wrote nothing. */
    if (weight[s] != 0.0f)
      sum = fmaf(weight[s], b.part[(static_cast<size_t>(s) * kHeads + h) * kLatent + quarter * kQuarter + c],
                 sum);
  }
  partial[half][c] = sum;
  __syncthreads();
  const Parts x = parts_in(memory, kUnitsPerGroup);
  if (threadIdx.x < kUnitsPerGroup) {
    float v[8];
    for (int i = 0; i < 8; i++) v[i] = partial[0][threadIdx.x * 8 + i] + partial[1][threadIdx.x * 8 + i];
    store_unit(x, threadIdx.x, v);
  }
  __syncthreads();
  float y[2] = {};
  multiply_fragment<F>(f, x, 0, lane, y);
  for (int r = 0; r < 2; r++) {
    const float value = quad_sum(y[r]);
    if (lane % 4 == 0)
      b.heads_part[(quarter * kHeads + h) * kValue + warp * kRows + lane / 4 + 8 * r] = value;
  }
}

}  // namespace

void launch_absorb(const Step& s, const LiteLayer& layer, int32_t layer_index) {
  const bool transposed = is_transposed(layer.k_b);
  for_decode_type(layer.k_b.type, [&]<ek_type F>() {
    launch_overlapped(s, "absorb", transposed ? absorb_kernel<F> : absorb_rows_kernel<F>,
                      transposed ? kAbsorbBlocks + 1 : kHeads * (kLatent / kGroup) + 1, kThreads, 0, s.b,
                      layer, s.shape.n_blocks, layer_index, s.shape.eps, s.shape.softmax_scale);
  });
}

void launch_combine(const Step& s, const LiteLayer& layer) {
  for_decode_type(layer.v_b.type, [&]<ek_type F>() {
    launch_overlapped(s, "combine", combine_kernel<F>, kHeads * 4, kThreads, 0, s.b, layer.v_b);
  });
}

}  // namespace ek::cuda
