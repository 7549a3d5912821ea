/* The feed-forward of a decode step: router, gate and up of shared and chosen experts in one kernel, down in
 * the next. A dense layer is one of shared experts alone. */
#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;
static_assert(kThreads == kRouteThreads, "experts are ranked by a block");

/* The weights of the chosen experts, for the down product: softmax, not normalised again. One block. */
__device__ void weigh_experts(const StepBuffers& b, const LiteShape& shape) {
  __shared__ float shared[kWarps], logit[kMostExperts];
  __shared__ int32_t chosen[kMostExperts];
  const int32_t i = threadIdx.x;
  const bool has = i < shape.n_experts;
  wait_for_kernel_before();
  allow_next_kernel();
  float square = 0;
  for (int32_t c = i; c < shape.hidden; c += kThreads) square = fmaf(b.x[c], b.x[c], square);
  const float mean = block_sum<kThreads>(square, shared) / static_cast<float>(shape.hidden);
  const float logit_of = has ? b.router[i] : 0.0f, own = has ? logit_of * rsqrtf(mean + shape.eps) : -INFINITY;
  logit[i] = logit_of;
  chosen[i] = i; /* where a NaN has no rank */
  const float top = block_max<kThreads>(own, shared);
  const float total = block_sum<kThreads>(has ? expf(own - top) : 0.0f, shared);
  rank_experts(logit, shape.n_experts, shape.top_k, chosen);
  __syncthreads();
  if (i < shape.top_k) b.expert_weight[i] = expf(logit[chosen[i]] * rsqrtf(mean + shape.eps) - top) / total;
}

/* Fragments under way in a warp; a block of bf16 takes more memory for fewer. */
template <ek_type F>
constexpr int kInSlots = slots_for(kTurnBytes<F>, kWarps, 2);

constexpr int kTiles = 2; /* of 16 hidden values, per block: two warps share the columns of gate, two of up */

/* silu(gate) * up of the block's tiles from the sums of its warps (kWarps, kRows), as part `part` of what
 * experts_out reads. The first warp does it. */
__device__ void store_gated(const StepBuffers& b, const float* sums, float factor, int32_t part, bool as_parts) {
  static_assert(kTiles * kRows == kWarp && kUnitsPerGroup / 4 == 4, "a lane per value, a part per block");
  __shared__ float hidden[kWarp];
  if (threadIdx.x >= kWarp) return;
  const int lane = threadIdx.x;
  const float* of = sums + lane / kRows * 4 * kRows + lane % kRows;
  const float gate = (of[0] + of[kRows]) * factor, up = (of[2 * kRows] + of[3 * kRows]) * factor;
  hidden[lane] = gate / (1.0f + expf(-gate)) * up;
  __syncwarp();
  float v[8] = {};
  for (int i = 0; i < 8 && lane < 4; i++) v[i] = hidden[lane * 8 + i];
  if (as_parts) {
    store_unit(b.hidden_parts, part * 4 + lane, v, lane < 4);
  } else {
    store_unit(b.hidden_digits, part * 4 + lane, v, lane < 4);
  }
}

/* Blocks: one that weighs the chosen experts, then a block per kTiles tiles of the shared experts, then of each
 * chosen expert. shared_first: where the shared experts' hidden values lie. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads, 3)
    experts_in_kernel(StepBuffers b, LiteLayer layer, LiteShape shape, int32_t shared_first, bool as_parts) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float sums[kWarps * kRows], squares[kWarps], logit[kMostExperts];
  __shared__ int32_t chosen[kMostExperts];
  const int32_t before = layer.router == nullptr ? 0 : 1;
  if (static_cast<int32_t>(blockIdx.x) < before) return weigh_experts(b, shape);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const bool is_gate = warp % 4 < 2;
  const int32_t shared_tiles = layer.shared_gate.n_rows / kRows,
                first_tile = (static_cast<int32_t>(blockIdx.x) - before) * kTiles,
                first_routed = first_tile - shared_tiles;
  /* Widths are multiples of 32, so the tiles of a block are one expert's. */
  const bool is_shared = first_routed < 0;
  const int32_t tiles = is_shared ? shared_tiles : layer.gate.n_rows / kRows;
  const int32_t k = is_shared ? 0 : first_routed / tiles,
                in_expert = (is_shared ? first_tile : first_routed % tiles) + warp / 4;
  const WeightView w =
      is_shared ? (is_gate ? layer.shared_gate : layer.shared_up) : (is_gate ? layer.gate : layer.up);
  constexpr int kSlots = kInSlots<F>;
  const int32_t n_groups = w.n_groups;
  uint8_t* slots = reinterpret_cast<uint8_t*>(memory) + staged_bytes<Staged<F>>(n_groups) +
                   warp * (kSlots * kTurnBytes<F>);
  RowStream<F, kSlots> stream(w, static_cast<size_t>(in_expert) * kRows, warp % 2, 2, slots);
  if (is_shared) stream.prefetch();
  const Eight norm = load_norm(layer.ffn_norm, shape.hidden);
  wait_for_kernel_before();
  allow_next_kernel(); /* experts_out reads the logits before it waits */
  if (!is_shared) {
    const int32_t i = threadIdx.x;
    if (i < shape.n_experts) logit[i] = b.router[i];
    if (i < shape.top_k) chosen[i] = i; /* where a NaN has no rank */
    __syncthreads();
    rank_experts(logit, shape.n_experts, shape.top_k, chosen);
    __syncthreads();
    stream.set_row(w, w.row(chosen[k], in_expert * kRows));
    stream.prefetch();
  }
  const Staged<F> x = staged_in<Staged<F>>(memory, n_groups);
  stage_normed<kThreads>(x, b.x, layer.ffn_norm, norm, shape.hidden, n_groups, squares);
  __syncthreads();
  float y[2] = {};
  stream.multiply_all(x, y);
  const float first = quad_sum(y[0]), second = quad_sum(y[1]);
  if (lane % 4 == 0) {
    sums[warp * kRows + lane / 4] = first;
    sums[warp * kRows + lane / 4 + 8] = second;
  }
  __syncthreads();
  const int32_t width = is_shared ? shared_first : k * b.expert_width;
  store_gated(b, sums, rms_factor<kThreads>(squares, shape.hidden, shape.eps),
              (width + (is_shared ? first_tile : first_routed % tiles) * kRows) / 32, as_parts);
}

constexpr int kOutWarps = 16, kOutThreads = kOutWarps * kWarp;

/* Which hidden values a layer's down product reads: n_groups of 128 from group `first` on, the shared ones
 * shared_at groups behind. */
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
constexpr size_t kStaticShared = 5120; /* of the kernel, at most */
static_assert(2 * kOutWarps * kTurnBytes<EK_Q8_0> <= 144 * 1024, "two slots of the largest turn");

/* One block per 16 rows of the residual: shared experts, then the chosen ones in order. R: type of the routed
 * down weights, S: of the shared ones. */
template <ek_type R, ek_type S, int kSlots>
__global__ void __launch_bounds__(kOutThreads, 1)
    experts_out_kernel(StepBuffers b, WeightView down, WeightView shared_down, int32_t n_experts,
                       int32_t n_routed, HiddenRange range) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float sums[kOutWarps][kRows], weight[kMostExperts], logit[kMostExperts];
  __shared__ int32_t expert[kMostExperts];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t row = blockIdx.x * kRows;
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
  if (n_routed > 0) {
    /* experts_in has begun, so the logits are there. */
    const int32_t i = threadIdx.x;
    if (i < n_experts) logit[i] = b.router[i];
    if (i < n_routed) expert[i] = i; /* where a NaN has no rank */
    __syncthreads();
    rank_experts(logit, n_experts, n_routed, expert);
    __syncthreads();
    stream.prefetch(copy, kSlots);
  }
  wait_for_kernel_before();
  if (static_cast<int32_t>(threadIdx.x) < n_routed) weight[threadIdx.x] = b.expert_weight[threadIdx.x];
  const Staged<R> x = staged_in<Staged<R>>(memory, range.n_groups);
  if constexpr (R == EK_BF16) {
    copy_staged(x, b.hidden_parts.from(range.first), range.n_groups);
  } else {
    copy_staged(x, b.hidden_digits.from(range.first), range.n_groups);
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
                                   : HiddenRange{dense_first / kGroup, layer.shared_down.n_groups, 0};
  const size_t vector = staged_bytes<Staged<R>>(range.n_groups), slot = size_t{kOutWarps} * kOutSlotBytes<R, S>;
  const auto launch_with = [&]<int kSlots>() {
    launch_overlapped(s, routed ? "experts_out" : "dense_out", experts_out_kernel<R, S, kSlots>,
                      s.shape.hidden / kRows, kOutThreads, vector + slot * kSlots, s.b, layer.down,
                      layer.shared_down, s.shape.n_experts, routed ? s.shape.top_k : 0, range);
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
  const int32_t tiles =
      layer.shared_gate.n_rows / kRows + (routed ? s.shape.top_k * (layer.gate.n_rows / kRows) : 0);
  for_decode_type(layer.shared_gate.type, [&]<ek_type F>() {
    launch_overlapped(s, routed ? "experts_in" : "dense_in", experts_in_kernel<F>,
                      tiles / kTiles + (routed ? 1 : 0), kThreads,
                      staged_bytes<Staged<F>>(layer.shared_gate.n_groups) +
                          size_t{kWarps} * kInSlots<F> * kTurnBytes<F>,
                      s.b, layer, s.shape, s.shape.top_k * s.b.expert_width + (routed ? 0 : s.b.shared_width),
                      layer.shared_down.type == EK_BF16);
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
