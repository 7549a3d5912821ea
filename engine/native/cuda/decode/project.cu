/* Matrix-vector products of a decode step: into attention, out of it, and the head. */
#include "kernels.h"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;

/* Sums of the warps' shares of 16 rows; thread r < 16 gets row r. shared: kWarps x 16 floats. */
__device__ float sum_over_warps(const float (&y)[2], float* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const float first = quad_sum(y[0]), second = quad_sum(y[1]);
  if (lane % 4 == 0) {
    shared[warp * kRows + lane / 4] = first;
    shared[warp * kRows + lane / 4 + 8] = second;
  }
  __syncthreads();
  float sum = 0;
  if (threadIdx.x < kRows) {
    for (int w = 0; w < kWarps; w++) sum += shared[w * kRows + threadIdx.x];
  }
  return sum;
}

/* One block per 16 rows of q, then of kv_a; the warps share the columns. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) project_in_kernel(StepBuffers b, WeightView q, WeightView kv_a,
                                                              const float* norm, int32_t hidden, float eps) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kWarps * kRows];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t q_tiles = q.n_rows / kRows, tile = blockIdx.x;
  const bool is_q = tile < q_tiles;
  const WeightView w = is_q ? q : kv_a;
  const int32_t row = (is_q ? tile : tile - q_tiles) * kRows, n_units = w.n_groups * kUnitsPerGroup;
  allow_next_kernel();
  Fragment<F> next;
  if (warp < w.n_groups) next = load_fragment<F>(w, row, warp, lane);
  wait_for_kernel_before();
  const Parts x = parts_in(memory, n_units);
  stage_normed<kThreads>(x, b.x, norm, hidden, n_units, eps, shared);
  __syncthreads();
  float y[2] = {};
  for (int32_t group = warp; group < w.n_groups; group += kWarps) {
    const Fragment<F> now = next;
    if (group + kWarps < w.n_groups) next = load_fragment<F>(w, row, group + kWarps, lane);
    multiply_fragment<F>(now, x, group, lane, y);
  }
  const float sum = sum_over_warps(y, shared);
  if (threadIdx.x < kRows) (is_q ? b.q : b.kv_a)[row + threadIdx.x] = sum;
}

/* One block per 16 rows of the output projection; its input is the sum of four parts. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) project_out_kernel(StepBuffers b, WeightView w) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kWarps * kRows];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t row = blockIdx.x * kRows, n_units = w.n_groups * kUnitsPerGroup;
  allow_next_kernel();
  Fragment<F> next;
  if (warp < w.n_groups) next = load_fragment<F>(w, row, warp, lane);
  wait_for_kernel_before();
  const Parts x = parts_in(memory, n_units);
  for (int32_t unit = threadIdx.x; unit < n_units; unit += kThreads) {
    float v[8];
    for (int i = 0; i < 8; i++) {
      const float* part = b.heads_part + unit * 8 + i;
      constexpr int kWidth = kHeads * kValue;
      v[i] = (part[0] + part[kWidth]) + (part[2 * kWidth] + part[3 * kWidth]);
    }
    store_unit(x, unit, v);
  }
  __syncthreads();
  float y[2] = {};
  for (int32_t group = warp; group < w.n_groups; group += kWarps) {
    const Fragment<F> now = next;
    if (group + kWarps < w.n_groups) next = load_fragment<F>(w, row, group + kWarps, lane);
    multiply_fragment<F>(now, x, group, lane, y);
  }
  const float sum = sum_over_warps(y, shared);
  if (threadIdx.x < kRows) b.x[row + threadIdx.x] += sum;
}

/* A warp per 16 rows of the vocabulary, in turns over the whole grid. Remembers each block's best token. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    head_kernel(StepBuffers b, WeightView w, const float* norm, int32_t hidden, float eps) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kWarps];
  __shared__ Candidate shared_best[kWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t n_units = w.n_groups * kUnitsPerGroup, n_tiles = w.n_rows / kRows;
  const int32_t step = gridDim.x * kWarps;
  int32_t tile = blockIdx.x * kWarps + warp;
  allow_next_kernel();
  Fragment<F> next;
  if (tile < n_tiles) next = load_fragment<F>(w, static_cast<size_t>(tile) * kRows, 0, lane);
  wait_for_kernel_before();
  const Parts x = parts_in(memory, n_units);
  stage_normed<kThreads>(x, b.x, norm, hidden, n_units, eps, shared);
  __syncthreads();
  Candidate best{0, -1};
  for (; tile < n_tiles; tile += step) {
    const size_t row = static_cast<size_t>(tile) * kRows;
    float y[2] = {};
    for (int32_t group = 0; group < w.n_groups; group++) {
      const Fragment<F> now = next;
      if (group + 1 < w.n_groups) {
        next = load_fragment<F>(w, row, group + 1, lane);
      } else if (tile + step < n_tiles) {
        next = load_fragment<F>(w, row + static_cast<size_t>(step) * kRows, 0, lane);
      }
      multiply_fragment<F>(now, x, group, lane, y);
    }
    for (int r = 0; r < 2; r++) {
      const float logit = quad_sum(y[r]);
      const int32_t id = static_cast<int32_t>(row) + lane / 4 + 8 * r;
      if (lane % 4 == 0) b.logits[id] = logit;
      if (lane % 4 == 0 && !isnan(logit)) best = better(best, {logit, id});
    }
  }
  best = block_best<kThreads>(best, shared_best);
  if (threadIdx.x == 0) b.best[blockIdx.x] = {best.value, best.index};
}

/* One block: the best of all blocks becomes the token, and its embedding the residual of the next step. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    next_kernel(StepBuffers b, WeightView embedding, int32_t hidden, bool choose) {
  __shared__ Candidate shared[kWarps];
  allow_next_kernel();
  wait_for_kernel_before();
  int32_t token = b.state->token;
  if (choose) {
    Candidate best{0, -1};
    for (int32_t i = threadIdx.x; i < kHeadBlocks; i += kThreads)
      best = better(best, {b.best[i].value, b.best[i].index});
    best = block_best<kThreads>(best, shared);
    token = best.index < 0 ? 0 : best.index;
    if (threadIdx.x == 0) {
      b.state->token = token;
      b.state->position++;
    }
  }
  for (int32_t unit = threadIdx.x; unit * 8 < hidden; unit += kThreads) {
    float v[8];
    load_unit<F>(embedding, static_cast<size_t>(token), unit, v);
    for (int i = 0; i < 8; i++) b.x[unit * 8 + i] = v[i];
  }
}

}  // namespace

void launch_project_in(const Step& s, const LiteLayer& layer) {
  const auto launch_both = [&](const WeightView& q, const WeightView& kv_a) {
    for_decode_type(q.n_rows > 0 ? q.type : kv_a.type, [&]<ek_type F>() {
      launch_overlapped(s, "project_in", project_in_kernel<F>, (q.n_rows + kv_a.n_rows) / kRows, kThreads,
                        parts_bytes(q.n_groups * kUnitsPerGroup), s.b, q, kv_a, layer.attn_norm,
                        s.shape.hidden, s.shape.eps);
    });
  };
  if (layer.q.type == layer.kv_a.type) return launch_both(layer.q, layer.kv_a);
  WeightView no_q = layer.q, no_kv_a = layer.kv_a;
  no_q.n_rows = no_kv_a.n_rows = 0;
  launch_both(layer.q, no_kv_a);
  launch_both(no_q, layer.kv_a);
}

void launch_project_out(const Step& s, const LiteLayer& layer) {
  for_decode_type(layer.out.type, [&]<ek_type F>() {
    launch_overlapped(s, "project_out", project_out_kernel<F>, layer.out.n_rows / kRows, kThreads,
                      parts_bytes(layer.out.n_groups * kUnitsPerGroup), s.b, layer.out);
  });
}

void launch_head(const Step& s, const LiteWeights& w) {
  for_decode_type(w.head.type, [&]<ek_type F>() {
    launch_overlapped(s, "head", head_kernel<F>, kHeadBlocks, kThreads,
                      parts_bytes(w.head.n_groups * kUnitsPerGroup), s.b, w.head, w.norm, s.shape.hidden,
                      s.shape.eps);
  });
}

void launch_next(const Step& s, const LiteWeights& w, bool choose) {
  for_decode_type(w.embedding.type, [&]<ek_type F>() {
    launch_overlapped(s, "next", next_kernel<F>, 1, kThreads, 0, s.b, w.embedding, s.shape.hidden, choose);
  });
}

}  // namespace ek::cuda
