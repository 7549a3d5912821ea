/* Matrix-vector products of a decode step: into attention, out of it, and the head. */
#include "route.cuh"

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

/* Where the warps of a block share the columns of 16 rows, each has every kWarps-th turn: one, or two of
 * bf16. */
template <ek_type F>
constexpr int kShareSlots = slots_for(kTurnBytes<F>, kWarps, F == EK_BF16 ? 2 : 1);
template <ek_type F>
constexpr int kHeadSlots = slots_for(kTurnBytes<F>, kWarps, 3);

/* The slots of this warp, behind a staged vector in shared memory; and the bytes of both. */
template <ek_type F, int kSlots>
__device__ uint8_t* slots_of_warp(uint4* memory, int32_t n_groups) {
  return reinterpret_cast<uint8_t*>(memory) + staged_bytes<Staged<F>>(n_groups) +
         threadIdx.x / kWarp * (kSlots * kTurnBytes<F>);
}
template <ek_type F, int kSlots>
size_t shared_bytes(int32_t n_groups) {
  return staged_bytes<Staged<F>>(n_groups) + size_t{kWarps} * kSlots * kTurnBytes<F>;
}

/* One block per 16 rows of q, then of kv_a; the warps share the columns. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) project_in_kernel(StepBuffers b, WeightView q, WeightView kv_a,
                                                              const float* norm, int32_t hidden, float eps) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kWarps * kRows], squares[kWarps];
  const int32_t warp = threadIdx.x / kWarp;
  const int32_t q_tiles = q.n_rows / kRows, tile = blockIdx.x;
  const bool is_q = tile < q_tiles;
  const WeightView w = is_q ? q : kv_a;
  const int32_t row = (is_q ? tile : tile - q_tiles) * kRows;
  allow_next_kernel();
  RowStream<F, kShareSlots<F>> share(w, static_cast<size_t>(row), warp, kWarps,
                                     slots_of_warp<F, kShareSlots<F>>(memory, w.n_groups));
  share.prefetch();
  const Eight own_norm = load_norm(norm, hidden);
  wait_for_kernel_before();
  const Staged<F> x = staged_in<Staged<F>>(memory, w.n_groups);
  stage_normed<kThreads>(x, b.x, norm, own_norm, hidden, w.n_groups, squares);
  __syncthreads();
  float y[2] = {};
  share.multiply_all(x, y);
  const float sum = sum_over_warps(y, shared);
  if (threadIdx.x < kRows)
    (is_q ? b.q : b.kv_a)[row + threadIdx.x] = sum * rms_factor<kThreads>(squares, hidden, eps);
}

/* Four columns of all heads: combine wrote them as four sums. */
__device__ float4 heads_at(const StepBuffers& b, int32_t column) {
  constexpr int32_t kWidth = kHeads * kValue;
  const auto quarter = [&](int32_t i) {
    return *reinterpret_cast<const float4*>(b.heads_part + i * kWidth + column);
  };
  const float4 p = quarter(0), q = quarter(1), r = quarter(2), s = quarter(3);
  return {(p.x + q.x) + (r.x + s.x), (p.y + q.y) + (r.y + s.y), (p.z + q.z) + (r.z + s.z),
          (p.w + q.w) + (r.w + s.w)};
}

/* One block per 16 rows of the output projection. The blocks behind them route. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    project_out_kernel(StepBuffers b, WeightView w, const float* router_out, int32_t n_experts) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kWarps * kRows];
  const int32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  allow_next_kernel();
  if (static_cast<int32_t>(blockIdx.x) >= w.n_rows / kRows) {
    route_rows(
        static_cast<int32_t>(blockIdx.x) - w.n_rows / kRows, n_experts, kHeads * kValue,
        [&](int32_t of, int32_t c) {
          return *reinterpret_cast<const float4*>(router_out + static_cast<size_t>(of) * kHeads * kValue + c);
        },
        [&](int32_t c) { return heads_at(b, c); },
        [&](int32_t expert, float product) { b.router[expert] = b.router_before[expert] + product; });
    return;
  }
  const int32_t row = blockIdx.x * kRows, n_units = w.n_groups * kUnitsPerGroup;
  RowStream<F, kShareSlots<F>> share(w, static_cast<size_t>(row), warp, kWarps,
                                     slots_of_warp<F, kShareSlots<F>>(memory, w.n_groups));
  share.prefetch();
  wait_for_kernel_before();
  const Staged<F> x = staged_in<Staged<F>>(memory, w.n_groups);
  for (int32_t first = threadIdx.x - lane; first < n_units; first += kThreads) {
    const int32_t unit = first + lane;
    float v[8] = {};
    if (unit < n_units) take_eight({heads_at(b, unit * 8), heads_at(b, unit * 8 + 4)}, v);
    store_unit(x, unit, v, unit < n_units);
  }
  __syncthreads();
  float y[2] = {};
  share.multiply_all(x, y);
  const float sum = sum_over_warps(y, shared);
  if (threadIdx.x < kRows) b.x[row + threadIdx.x] += sum;
}

/* A warp per 16 rows of the vocabulary, in turns over the whole grid. Remembers each block's best token. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    head_kernel(StepBuffers b, WeightView w, const float* norm, int32_t hidden, float eps) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float squares[kWarps];
  __shared__ Candidate shared_best[kWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t n_tiles = w.n_rows / kRows, step = gridDim.x * kWarps;
  const int32_t first_tile = blockIdx.x * kWarps + warp;
  const int32_t turns = turns_of<F>(w.n_groups), skip = static_cast<int32_t>(tile_bytes(F, w.n_groups));
  uint8_t* slots = slots_of_warp<F, kHeadSlots<F>>(memory, w.n_groups);
  const uint8_t* next = tile_at<F>(w, static_cast<size_t>(first_tile) * kRows);
  int32_t next_turn = 0, turn = 0, row = first_tile * kRows;
  const auto copy = [&](int slot) {
    const bool whole = is_whole<F>(next_turn, w.n_groups);
    copy_turn<F>(slots + slot * kTurnBytes<F>, next, whole, lane);
    next += whole ? kTurnBytes<F> : chunk_bytes(F);
    if (++next_turn < turns) return;
    next_turn = 0;
    next += static_cast<size_t>(step - 1) * skip;
  };
  allow_next_kernel();
  TurnStream<kHeadSlots<F>> stream{share_of(n_tiles, first_tile, step) * turns};
  stream.prefetch(copy, kHeadSlots<F>);
  const Eight own_norm = load_norm(norm, hidden);
  wait_for_kernel_before();
  const Staged<F> x = staged_in<Staged<F>>(memory, w.n_groups);
  stage_normed<kThreads>(x, b.x, norm, own_norm, hidden, w.n_groups, squares);
  __syncthreads();
  const float factor = rms_factor<kThreads>(squares, hidden, eps);
  Candidate best{0, -1};
  float y[2] = {};
  stream.take_turns(copy, [&](int slot) {
    multiply_turn<F>(slots + slot * kTurnBytes<F>, x, turn, is_whole<F>(turn, w.n_groups), lane, y);
    if (++turn < turns) return;
    for (int r = 0; r < 2; r++) {
      const float logit = quad_sum(y[r]) * factor;
      const int32_t id = row + lane / 4 + 8 * r;
      if (lane % 4 == 0) b.logits[id] = logit;
      if (lane % 4 == 0 && !isnan(logit)) best = better(best, {logit, id});
      y[r] = 0;
    }
    turn = 0;
    row += step * kRows;
  });
  best = block_best<kThreads>(best, shared_best);
  if (threadIdx.x == 0) b.best[blockIdx.x] = {best.value, best.index};
}

/* One block: the best of all blocks becomes the token, its embedding the residual of the next step. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    next_kernel(StepBuffers b, WeightView embedding, int32_t hidden, int32_t n_blocks, bool choose) {
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
    if (threadIdx.x == 0) b.state->token = token;
  }
  for (int32_t unit = threadIdx.x; unit * 8 < hidden; unit += kThreads) {
    float v[8];
    load_unit<F>(embedding, static_cast<size_t>(token), unit, v);
    for (int i = 0; i < 8; i++) b.x[unit * 8 + i] = v[i];
  }
  /* What all layers turn their queries and keys by. */
  const int32_t position = b.state->position + (choose ? 1 : 0), pair = threadIdx.x;
  __syncthreads();
  if (pair < kRope / 2)
    sincosf(static_cast<float>(position) * b.inv_freq[pair], &b.turn[pair].y, &b.turn[pair].x);
  if (threadIdx.x > 0) return;
  b.state->position = position;
  b.state->block = b.blocks[min(position / 64, n_blocks - 1)];
}

}  // namespace

void launch_project_in(const Step& s, const LiteLayer& layer) {
  const auto launch_both = [&](const WeightView& q, const WeightView& kv_a) {
    for_decode_type(q.n_rows > 0 ? q.type : kv_a.type, [&]<ek_type F>() {
      launch_overlapped(s, "project_in", project_in_kernel<F>, (q.n_rows + kv_a.n_rows) / kRows, kThreads,
                        (shared_bytes<F, kShareSlots<F>>(q.n_groups)), s.b, q, kv_a, layer.attn_norm,
                        s.shape.hidden, s.shape.eps);
    });
  };
  if (layer.q.type == layer.kv_a.type) return launch_both(layer.q, layer.kv_a);
  WeightView no_q = layer.q, no_kv_a = layer.kv_a;
  no_q.n_rows = no_kv_a.n_rows = 0;
  launch_both(layer.q, no_kv_a);
  launch_both(no_q, layer.kv_a);
}

void launch_project_out(const Step& s, const LiteLayer& layer, int32_t layer_index) {
  const int32_t n_experts = s.shape.n_experts;
  const float* router_out = s.b.router_out + static_cast<size_t>(layer_index) * n_experts * kHeads * kValue;
  for_decode_type(layer.out.type, [&]<ek_type F>() {
    launch_overlapped(s, "project_out", project_out_kernel<F>,
                      layer.out.n_rows / kRows + (layer.router == nullptr ? 0 : route_blocks(n_experts)),
                      kThreads, (shared_bytes<F, kShareSlots<F>>(layer.out.n_groups)), s.b, layer.out,
                      router_out, n_experts);
  });
}

void launch_head(const Step& s, const LiteWeights& w) {
  for_decode_type(w.head.type, [&]<ek_type F>() {
    launch_overlapped(s, "head", head_kernel<F>, kHeadBlocks, kThreads,
                      (shared_bytes<F, kHeadSlots<F>>(w.head.n_groups)), s.b, w.head, w.norm, s.shape.hidden,
                      s.shape.eps);
  });
}

void launch_next(const Step& s, const LiteWeights& w, bool choose) {
  for_decode_type(w.embedding.type, [&]<ek_type F>() {
    launch_overlapped(s, "next", next_kernel<F>, 1, kThreads, 0, s.b, w.embedding, s.shape.hidden,
                      s.shape.n_blocks, choose);
  });
}

}  // namespace ek::cuda
