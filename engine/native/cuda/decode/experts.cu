/* The feed-forward of a decode step: router, gate and up of shared and chosen experts in one kernel, down in
 * the next. A dense layer is one of shared experts alone. */
#include "kernels.h"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kRows = 16;

/* Chooses the experts from all logits: softmax, the top_k largest, ties to the lowest index, not normalised
 * again. n_experts <= kThreads. */
__device__ void choose_experts(const StepBuffers& b, int32_t n_experts, int32_t top_k, float* logit,
                               float* shared) {
  const int i = threadIdx.x;
  const bool has = i < n_experts;
  if (has) logit[i] = __ldcg(b.router + i);
  const float own = has ? __ldcg(b.router + i) : -INFINITY;
  const float top = block_max<kThreads>(own, shared);
  const float e = has ? expf(own - top) : 0.0f;
  const float total = block_sum<kThreads>(e, shared);
  int rank = 0;
  for (int j = 0; has && j < n_experts; j++) rank += logit[j] > own || (logit[j] == own && j < i);
  if (has && rank < top_k) {
    b.experts[rank] = i;
    b.expert_weight[rank] = e / total;
  }
}

/* A warp per expert; the block that arrives last chooses, and then lets the routed blocks of this kernel go
 * on. */
__device__ void route(const StepBuffers& b, const LiteLayer& layer, const LiteShape& shape,
                      int32_t n_blocks) {
  __shared__ float shared[kWarps], logit[kThreads];
  __shared__ bool last;
  const int lane = threadIdx.x % kWarp, expert = blockIdx.x * kWarps + threadIdx.x / kWarp;
  float sum = 0;
  for (int32_t c = threadIdx.x; c < shape.hidden; c += kThreads) sum += b.x[c] * b.x[c];
  const float scale = rsqrtf(block_sum<kThreads>(sum, shared) / static_cast<float>(shape.hidden) + shape.eps);
  if (expert < shape.n_experts) {
    const float* row = layer.router + static_cast<size_t>(expert) * shape.hidden;
    float dot = 0;
#pragma unroll 4
    for (int32_t c = lane * 4; c < shape.hidden; c += kWarp * 4) {
      const float4 w = *reinterpret_cast<const float4*>(row + c);
      const float4 x = *reinterpret_cast<const float4*>(b.x + c);
      const float4 n = *reinterpret_cast<const float4*>(layer.ffn_norm + c);
      dot += w.x * x.x * n.x + w.y * x.y * n.y + w.z * x.z * n.z + w.w * x.w * n.w;
    }
    dot = warp_sum(dot) * scale;
    if (lane == 0) b.router[expert] = dot;
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(b.arrived, 1u) + 1 == static_cast<uint32_t>(n_blocks);
  __syncthreads();
  if (!last) return;
  choose_experts(b, shape.n_experts, shape.top_k, logit, shared);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) atomicExch(b.arrived + 1, 1u);
}

/* Returns when the experts are chosen; the router's blocks come first in the grid, so they run. */
__device__ void wait_for_choice(const uint32_t* chosen) {
  if (threadIdx.x == 0) {
    while (load_acquire(chosen) == 0) {
    }
  }
  __syncthreads();
}

/* hidden = silu(gate x) * up x for 16 rows: warps 0 to 3 gate, 4 to 7 up. next: the warp's first fragment. */
template <ek_type F>
__device__ void gated_tile(const WeightView& w, size_t row, Fragment<F> next, const Parts& x, const Parts& to,
                           int32_t unit, float* shared) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  float y[2] = {};
  for (int32_t group = warp % 4; group < w.n_groups; group += 4) {
    const Fragment<F> now = next;
    if (group + 4 < w.n_groups) next = load_fragment<F>(w, row, group + 4, lane);
    multiply_fragment<F>(now, x, group, lane, y);
  }
  const float first = quad_sum(y[0]), second = quad_sum(y[1]);
  if (lane % 4 == 0) {
    shared[warp * kRows + lane / 4] = first;
    shared[warp * kRows + lane / 4 + 8] = second;
  }
  __syncthreads();
  if (threadIdx.x >= 2) return;
  float v[8];
  for (int i = 0; i < 8; i++) {
    const int r = threadIdx.x * 8 + i;
    float gate = 0, up = 0;
    for (int j = 0; j < 4; j++) {
      gate += shared[j * kRows + r];
      up += shared[(j + 4) * kRows + r];
    }
    v[i] = gate / (1.0f + expf(-gate)) * up;
  }
  store_unit(to, unit + threadIdx.x, v);
}

/* Blocks: the router's, then a block per 16 rows of the shared experts, then of each chosen expert. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) experts_in_kernel(StepBuffers b, LiteLayer layer, LiteShape shape,
                                                              int32_t router_blocks, int32_t shared_first) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kWarps * kRows];
  allow_next_kernel();
  if (static_cast<int32_t>(blockIdx.x) < router_blocks) {
    wait_for_kernel_before();
    return route(b, layer, shape, router_blocks);
  }
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const bool is_gate = warp < 4;
  const int32_t shared_tiles = layer.shared_gate.n_rows / kRows;
  int32_t tile = static_cast<int32_t>(blockIdx.x) - router_blocks;
  const bool is_shared = tile < shared_tiles;
  const WeightView w =
      is_shared ? (is_gate ? layer.shared_gate : layer.shared_up) : (is_gate ? layer.gate : layer.up);
  const int32_t n_units = w.n_groups * kUnitsPerGroup;
  const Parts x = parts_in(memory, n_units);
  size_t row = static_cast<size_t>(tile) * kRows;
  Fragment<F> first;
  if (is_shared && warp % 4 < w.n_groups) first = load_fragment<F>(w, row, warp % 4, lane);
  wait_for_kernel_before();
  stage_normed<kThreads>(x, b.x, layer.ffn_norm, shape.hidden, n_units, shape.eps, shared);
  int32_t unit = shared_first + tile * 2;
  if (is_shared) {
    __syncthreads();
  } else {
    tile -= shared_tiles;
    const int32_t tiles = layer.gate.n_rows / kRows, k = tile / tiles;
    wait_for_choice(b.arrived + 1);
    row = w.row(__ldcg(b.experts + k), tile % tiles * kRows);
    unit = k * b.expert_units + tile % tiles * 2;
    if (warp % 4 < w.n_groups) first = load_fragment<F>(w, row, warp % 4, lane);
  }
  gated_tile<F>(w, row, first, x, b.hidden, unit, shared);
}

constexpr int kOutWarps = 16, kOutThreads = kOutWarps * kWarp;

/* Which hidden values a layer's down product reads: n_units from `first` on, the shared ones from shared_at
 * on. */
struct HiddenRange {
  int32_t first, n_units, shared_at;
};

/* One block per 16 rows of the residual: shared experts, then the chosen ones in order. R: type of the routed
 * down weights, S: of the shared ones. */
template <ek_type R, ek_type S>
__global__ void __launch_bounds__(kOutThreads)
    experts_out_kernel(StepBuffers b, WeightView down, WeightView shared_down, int32_t n_routed,
                       HiddenRange range) {
  uint4* memory = dynamic_shared<uint4>();
  __shared__ float shared[kOutWarps][kRows];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t row = blockIdx.x * kRows;
  allow_next_kernel();
  Fragment<S> next_shared;
  if (warp < shared_down.n_groups) next_shared = load_fragment<S>(shared_down, row, warp, lane);
  wait_for_kernel_before();
  const int32_t total = n_routed * down.n_groups;
  Fragment<R> next;
  int32_t at = kOutWarps - 1 - warp; /* the other way round: the shared groups rarely fill the last turn */
  const auto load_routed = [&](int32_t i) {
    return load_fragment<R>(down, down.row(b.experts[i / down.n_groups], row), i % down.n_groups, lane);
  };
  if (at < total) next = load_routed(at);
  const Parts x = parts_in(memory, range.n_units);
  copy_parts(x, b.hidden.from(range.first), range.n_units);
  __syncthreads();
  float y[2] = {};
  for (int32_t group = warp; group < shared_down.n_groups; group += kOutWarps) {
    const Fragment<S> now = next_shared;
    if (group + kOutWarps < shared_down.n_groups)
      next_shared = load_fragment<S>(shared_down, row, group + kOutWarps, lane);
    multiply_fragment<S>(now, x.from(range.shared_at), group, lane, y);
  }
  for (; at < total; at += kOutWarps) {
    const Fragment<R> now = next;
    if (at + kOutWarps < total) next = load_routed(at + kOutWarps);
    const int32_t k = at / down.n_groups;
    float part[2] = {};
    multiply_fragment<R>(now, x.from(k * b.expert_units), at % down.n_groups, lane, part);
    for (int r = 0; r < 2; r++) y[r] = fmaf(b.expert_weight[k], part[r], y[r]);
  }
  const float first = quad_sum(y[0]), second = quad_sum(y[1]);
  if (lane % 4 == 0) {
    shared[warp][lane / 4] = first;
    shared[warp][lane / 4 + 8] = second;
  }
  __syncthreads();
  if (threadIdx.x >= kRows) return;
  float sum = 0;
  for (int w = 0; w < kOutWarps; w++) sum += shared[w][threadIdx.x];
  b.x[row + threadIdx.x] += sum;
}

template <ek_type R, ek_type S>
void launch_out(const Step& s, const LiteLayer& layer) {
  const bool routed = layer.router != nullptr;
  const int32_t shared_first = s.shape.top_k * s.b.expert_units;
  const HiddenRange range =
      routed ? HiddenRange{0, shared_first + s.b.shared_units, shared_first}
             : HiddenRange{shared_first + s.b.shared_units, layer.shared_down.n_groups * kUnitsPerGroup, 0};
  launch_overlapped(s, routed ? "experts_out" : "dense_out", experts_out_kernel<R, S>, s.shape.hidden / kRows,
                    kOutThreads, parts_bytes(range.n_units), s.b, layer.down, layer.shared_down,
                    routed ? s.shape.top_k : 0, range);
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
  const int32_t router_blocks = routed ? ceil_div(s.shape.n_experts, kWarps) : 0;
  const int32_t tiles =
      layer.shared_gate.n_rows / kRows + (routed ? s.shape.top_k * (layer.gate.n_rows / kRows) : 0);
  for_decode_type(layer.shared_gate.type, [&]<ek_type F>() {
    launch_overlapped(s, routed ? "experts_in" : "dense_in", experts_in_kernel<F>, router_blocks + tiles,
                      kThreads, parts_bytes(layer.shared_gate.n_groups * kUnitsPerGroup), s.b, layer, s.shape,
                      router_blocks, s.shape.top_k * s.b.expert_units + (routed ? 0 : s.b.shared_units));
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
