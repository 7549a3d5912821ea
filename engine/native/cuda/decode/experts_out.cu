/* The feed-forward of a decode step, second half: down of the shared and the chosen experts, added to the
 * residual. */
#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kRows = 16;
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

/* A warp's turns through the down weights of 16 rows: every kOutWarps-th of the shared experts, then of the
 * chosen ones. */
template <ek_type R, ek_type S>
struct DownTurns {
  static constexpr int kSlot = kOutSlotBytes<R, S>;
  const WeightView &down, &shared_down;
  const int32_t* expert; /* chosen, the best first */
  int32_t row, next_shared, shared;
  RoutedTurn next{0, 0}, now;
  uint8_t* slots;

  __device__ DownTurns(const WeightView& d, const WeightView& shared_d, const int32_t* chosen, int32_t of_row,
                       int32_t warp, uint8_t* of_warp)
      : down(d),
        shared_down(shared_d),
        expert(chosen),
        row(of_row),
        next_shared(warp),
        shared(warp),
        slots(of_warp) {
    next.advance(first_routed(warp), max(turns_of<R>(down.n_groups), 1));
    now = next;
  }
  /* The other way round: the shared turns rarely fill the last round. */
  static __device__ int32_t first_routed(int32_t warp) { return kOutWarps - 1 - warp; }
  __device__ int32_t n_shared(int32_t warp) const {
    return share_of(turns_of<S>(shared_down.n_groups), warp, kOutWarps);
  }
  __device__ int32_t n_routed(int32_t warp, int32_t n_experts) const {
    return share_of(n_experts * turns_of<R>(down.n_groups), first_routed(warp), kOutWarps);
  }

  /* Begins to copy the next turn. */
  __device__ void copy(int slot, int lane) {
    uint8_t* to = slots + slot * kSlot;
    if (next_shared < turns_of<S>(shared_down.n_groups)) {
      copy_turn<S>(to, tile_at<S>(shared_down, static_cast<size_t>(row)) + next_shared * kTurnBytes<S>,
                   is_whole<S>(next_shared, shared_down.n_groups), lane);
      next_shared += kOutWarps;
      return;
    }
    copy_turn<R>(to, tile_at<R>(down, down.row(expert[next.k], row)) + next.turn * kTurnBytes<R>,
                 is_whole<R>(next.turn, down.n_groups), lane);
    next.advance(kOutWarps, turns_of<R>(down.n_groups));
  }
  /* y += the product of the turn that was copied first. weight: of the chosen experts; width: of an expert's
   * hidden values, in groups. */
  __device__ void multiply_next(int slot, const Staged<R>& x, const Staged<S>& shared_x, int32_t width,
                                const float* weight, int lane, float (&y)[2]) {
    const uint8_t* from = slots + slot * kSlot;
    if (shared < turns_of<S>(shared_down.n_groups)) {
      multiply_turn<S>(from, shared_x, shared, is_whole<S>(shared, shared_down.n_groups), lane, y);
      shared += kOutWarps;
      return;
    }
    float part[2] = {};
    multiply_turn<R>(from, x.from(now.k * width), now.turn, is_whole<R>(now.turn, down.n_groups), lane, part);
    for (int r = 0; r < 2; r++) y[r] = fmaf(weight[now.k], part[r], y[r]);
    now.advance(kOutWarps, turns_of<R>(down.n_groups));
  }
};

/* One block per 16 rows of the residual: shared experts, then the chosen ones in order. R: type of the routed
 * down weights, S: of the shared ones. */
template <ek_type R, ek_type S, int kSlots>
__global__ void __launch_bounds__(kOutThreads, 1)
    experts_out_kernel(StepBuffers all, WeightView down, WeightView shared_down, int32_t n_experts,
                       int32_t n_routed, HiddenRange range) {
  const TokenBuffers b = all.of_token(blockIdx.y);
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float sums[kOutWarps][kRows], weight[kMostExperts], logit[kMostExperts];
  __shared__ int32_t expert[kMostExperts];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t row = blockIdx.x * kRows;
  allow_next_kernel();
  DownTurns<R, S> turns(down, shared_down, expert, row, warp,
                        reinterpret_cast<uint8_t*>(memory) + staged_bytes<Staged<R>>(range.n_groups) +
                            warp * (kSlots * kOutSlotBytes<R, S>));
  const auto copy = [&](int slot) { turns.copy(slot, lane); };
  TurnStream<kSlots> stream{turns.n_shared(warp) + turns.n_routed(warp, n_routed)};
  stream.prefetch(copy, turns.n_shared(warp));
  if (n_routed > 0) {
    /* experts_in has begun, so the logits are there. */
    choose_experts(b.router, n_experts, n_routed, logit, expert);
    stream.prefetch(copy, kSlots);
  }
  wait_for_kernel_before();
  if (static_cast<int32_t>(threadIdx.x) < n_routed) weight[threadIdx.x] = b.expert_weight[threadIdx.x];
  const Staged<R> x = staged_in<Staged<R>>(memory, range.n_groups);
  if constexpr (is_float8_or_16(R)) {
    copy_staged(x, b.hidden_parts.from(range.first), range.n_groups);
  } else {
    copy_staged(x, b.hidden_digits.from(range.first), range.n_groups);
  }
  __syncthreads();
  float y[2] = {};
  const Staged<S> shared_x = x.from(range.shared_at);
  stream.take_turns(copy, [&](int slot) {
    turns.multiply_next(slot, x, shared_x, all.expert_width / kGroup, weight, lane, y);
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
  const int32_t shared_first = s.shape.top_k * s.b.expert_width,
                dense_first = shared_first + s.b.shared_width;
  const HiddenRange range = routed ? HiddenRange{0, dense_first / kGroup, shared_first / kGroup}
                                   : HiddenRange{dense_first / kGroup, layer.shared_down.n_groups, 0};
  const size_t vector = staged_bytes<Staged<R>>(range.n_groups),
               slot = size_t{kOutWarps} * kOutSlotBytes<R, S>;
  const auto launch_with = [&]<int kSlots>() {
    launch_overlapped(s, routed ? "experts_out" : "dense_out", experts_out_kernel<R, S, kSlots>,
                      {s.shape.hidden / kRows, s.n_tokens}, kOutThreads, vector + slot * kSlots, s.b,
                      layer.down, layer.shared_down, s.shape.n_experts, routed ? s.shape.top_k : 0, range);
  };
  constexpr int kMany = kManySlots<R, S>;
  if (vector + slot * kMany + kStaticShared <= s.b.most_shared) {
    launch_with.template operator()<kMany>();
  } else {
    launch_with.template operator()<kFewSlots>();
  }
}

}  // namespace

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
