/* Matrix-vector products of a decode step: into attention, out of it, and the head. */
#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;

/* Tokens whose products with a weight one block computes: of a step of one token one, otherwise up to this.
 */
constexpr int kMostTogether = 4;

/* The tokens of a block: those from kMany blockIdx.y on. */
template <int kMany>
struct TokenGroup {
  int32_t first, n;

  __device__ explicit TokenGroup(int32_t n_tokens)
      : first(kMany * static_cast<int32_t>(blockIdx.y)), n(min(kMany, n_tokens - first)) {}
  __device__ uint32_t mask() const { return (1u << n) - 1; }
};

/* Sums of the warps' shares of 16 rows; thread 16 i + r, i < kMany, gets row r of token i. shared: kMany x
 * kWarps x 16 floats. */
template <int kMany>
__device__ float sum_over_warps(const float (&y)[kMany][2], float* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int i = 0; i < kMany; i++) {
    const float first = quad_sum(y[i][0]), second = quad_sum(y[i][1]);
    if (lane % 4 == 0) {
      shared[(i * kWarps + warp) * kRows + lane / 4] = first;
      shared[(i * kWarps + warp) * kRows + lane / 4 + 8] = second;
    }
  }
  __syncthreads();
  float sum = 0;
  if (threadIdx.x < kMany * kRows) {
    const float* of = shared + threadIdx.x / kRows * (kWarps * kRows) + threadIdx.x % kRows;
    for (int w = 0; w < kWarps; w++) sum += of[w * kRows];
  }
  return sum;
}

/* Where the warps of a block share the columns of 16 rows, each has every kWarps-th turn: one, or two of
 * bf16. */
template <ek_type F>
constexpr int kShareSlots = slots_for(kTurnBytes<F>, kWarps, F == EK_BF16 ? 2 : 1);
template <ek_type F>
constexpr int kHeadSlots = slots_for(kTurnBytes<F>, kWarps, 3);

/* The slots of this warp, behind kMany staged vectors in shared memory; and the bytes of both. */
template <ek_type F, int kMany, int kSlots>
__device__ uint8_t* slots_of_warp(uint4* memory, int32_t n_groups) {
  return reinterpret_cast<uint8_t*>(memory) + kMany * staged_bytes<Staged<F>>(n_groups) +
         threadIdx.x / kWarp * (kSlots * kTurnBytes<F>);
}
template <ek_type F, int kMany, int kSlots>
size_t shared_bytes(int32_t n_groups) {
  return kMany * staged_bytes<Staged<F>>(n_groups) + size_t{kWarps} * kSlots * kTurnBytes<F>;
}

/* One block per 16 rows of q, then of kv_a; the warps share the columns. */
template <ek_type F, int kMany>
__global__ void __launch_bounds__(kThreads)
    project_in_kernel(StepBuffers all, WeightView q, WeightView kv_a, const float* norm, int32_t hidden,
                      float eps, int32_t n_tokens) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kMany * kWarps * kRows], squares[kMany][kWarps];
  const TokenGroup<kMany> tokens(n_tokens);
  const int32_t warp = threadIdx.x / kWarp;
  const int32_t q_tiles = q.n_rows / kRows, tile = blockIdx.x;
  const bool is_q = tile < q_tiles;
  const WeightView w = is_q ? q : kv_a;
  const int32_t row = (is_q ? tile : tile - q_tiles) * kRows;
  allow_next_kernel();
  RowStream<F, kShareSlots<F>> share(w, static_cast<size_t>(row), warp, kWarps,
                                     slots_of_warp<F, kMany, kShareSlots<F>>(memory, w.n_groups));
  share.prefetch();
  const Eight own_norm = load_norm(norm, hidden);
  wait_for_kernel_before();
  const StagedMany<F, kMany> x{reinterpret_cast<uint8_t*>(memory), w.n_groups, tokens.mask()};
  for (int i = 0; i < tokens.n; i++)
    stage_normed<kThreads>(x.at(i), all.of_token(tokens.first + i).x, norm, own_norm, hidden, w.n_groups,
                           squares[i]);
  __syncthreads();
  float y[kMany][2] = {};
  share.multiply_all(x, y);
  const float sum = sum_over_warps(y, shared);
  const int32_t i = threadIdx.x / kRows;
  if (i >= tokens.n) return;
  const TokenBuffers b = all.of_token(tokens.first + i);
  (is_q ? b.q : b.kv_a)[row + threadIdx.x % kRows] = sum * rms_factor<kThreads>(squares[i], hidden, eps);
}

/* Four columns of all heads: combine wrote them as four sums. */
__device__ float4 heads_at(const TokenBuffers& b, int32_t column) {
  constexpr int32_t kWidth = kHeads * kValue;
  const auto quarter = [&](int32_t i) {
    return *reinterpret_cast<const float4*>(b.heads_part + i * kWidth + column);
  };
  const float4 p = quarter(0), q = quarter(1), r = quarter(2), s = quarter(3);
  return {(p.x + q.x) + (r.x + s.x), (p.y + q.y) + (r.y + s.y), (p.z + q.z) + (r.z + s.z),
          (p.w + q.w) + (r.w + s.w)};
}

/* One block per 16 rows of the output projection. The blocks behind them route. */
template <ek_type F, int kMany>
__global__ void __launch_bounds__(kThreads)
    project_out_kernel(StepBuffers all, WeightView w, const float* router_out, int32_t n_experts,
                       int32_t n_tokens) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kMany * kWarps * kRows];
  const TokenGroup<kMany> tokens(n_tokens);
  const int32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  allow_next_kernel();
  if (static_cast<int32_t>(blockIdx.x) >= w.n_rows / kRows) {
    for (int i = 0; i < tokens.n; i++) {
      const TokenBuffers b = all.of_token(tokens.first + i);
      if (i > 0) __syncthreads(); /* the shared memory of route_rows is used again */
      route_rows(
          static_cast<int32_t>(blockIdx.x) - w.n_rows / kRows, n_experts, kHeads * kValue,
          [&](int32_t of, int32_t c) {
            return *reinterpret_cast<const float4*>(router_out + static_cast<size_t>(of) * kHeads * kValue +
                                                    c);
          },
          [&](int32_t c) { return heads_at(b, c); },
          [&](int32_t expert, float product) { b.router[expert] = b.router_before[expert] + product; });
    }
    return;
  }
  const int32_t row = blockIdx.x * kRows, n_units = w.n_groups * kUnitsPerGroup;
  RowStream<F, kShareSlots<F>> share(w, static_cast<size_t>(row), warp, kWarps,
                                     slots_of_warp<F, kMany, kShareSlots<F>>(memory, w.n_groups));
  share.prefetch();
  wait_for_kernel_before();
  const StagedMany<F, kMany> x{reinterpret_cast<uint8_t*>(memory), w.n_groups, tokens.mask()};
  for (int i = 0; i < tokens.n; i++) {
    const TokenBuffers b = all.of_token(tokens.first + i);
    for (int32_t first = threadIdx.x - lane; first < n_units; first += kThreads) {
      const int32_t unit = first + lane;
      float v[8] = {};
      if (unit < n_units) take_eight({heads_at(b, unit * 8), heads_at(b, unit * 8 + 4)}, v);
      store_unit(x.at(i), unit, v, unit < n_units);
    }
  }
  __syncthreads();
  float y[kMany][2] = {};
  share.multiply_all(x, y);
  const float sum = sum_over_warps(y, shared);
  const int32_t i = threadIdx.x / kRows;
  if (i < tokens.n) all.of_token(tokens.first + i).x[row + threadIdx.x % kRows] += sum;
}

/* Copies of a warp's tiles of 16 rows, first_tile, first_tile + step, … of a weight: its turns in order. */
template <ek_type F>
struct TileCopies {
  int32_t n_groups, step, skip, next_turn = 0;
  const uint8_t* next;

  __device__ TileCopies(const WeightView& w, int32_t first_tile, int32_t tile_step)
      : n_groups(w.n_groups),
        step(tile_step),
        skip(static_cast<int32_t>(tile_bytes(F, w.n_groups))),
        next(tile_at<F>(w, static_cast<size_t>(first_tile) * kRows)) {}
  __device__ void copy(uint8_t* slot) {
    const bool whole = is_whole<F>(next_turn, n_groups);
    copy_turn<F>(slot, next, whole, threadIdx.x % kWarp);
    next += whole ? kTurnBytes<F> : chunk_bytes(F);
    if (++next_turn < turns_of<F>(n_groups)) return;
    next_turn = 0;
    next += static_cast<size_t>(step - 1) * skip;
  }
};

/* Tokens of the group whose logits are wanted: known since before the step. */
template <int kMany>
__device__ uint32_t wanted_of(const StepBuffers& all, const TokenGroup<kMany>& tokens) {
  uint32_t mask = 0;
  for (int i = 0; i < tokens.n; i++) mask |= (all.of_token(tokens.first + i).state->wanted != 0) << i;
  return mask;
}

/* A warp per 16 rows of the vocabulary, in turns over the whole grid. Remembers each block's best token. */
template <ek_type F, int kMany>
__global__ void __launch_bounds__(kThreads) head_kernel(StepBuffers all, WeightView w, const float* norm,
                                                        int32_t hidden, float eps, int32_t n_tokens) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float squares[kMany][kWarps];
  __shared__ Candidate shared_best[kWarps];
  const TokenGroup<kMany> tokens(n_tokens);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t step = gridDim.x * kWarps, first_tile = blockIdx.x * kWarps + warp;
  const int32_t turns = turns_of<F>(w.n_groups);
  uint8_t* slots = slots_of_warp<F, kMany, kHeadSlots<F>>(memory, w.n_groups);
  TileCopies<F> copies(w, first_tile, step);
  const auto copy = [&](int slot) { copies.copy(slots + slot * kTurnBytes<F>); };
  allow_next_kernel();
  TurnStream<kHeadSlots<F>> stream{share_of(w.n_rows / kRows, first_tile, step) * turns};
  stream.prefetch(copy, kHeadSlots<F>);
  const Eight own_norm = load_norm(norm, hidden);
  const StagedMany<F, kMany> x{reinterpret_cast<uint8_t*>(memory), w.n_groups, wanted_of(all, tokens)};
  wait_for_kernel_before();
  if (x.mask == 0) return copy_async_wait<0>();
  for (int i = 0; i < tokens.n; i++) {
    if (x.has(i))
      stage_normed<kThreads>(x.at(i), all.of_token(tokens.first + i).x, norm, own_norm, hidden, w.n_groups,
                             squares[i]);
  }
  __syncthreads();
  float factor[kMany], y[kMany][2] = {};
  Candidate best[kMany];
  for (int i = 0; i < kMany; i++) {
    factor[i] = x.has(i) ? rms_factor<kThreads>(squares[i], hidden, eps) : 0.0f;
    best[i] = {0, -1};
  }
  int32_t turn = 0, row = first_tile * kRows;
  stream.take_turns(copy, [&](int slot) {
    multiply_turn<F>(slots + slot * kTurnBytes<F>, x, turn, is_whole<F>(turn, w.n_groups), lane, y);
    if (++turn < turns) return;
#pragma unroll
    for (int i = 0; i < kMany; i++) {
      float* logits = all.of_token(tokens.first + i).logits;
      for (int r = 0; r < 2; r++) {
        const float logit = quad_sum(y[i][r]) * factor[i];
        const int32_t id = row + lane / 4 + 8 * r;
        y[i][r] = 0;
        if (lane % 4 > 0 || !x.has(i)) continue;
        logits[id] = logit;
        if (!isnan(logit)) best[i] = better(best[i], {logit, id});
      }
    }
    turn = 0;
    row += step * kRows;
  });
#pragma unroll
  for (int i = 0; i < kMany; i++) {
    const Candidate of_block = block_best<kThreads>(best[i], shared_best);
    if (threadIdx.x == 0 && x.has(i))
      all.of_token(tokens.first + i).best[blockIdx.x] = {of_block.value, of_block.index};
  }
}

/* One block per token: the embedding becomes the residual of the next step. choose: that of the best token of
 * all blocks of the head, which then is the token, at the next position. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    next_kernel(StepBuffers all, WeightView embedding, int32_t hidden, int32_t n_blocks, bool choose) {
  const TokenBuffers b = all.of_token(blockIdx.y);
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
    sincosf(static_cast<float>(position) * all.inv_freq[pair], &b.turn[pair].y, &b.turn[pair].x);
  if (threadIdx.x > 0) return;
  b.state->position = position;
  if (choose) b.state->first = position;
  b.state->block = b.blocks[min(position / 64, n_blocks - 1)];
}

/* Calls body with the number of tokens that a block takes together, and the groups that make. */
template <class Body>
void for_groups(int32_t n_tokens, Body&& body) {
  if (n_tokens == 1) return body.template operator()<1>(1);
  body.template operator()<kMostTogether>(ceil_div(n_tokens, kMostTogether));
}

}  // namespace

void launch_project_in(const Step& s, const LiteLayer& layer) {
  const auto launch_both = [&](const WeightView& q, const WeightView& kv_a) {
    for_decode_type(q.n_rows > 0 ? q.type : kv_a.type, [&]<ek_type F>() {
      for_groups(s.n_tokens, [&]<int kMany>(int32_t n_groups) {
        launch_overlapped(s, "project_in", project_in_kernel<F, kMany>,
                          {(q.n_rows + kv_a.n_rows) / kRows, n_groups}, kThreads,
                          (shared_bytes<F, kMany, kShareSlots<F>>(q.n_groups)), s.b, q, kv_a, layer.attn_norm,
                          s.shape.hidden, s.shape.eps, s.n_tokens);
      });
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
  const int32_t blocks = layer.out.n_rows / kRows + (layer.router == nullptr ? 0 : route_blocks(n_experts));
  for_decode_type(layer.out.type, [&]<ek_type F>() {
    for_groups(s.n_tokens, [&]<int kMany>(int32_t n_groups) {
      launch_overlapped(s, "project_out", project_out_kernel<F, kMany>, {blocks, n_groups}, kThreads,
                        (shared_bytes<F, kMany, kShareSlots<F>>(layer.out.n_groups)), s.b, layer.out,
                        router_out, n_experts, s.n_tokens);
    });
  });
}

void launch_head(const Step& s, const LiteWeights& w) {
  for_decode_type(w.head.type, [&]<ek_type F>() {
    for_groups(s.n_tokens, [&]<int kMany>(int32_t n_groups) {
      launch_overlapped(s, "head", head_kernel<F, kMany>, {kHeadBlocks, n_groups}, kThreads,
                        (shared_bytes<F, kMany, kHeadSlots<F>>(w.head.n_groups)), s.b, w.head, w.norm,
                        s.shape.hidden, s.shape.eps, s.n_tokens);
    });
  });
}

void launch_next(const Step& s, const LiteWeights& w, bool choose) {
  for_decode_type(w.embedding.type, [&]<ek_type F>() {
    launch_overlapped(s, "next", next_kernel<F>, {1, s.n_tokens}, kThreads, 0, s.b, w.embedding,
                      s.shape.hidden, s.shape.n_blocks, choose);
  });
}

}  // namespace ek::cuda
