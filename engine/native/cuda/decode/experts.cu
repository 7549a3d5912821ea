/* The feed-forward of a decode step: router, gate and up of shared and chosen experts in one kernel, down in
 * the next. A dense layer is one of shared experts alone. */
#include "kernels.h"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;
constexpr int kMostExperts = 256; /* check_lite_shape */

/* How many experts have a larger logit, or an equal one and a lower index. */
__device__ int rank_of(const float* logit, int32_t n_experts, int32_t expert) {
  const float own = logit[expert];
  int rank = 0;
#pragma unroll 8
  for (int j = 0; j < n_experts; j++) rank += logit[j] > own || (logit[j] == own && j < expert);
  return rank;
}

/* The chosen experts and their weights, for the down product: softmax, the top_k largest, not normalised
 * again. */
__device__ void weigh_experts(const StepBuffers& b, int32_t n_experts, int32_t top_k, float* logit,
                              float* shared) {
  const int i = threadIdx.x;
  const bool has = i < n_experts;
  const float own = has ? __ldcg(b.router + i) : -INFINITY;
  if (has) logit[i] = own;
  const float top = block_max<kThreads>(own, shared);
  const float e = has ? expf(own - top) : 0.0f;
  const float total = block_sum<kThreads>(e, shared);
  const int rank = has ? rank_of(logit, n_experts, i) : top_k;
  if (rank < top_k) {
    b.experts[rank] = i;
    b.expert_weight[rank] = e / total;
  }
}

constexpr int kRouted = kWarps / 2; /* experts per block of the router: two warps share one's columns */
constexpr int kRouterLoads = 8;     /* of four columns, before the residual is there */

/* Logits of kRouted experts. The block that arrives last also weighs; whoever needs a choice waits for all
 * logits (await_choice). */
__device__ void route(const StepBuffers& b, const LiteLayer& layer, const LiteShape& shape,
                      int32_t n_blocks) {
  __shared__ float shared[kWarps], logit[kMostExperts], dots[kWarps], squares[kWarps];
  __shared__ bool last;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t expert = blockIdx.x * kRouted + warp / 2, first = (warp % 2 * kWarp + lane) * 4;
  constexpr int32_t kStep = 2 * kWarp * 4;
  const float* row = layer.router + static_cast<size_t>(min(expert, shape.n_experts - 1)) * shape.hidden;
  const auto weight_at = [&](int32_t c) {
    const float4 w = *reinterpret_cast<const float4*>(row + c);
    const float4 n = *reinterpret_cast<const float4*>(layer.ffn_norm + c);
    return float4{w.x * n.x, w.y * n.y, w.z * n.z, w.w * n.w};
  };
  float4 weight[kRouterLoads];
#pragma unroll
  for (int i = 0; i < kRouterLoads; i++) {
    if (first + i * kStep < shape.hidden) weight[i] = weight_at(first + i * kStep);
  }
  wait_for_kernel_before();
  float dot = 0, square = 0;
  const auto add = [&](int32_t c, const float4& w) {
    const float4 x = *reinterpret_cast<const float4*>(b.x + c);
    dot += w.x * x.x + w.y * x.y + w.z * x.z + w.w * x.w;
    square += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
  };
#pragma unroll
  for (int i = 0; i < kRouterLoads; i++) {
    if (first + i * kStep < shape.hidden) add(first + i * kStep, weight[i]);
  }
  for (int32_t c = first + kRouterLoads * kStep; c < shape.hidden; c += kStep) add(c, weight_at(c));
  dot = warp_sum(dot);
  square = warp_sum(square);
  if (lane == 0) dots[warp] = dot;
  if (lane == 0) squares[warp] = square;
  __syncthreads();
  if (lane == 0 && warp % 2 == 0 && expert < shape.n_experts) {
    const float mean = (squares[warp] + squares[warp + 1]) / static_cast<float>(shape.hidden);
    b.router[expert] = (dots[warp] + dots[warp + 1]) * rsqrtf(mean + shape.eps);
    __threadfence();
  }
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(b.arrived, 1u) + 1 == static_cast<uint32_t>(n_blocks);
  __syncthreads();
  if (last) weigh_experts(b, shape.n_experts, shape.top_k, logit, shared);
}

/* Returns when all logits are there, with the top_k experts in `chosen`, the best first. The router's blocks
 * come first in the grid, so they run. All threads call. */
__device__ void await_choice(const StepBuffers& b, const LiteShape& shape, int32_t n_blocks, float* logit,
                             int32_t* chosen) {
  const int32_t i = threadIdx.x;
  if (i == 0) {
    while (load_acquire(b.arrived) < static_cast<uint32_t>(n_blocks)) {
    }
  }
  __syncthreads();
  if (i < shape.n_experts) logit[i] = __ldcg(b.router + i);
  if (i < shape.top_k) chosen[i] = i; /* where a NaN has no rank */
  __syncthreads();
  const int rank = i < shape.n_experts ? rank_of(logit, shape.n_experts, i) : shape.top_k;
  if (rank < shape.top_k) chosen[rank] = i;
  __syncthreads();
}

/* Fragments under way in a warp; a block of bf16 takes more memory for fewer. */
template <ek_type F>
constexpr int kInSlots = slots_for(kTurnBytes<F>, kWarps, 3);

constexpr int kTiles = 2; /* of 16 hidden values, per block: two warps share the columns of gate, two of up */

/* silu(gate) * up of the block's tiles from the sums of its warps: (kWarps, kRows). */
__device__ void store_gated(const StepBuffers& b, const float* sums, float factor, int32_t first_tile,
                            int32_t n_tiles, const int32_t* places) {
  const int32_t i = threadIdx.x / kRows, r = threadIdx.x % kRows;
  if (i >= kTiles || first_tile + i >= n_tiles) return;
  const float* of = sums + i * 4 * kRows + r;
  const float gate = (of[0] + of[kRows]) * factor, up = (of[2 * kRows] + of[3 * kRows]) * factor;
  b.hidden[places[i] + r] = gate / (1.0f + expf(-gate)) * up;
}

/* Blocks: the router's, then a block per kTiles tiles of the shared experts, then of each chosen expert.
 * shared_first: where the shared experts' hidden values lie. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads, 3)
    experts_in_kernel(StepBuffers b, LiteLayer layer, LiteShape shape, int32_t router_blocks,
                      int32_t shared_first) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float sums[kWarps * kRows], squares[kWarps], logit[kMostExperts];
  __shared__ int32_t chosen[kMostExperts], places[kTiles];
  allow_next_kernel();
  if (static_cast<int32_t>(blockIdx.x) < router_blocks) return route(b, layer, shape, router_blocks);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const bool is_gate = warp % 4 < 2;
  const int32_t shared_tiles = layer.shared_gate.n_rows / kRows,
                tiles = router_blocks == 0 ? 0 : layer.gate.n_rows / kRows,
                n_tiles = shared_tiles + shape.top_k * tiles,
                first_tile = (static_cast<int32_t>(blockIdx.x) - router_blocks) * kTiles;
  const int32_t tile = first_tile + warp / 4, routed = tile - shared_tiles;
  const WeightView w =
      routed < 0 ? (is_gate ? layer.shared_gate : layer.shared_up) : (is_gate ? layer.gate : layer.up);
  constexpr int kSlots = kInSlots<F>;
  uint8_t* slots = reinterpret_cast<uint8_t*>(memory) + staged_bytes<Staged<F>>(layer.shared_gate.n_groups) +
                   warp * (kSlots * kTurnBytes<F>);
  RowStream<F, kSlots> stream(w, static_cast<size_t>(tile) * kRows, warp % 2, 2, slots);
  if (tile >= n_tiles) stream.stream.n_turns = 0;
  if (routed < 0) stream.prefetch();
  const Eight norm = load_norm(layer.ffn_norm, shape.hidden);
  wait_for_kernel_before();
  const Staged<F> x = staged_in<Staged<F>>(memory, layer.shared_gate.n_groups);
  stage_normed<kThreads>(x, b.x, layer.ffn_norm, norm, shape.hidden, layer.shared_gate.n_groups, squares);
  if (first_tile + kTiles > shared_tiles && router_blocks > 0) {
    await_choice(b, shape, router_blocks, logit, chosen);
  } else {
    __syncthreads();
  }
  const int32_t k = routed < 0 || tile >= n_tiles ? 0 : routed / tiles;
  if (routed >= 0 && tile < n_tiles) stream.set_row(w, w.row(chosen[k], routed % tiles * kRows));
  if (lane == 0 && warp % 4 == 0)
    places[warp / 4] =
        routed < 0 ? shared_first + tile * kRows : k * b.expert_width + routed % max(tiles, 1) * kRows;
  float y[2] = {};
  stream.multiply_all(x, y);
  const float first = quad_sum(y[0]), second = quad_sum(y[1]);
  if (lane % 4 == 0) {
    sums[warp * kRows + lane / 4] = first;
    sums[warp * kRows + lane / 4 + 8] = second;
  }
  __syncthreads();
  store_gated(b, sums, rms_factor<kThreads>(squares, shape.hidden, shape.eps), first_tile, n_tiles, places);
}

constexpr int kOutWarps = 16, kOutThreads = kOutWarps * kWarp;

/* Which hidden values a layer's down product reads: n_groups of 128 from `first` on, the shared ones from
 * group shared_at on. */
struct HiddenRange {
  int32_t first, n_groups, shared_at;
};

/* A turn of a chosen expert's down weight; each warp has every kOutWarps-th. */
struct RoutedTurn {
  int32_t k, turn;

  __device__ void advance(int32_t by, int32_t n_turns) {
    for (turn += by; turn >= n_turns; turn -= n_turns) k++;
  }
};

template <ek_type R, ek_type S>
constexpr int kOutSlotBytes = kTurnBytes<R> > kTurnBytes<S> ? kTurnBytes<R> : kTurnBytes<S>;
/* Slots per warp where a block may have as much shared memory as on an H100, and where it may have 99 KB. */
template <ek_type R, ek_type S>
constexpr int kManySlots = 144 * 1024 / (kOutSlotBytes<R, S> * kOutWarps) < 3 ? 2 : 3;
constexpr int kFewSlots = 1;
constexpr size_t kStaticShared = 4096; /* of the kernel, at most */
static_assert(2 * kOutWarps * kTurnBytes<EK_Q8_0> <= 144 * 1024, "two slots of the largest turn");

/* One block per 16 rows of the residual: shared experts, then the chosen ones in order. R: type of the routed
 * down weights, S: of the shared ones. */
template <ek_type R, ek_type S, int kSlots>
__global__ void __launch_bounds__(kOutThreads, 1)
    experts_out_kernel(StepBuffers b, WeightView down, WeightView shared_down, int32_t n_routed,
                       HiddenRange range) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float sums[kOutWarps][kRows], weight[kMostExperts];
  __shared__ int32_t expert[kMostExperts];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t row = blockIdx.x * kRows, n_units = range.n_groups * kUnitsPerGroup;
  allow_next_kernel();
  constexpr int kSlot = kOutSlotBytes<R, S>;
  uint8_t* slots = reinterpret_cast<uint8_t*>(memory) + staged_bytes<Staged<R>>(range.n_groups) +
                   warp * (kSlots * kSlot);
  const int32_t shared_turns = share_of(turns_of<S>(shared_down.n_groups), warp, kOutWarps);
  const uint8_t* shared_tile = tile_at<S>(shared_down, static_cast<size_t>(row));
  /* The other way round: the shared turns rarely fill the last round. */
  const int32_t first_routed = kOutWarps - 1 - warp, routed_turns = turns_of<R>(down.n_groups);
  RoutedTurn next{0, 0};
  next.advance(first_routed, max(routed_turns, 1));
  RoutedTurn now = next;
  int32_t next_shared = warp, shared = warp;
  const auto copy = [&](int slot) {
    uint8_t* to = slots + slot * kSlot;
    if (next_shared < turns_of<S>(shared_down.n_groups)) {
      copy_turn<S>(to, shared_tile + next_shared * kTurnBytes<S>, is_whole<S>(next_shared, shared_down.n_groups),
                   lane);
      next_shared += kOutWarps;
      return;
    }
    copy_turn<R>(to, tile_at<R>(down, down.row(expert[next.k], row)) + next.turn * kTurnBytes<R>,
                 is_whole<R>(next.turn, down.n_groups), lane);
    next.advance(kOutWarps, routed_turns);
  };
  TurnStream<kSlots> stream{shared_turns + share_of(n_routed * routed_turns, first_routed, kOutWarps)};
  stream.prefetch(copy, shared_turns);
  wait_for_kernel_before();
  if (static_cast<int32_t>(threadIdx.x) < n_routed) {
    expert[threadIdx.x] = b.experts[threadIdx.x];
    weight[threadIdx.x] = b.expert_weight[threadIdx.x];
  }
  Eight own{};
  const int32_t own_unit = threadIdx.x;
  if (own_unit < n_units) own = load_eight(b.hidden + range.first + own_unit * 8);
  __syncthreads();
  stream.prefetch(copy, kSlots);
  const Staged<R> x = staged_in<Staged<R>>(memory, range.n_groups);
  for (int32_t first = own_unit - lane; first < n_units; first += kOutThreads) {
    const int32_t unit = first + lane;
    float v[8] = {};
    if (unit < n_units)
      take_eight(unit == own_unit ? own : load_eight(b.hidden + range.first + unit * 8), v);
    store_unit(x, unit, v, unit < n_units);
  }
  __syncthreads();
  float y[2] = {};
  const Staged<S> shared_x = x.from(range.shared_at);
  stream.take_turns(copy, [&](int slot) {
    const uint8_t* from = slots + slot * kSlot;
    if (shared < turns_of<S>(shared_down.n_groups)) {
      multiply_turn<S>(from, shared_x, shared, is_whole<S>(shared, shared_down.n_groups), lane, y);
      shared += kOutWarps;
      return;
    }
    float part[2] = {};
    multiply_turn<R>(from, x.from(now.k * (b.expert_width / kGroup)), now.turn,
                     is_whole<R>(now.turn, down.n_groups), lane, part);
    for (int r = 0; r < 2; r++) y[r] = fmaf(weight[now.k], part[r], y[r]);
    now.advance(kOutWarps, routed_turns);
  });
  const float first = quad_sum(y[0]), second = quad_sum(y[1]);
  if (lane % 4 == 0) {
    sums[warp][lane / 4] = first;
    sums[warp][lane / 4 + 8] = second;
  }
  __syncthreads();
  if (threadIdx.x >= kRows) return;
  float sum = 0;
  for (int w = 0; w < kOutWarps; w++) sum += sums[w][threadIdx.x];
  b.x[row + threadIdx.x] += sum;
}

template <ek_type R, ek_type S>
void launch_out(const Step& s, const LiteLayer& layer) {
  const bool routed = layer.router != nullptr;
  const int32_t shared_first = s.shape.top_k * s.b.expert_width, dense_first = shared_first + s.b.shared_width;
  const HiddenRange range = routed ? HiddenRange{0, dense_first / kGroup, shared_first / kGroup}
                                   : HiddenRange{dense_first, layer.shared_down.n_groups, 0};
  const size_t vector = staged_bytes<Staged<R>>(range.n_groups), slot = size_t{kOutWarps} * kOutSlotBytes<R, S>;
  const auto launch_with = [&]<int kSlots>() {
    launch_overlapped(s, routed ? "experts_out" : "dense_out", experts_out_kernel<R, S, kSlots>,
                      s.shape.hidden / kRows, kOutThreads, vector + slot * kSlots, s.b, layer.down,
                      layer.shared_down, routed ? s.shape.top_k : 0, range);
  };
  constexpr int kMany = kManySlots<R, S>;
  if (vector + slot * kMany + kStaticShared <= s.b.most_shared) {
    launch_with.template operator()<kMany>();
  } else {
    launch_with.template operator()<kFewSlots>();
  }
}

/* Calls body with the types as constants, where a kernel is compiled for them: check_lite_types. */
template <class Body>
void for_down_types(ek_type routed, ek_type shared, Body&& body) {
  const auto are = [&](ek_type r, ek_type s) { return routed == r && shared == s; };
  if (are(EK_Q5_0, EK_Q4_K)) body.template operator()<EK_Q5_0, EK_Q4_K>();
  if (are(EK_Q8_0, EK_Q6_K)) body.template operator()<EK_Q8_0, EK_Q6_K>();
  if (are(EK_Q5_0, EK_Q5_0)) body.template operator()<EK_Q5_0, EK_Q5_0>();
  if (are(EK_Q8_0, EK_Q8_0)) body.template operator()<EK_Q8_0, EK_Q8_0>();
  if (are(EK_BF16, EK_BF16)) body.template operator()<EK_BF16, EK_BF16>();
}

}  // namespace

void launch_experts_in(const Step& s, const LiteLayer& layer) {
  const bool routed = layer.router != nullptr;
  const int32_t router_blocks = routed ? ceil_div(s.shape.n_experts, kRouted) : 0;
  const int32_t tiles =
      layer.shared_gate.n_rows / kRows + (routed ? s.shape.top_k * (layer.gate.n_rows / kRows) : 0);
  for_decode_type(layer.shared_gate.type, [&]<ek_type F>() {
    launch_overlapped(s, routed ? "experts_in" : "dense_in", experts_in_kernel<F>,
                      router_blocks + ceil_div(tiles, kTiles), kThreads,
                      staged_bytes<Staged<F>>(layer.shared_gate.n_groups) +
                          size_t{kWarps} * kInSlots<F> * kTurnBytes<F>,
                      s.b, layer, s.shape, router_blocks,
                      s.shape.top_k * s.b.expert_width + (routed ? 0 : s.b.shared_width));
  });
}

bool has_down_kernel(ek_type routed, ek_type shared) {
  bool found = false;
  for_down_types(routed, shared, [&]<ek_type R, ek_type S>() { found = true; });
  return found;
}

void launch_experts_out(const Step& s, const LiteLayer& layer) {
  const ek_type shared = layer.shared_down.type, routed = layer.router == nullptr ? shared : layer.down.type;
  for_down_types(routed, shared, [&]<ek_type R, ek_type S>() { launch_out<R, S>(s, layer); });
}

}  // namespace ek::cuda
