/* The feed-forward of a decode step, first half: gate and up of shared and chosen experts in one kernel. A
 * dense layer is one of shared experts alone. */
#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;
static_assert(kThreads == kRouteThreads, "experts are ranked by a block");

/* The weights of the chosen experts, for the down product: softmax, not normalised again. One block. */
__device__ void weigh_experts(const TokenBuffers& b, const LiteShape& shape) {
  __shared__ float shared[kWarps], logit[kMostExperts];
  __shared__ int32_t chosen[kMostExperts];
  const int32_t i = threadIdx.x;
  const bool has = i < shape.n_experts;
  wait_for_kernel_before();
  allow_next_kernel();
  float square = 0;
  for (int32_t c = i; c < shape.hidden; c += kThreads) square = fmaf(b.x[c], b.x[c], square);
  const float mean = block_sum<kThreads>(square, shared) / static_cast<float>(shape.hidden);
  const float logit_of = has ? b.router[i] : 0.0f,
              own = has ? logit_of * rsqrtf(mean + shape.eps) : -INFINITY;
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
__device__ void store_gated(const TokenBuffers& b, const float* sums, float factor, int32_t part,
                            bool as_parts) {
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

/* Blocks: one that weighs the chosen experts, then a block per kTiles tiles of the shared experts, then of
 * each chosen expert. shared_first: where the shared experts' hidden values lie. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads, 3)
    experts_in_kernel(StepBuffers all, LiteLayer layer, LiteShape shape, int32_t shared_first,
                      bool as_parts) {
  const TokenBuffers b = all.of_token(blockIdx.y);
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
    choose_experts(b.router, shape.n_experts, shape.top_k, logit, chosen);
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
  const int32_t width = is_shared ? shared_first : k * all.expert_width;
  store_gated(b, sums, rms_factor<kThreads>(squares, shape.hidden, shape.eps),
              (width + (is_shared ? first_tile : first_routed % tiles) * kRows) / 32, as_parts);
}

}  // namespace

void launch_experts_in(const Step& s, const LiteLayer& layer) {
  const bool routed = layer.router != nullptr;
  const int32_t tiles =
      layer.shared_gate.n_rows / kRows + (routed ? s.shape.top_k * (layer.gate.n_rows / kRows) : 0);
  for_decode_type(layer.shared_gate.type, [&]<ek_type F>() {
    launch_overlapped(
        s, routed ? "experts_in" : "dense_in", experts_in_kernel<F>,
        {tiles / kTiles + (routed ? 1 : 0), s.n_tokens}, kThreads,
        staged_bytes<Staged<F>>(layer.shared_gate.n_groups) + size_t{kWarps} * kInSlots<F> * kTurnBytes<F>,
        s.b, layer, s.shape, s.shape.top_k * s.b.expert_width + (routed ? 0 : s.b.shared_width),
        is_float8_or_16(layer.shared_down.type));
  });
}

}  // namespace ek::cuda
