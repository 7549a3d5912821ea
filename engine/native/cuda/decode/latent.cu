/* The small kernels around attention: into the latent space (queries, cache row, pooled row) and out of it.
 */
#include "route.cuh"
#include "rows.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;
constexpr int kTilesPerHead = kLatent / kRows; /* of W_UK transposed: one group of 128 columns each */
constexpr int kAbsorbBlocks = kHeads * kTilesPerHead / kWarps;

static_assert(kThreads == kRowThreads, "the threads of a block make a row");

/* The cache rows of a sequence's tokens in this step, from token `token` on, and the pooled rows that they
 * belong to, which are made of what the cache holds. A thread has its columns of all rows, so that the other
 * rows of the first pool load while the first row is made. */
__device__ void store_rows(const StepBuffers& all, int32_t token, const LiteLayer& layer, int32_t n_blocks,
                           int32_t layer_index, float eps) {
  const StepState first = *all.of_token(token).state;
  if (first.position != first.first) return; /* an earlier block stores it */
  const int i = static_cast<int>(threadIdx.x);
  const bool turns = i < kRope / 2; /* has a pair of the rotated part as well */
  const float2 norm = reinterpret_cast<const float2*>(layer.kv_norm)[i];
  RowPairs sum{};
  for (int32_t j = 0; j < first.n_left; j++) {
    const TokenBuffers b = all.of_token(token + j);
    const int32_t t = first.position + j, in_pool = t % kPoolStride;
    const size_t place = static_cast<size_t>(layer_index) * n_blocks + b.state->block,
                 index = place * 64 + t % 64;
    const RowPairs kv = load_row_pairs(b.kv_a);
    const float2 turn = b.turn[turns ? i : 0];
    if (in_pool == 0) sum = {};
    if (j == 0)
      sum = for_row_format(all.cache.format, [&]<RowFormat R>() {
        return sum_rows_before<kPoolStride, R>(all.cache, index, in_pool);
      });
    sum = sum_of(sum, store_row_pairs(all.cache, index, kv, norm, turn, eps));
    const float tokens = static_cast<float>(in_pool + 1);
    const auto store = [&](__nv_bfloat16* to) {
      __nv_bfloat162* pairs = reinterpret_cast<__nv_bfloat162*>(to);
      pairs[i] = __floats2bfloat162_rn(sum.latent.x / tokens, sum.latent.y / tokens);
      if (turns) pairs[kLatent / 2 + i] = __floats2bfloat162_rn(sum.rope.x / tokens, sum.rope.y / tokens);
    };
    store(b.own_pooled);
    if (j == first.n_left - 1 || in_pool == kPoolStride - 1)
      store(all.pooled + (place * 4 + t % 64 / kPoolStride) * kRow);
  }
}

/* The rotary half of all queries. */
__device__ void turn_queries(const TokenBuffers& b, float softmax_scale) {
  for (int i = threadIdx.x; i < kHeads * kRope / 2; i += kThreads) {
    const int h = i / (kRope / 2), pair = i % (kRope / 2);
    const float2 v = reinterpret_cast<const float2*>(b.q + h * (kNope + kRope) + kNope)[pair];
    reinterpret_cast<__nv_bfloat162*>(b.query + h * kRow + kLatent)[pair] =
        turned(v, b.turn[pair], softmax_scale);
  }
}

/* What the last two blocks of an absorbing kernel do. */
constexpr int kStepBlocks = 2;
__device__ void store_step(const StepBuffers& all, const LiteLayer& layer, int32_t n_blocks,
                           int32_t layer_index, float eps, float softmax_scale) {
  wait_for_kernel_before();
  allow_next_kernel();
  if (blockIdx.x + 1 < gridDim.x) return turn_queries(all.of_token(blockIdx.y), softmax_scale);
  store_rows(all, blockIdx.y, layer, n_blocks, layer_index, eps);
}

/* These kernels let the next one begin when the one before is done, not earlier: attention and scores load
 * what earlier steps stored, and need the step's state for that, before they wait. */

/* W_UK transposed. Blocks 0 to kAbsorbBlocks - 1: a warp per 16 latent rows of a head. The last two:
 * store_step.
 */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    absorb_kernel(StepBuffers all, LiteLayer layer, int32_t n_blocks, int32_t layer_index, float eps,
                  float softmax_scale) {
  __shared__ uint4 memory[kStagedGroup];
  if (blockIdx.x >= kAbsorbBlocks) {
    store_step(all, layer, n_blocks, layer_index, eps, softmax_scale);
    return;
  }
  const TokenBuffers b = all.of_token(blockIdx.y);
  const int lane = threadIdx.x % kWarp, tile = blockIdx.x * kWarps + threadIdx.x / kWarp;
  const int h = tile / kTilesPerHead, row = tile % kTilesPerHead * kRows;
  const Fragment<F> f = load_fragment<F>(layer.k_b, layer.k_b.row(h, row), 0, lane);
  wait_for_kernel_before();
  allow_next_kernel();
  const Staged<F> x = staged_in<Staged<F>>(memory, 1);
  stage_group(x, b.q + h * (kNope + kRope), softmax_scale);
  __syncthreads();
  float y[2] = {};
  multiply(f, x, 0, lane, y);
  for (int r = 0; r < 2; r++) {
    const float sum = quad_sum(y[r]);
    if (lane % 4 == 0) b.query[h * kRow + row + lane / 4 + 8 * r] = __float2bfloat16_rn(sum);
  }
}

constexpr int kSlices = kThreads / kUnitsPerGroup; /* of a head's plain rows */

/* W_UK as files have it, (nope, latent): the sum runs over rows, which a tensor core would need transposed,
 * so it is done in f32. A block per head and group of latent columns; a thread has 8 columns of a slice of
 * the rows. The last two blocks: store_step. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    absorb_rows_kernel(StepBuffers all, LiteLayer layer, int32_t n_blocks, int32_t layer_index, float eps,
                       float softmax_scale) {
  __shared__ float query[kNope], sums[kSlices][kGroup];
  constexpr int kGroups = kLatent / kGroup;
  if (blockIdx.x >= kHeads * kGroups) {
    store_step(all, layer, n_blocks, layer_index, eps, softmax_scale);
    return;
  }
  const TokenBuffers b = all.of_token(blockIdx.y);
  const int h = blockIdx.x / kGroups, group = blockIdx.x % kGroups;
  const int unit = threadIdx.x % kUnitsPerGroup, slice = threadIdx.x / kUnitsPerGroup;
  wait_for_kernel_before();
  allow_next_kernel();
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

constexpr int kCombineBlocks = kHeads * 4;

/* One block per head and quarter of the latent: combines the splits' latents, then W_UV's columns of that
 * quarter. The blocks behind them route what was there before attention. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(StepBuffers all, WeightView v_b, const float* router, const float* ffn_norm,
                   int32_t n_experts, int32_t hidden) {
  __shared__ uint4 memory[kStagedGroup];
  __shared__ float latent[kGroup];
  __shared__ float4 partial[kWarps][kGroup / 4];
  static_assert(kLatent / 4 == kGroup && kSplits == kWarp * kWarps && kWarps == 8 && kValue == kWarps * kRows,
                "a group per block");
  const TokenBuffers b = all.of_token(blockIdx.y);
  allow_next_kernel();
  if (blockIdx.x >= kCombineBlocks) {
    const auto four = [](const float* from, int32_t c) { return *reinterpret_cast<const float4*>(from + c); };
    route_rows(
        static_cast<int32_t>(blockIdx.x) - kCombineBlocks, n_experts, hidden,
        [&](int32_t row, int32_t c) {
          return times(four(router + static_cast<size_t>(row) * hidden, c), four(ffn_norm, c));
        },
        [&](int32_t c) { return four(b.x, c); },
        [&](int32_t expert, float product) { b.router_before[expert] = product; });
    return;
  }
  const int h = blockIdx.x / 4, quarter = blockIdx.x % 4;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const Fragment<F> f = load_fragment<F>(v_b, v_b.row(h, warp * kRows), quarter, lane);
  const int32_t n_splits = b.state->position / 64 + 1; /* attention has begun, so the state is there */
  wait_for_kernel_before();
  const float* part =
      b.part + (static_cast<size_t>(warp) * kHeads + h) * kLatent + quarter * kGroup + lane * 4;
  const auto part_of = [&](int round) {
    return *reinterpret_cast<const float4*>(part + static_cast<size_t>(round) * kWarps * kHeads * kLatent);
  };
  /* The first rounds load beside their weights; a short sequence has no more splits than blocks. */
  constexpr int kEarly = 8;
  float4 early[kEarly];
#pragma unroll
  for (int i = 0; i < kEarly; i++) early[i] = i * kWarps + warp < n_splits ? part_of(i) : float4{0, 0, 0, 0};
  /* Lane i has splits 8 i to 8 i + 7, of which warp w then takes the w-th. */
  const float* sums = b.part_sum + h * kSplits + lane * kWarps;
  const float* tops = b.part_max + h * kSplits + lane * kWarps;
  float split_sum[kWarps], split_top[kWarps], top = -INFINITY, total = 0, own = 0;
  take_eight(load_eight(sums), split_sum);
  take_eight(load_eight(tops), split_top);
  for (int i = 0; i < kWarps; i++) {
    /* Splits without a row wrote no maximum. */
    if (split_sum[i] == 0.0f) split_top[i] = -INFINITY;
    top = fmaxf(top, split_top[i]);
  }
  top = warp_max(top);
  for (int i = 0; i < kWarps; i++) {
    const float w = split_sum[i] == 0.0f ? 0.0f : expf(split_top[i] - top);
    total += w * split_sum[i];
    if (i == warp) own = w;
  }
  own /= warp_sum(total);
  const int n_rounds = kWarp - __clz(static_cast<int>(__ballot_sync(0xffffffffu, own != 0.0f)));
  float4 sum{0, 0, 0, 0};
  const auto add = [&](float by, const float4& v) {
    if (by == 0.0f) return;
    sum = {fmaf(by, v.x, sum.x), fmaf(by, v.y, sum.y), fmaf(by, v.z, sum.z), fmaf(by, v.w, sum.w)};
  };
#pragma unroll
  for (int i = 0; i < kEarly; i++) add(__shfl_sync(0xffffffffu, own, i), early[i]);
#pragma unroll 8
  for (int i = kEarly; i < n_rounds; i++) {
    const float by = __shfl_sync(0xffffffffu, own, i);
    add(by, by != 0.0f ? part_of(i) : float4{0, 0, 0, 0});
  }
  partial[warp][lane] = sum;
  __syncthreads();
  if (threadIdx.x < kGroup) {
    float all = 0;
    for (int i = 0; i < kWarps; i++) all += reinterpret_cast<const float*>(partial[i])[threadIdx.x];
    latent[threadIdx.x] = all;
  }
  __syncthreads();
  const Staged<F> x = staged_in<Staged<F>>(memory, 1);
  stage_group(x, latent, 1.0f);
  __syncthreads();
  float y[2] = {};
  multiply(f, x, 0, lane, y);
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
                      {(transposed ? kAbsorbBlocks : kHeads * (kLatent / kGroup)) + kStepBlocks, s.n_tokens},
                      kThreads, 0, s.b, layer, s.shape.n_blocks, layer_index, s.shape.eps,
                      s.shape.softmax_scale);
  });
}

void launch_combine(const Step& s, const LiteLayer& layer) {
  for_decode_type(layer.v_b.type, [&]<ek_type F>() {
    launch_overlapped(
        s, "combine", combine_kernel<F>,
        {kCombineBlocks + (layer.router == nullptr ? 0 : route_blocks(s.shape.n_experts)), s.n_tokens},
        kThreads, 0, s.b, layer.v_b, layer.router, layer.ffn_norm, s.shape.n_experts, s.shape.hidden);
  });
}

}  // namespace ek::cuda
