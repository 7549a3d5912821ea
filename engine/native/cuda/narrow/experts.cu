/* The feed-forward: dense, or the chosen and the shared experts. */
#include "rows.cuh"

namespace ek::cuda::narrow {

namespace {

/* An expert as its lane sees it, and the one of a rank that was asked for. */
struct Ranked {
  int32_t rank; /* of the expert whose number is the lane's */
  float weight;
  int32_t expert; /* of rank `slot` */
};

/* Ranks the experts by score + bias, ties to the lowest index; every warp does so for itself, a lane per
 * expert. */
__device__ Ranked rank_experts(const float* logit, const Layer& l, const Shape& s, int32_t slot) {
  const int lane = threadIdx.x % kWarp;
  const bool exists = lane < s.n_experts;
  const float score = exists ? 1.0f / (1.0f + expf(-logit[lane])) : 0.0f;
  float key = exists && l.router_bias != nullptr ? score + l.router_bias[lane] : score;
  if (isnan(key)) key = -INFINITY;
  Ranked out{0, 0, 0};
  for (int32_t e = 0; e < s.n_experts; e++) {
    const float other = __shfl_sync(0xffffffffu, key, e);
    out.rank += other > key || (other == key && e < lane) ? 1 : 0;
  }
  if (!exists) out.rank = kMostExperts;
  float total = 0;
  for (int32_t k = 0; k < s.top_k; k++) {
    const int32_t e = 31 - __clz(static_cast<int>(__ballot_sync(0xffffffffu, out.rank == k)));
    total += __shfl_sync(0xffffffffu, score, e);
    if (k == slot) out.expert = e;
  }
  out.weight = (s.normalize ? score / total : score) * s.scale;
  return out;
}

__device__ inline float gated(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

/* Logits of the router to shared memory; 16 lanes have an expert. Ends in a barrier. */
__device__ void route(float* logit, RowProduct<EK_F32>& product, const Layer& l, const Shape& s,
                      const float* x, float factor) {
  const int32_t own = threadIdx.x / kRowLanes;
  for (int32_t first = 0; first < s.n_experts; first += kRowsPerBlock) {
    const int32_t e = min(first + own, s.n_experts - 1);
    if (first > 0) product.prefetch(l.router, static_cast<size_t>(e));
    const float y = product.multiply(l.router, x);
    if (threadIdx.x % kRowLanes == 0 && first + own < s.n_experts) logit[e] = y * factor;
  }
  __syncthreads();
}

/* hidden = silu(gate x) * up x. Blocks of 16 rows: of the chosen experts by rank, then of the shared one. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) experts_in_kernel(Buffers b, Layer l, Shape s) {
  float* x = dynamic_shared<float>();
  __shared__ float squares[kWarps], logit[kMostExperts];
  allow_next_kernel();
  const int32_t own = threadIdx.x / kRowLanes, per_expert = l.is_dense() ? 1 : s.ff / kRowsPerBlock;
  const int32_t slot = l.is_dense() ? 0 : min(static_cast<int32_t>(blockIdx.x) / per_expert, s.top_k);
  const bool routed = !l.is_dense() && slot < s.top_k;
  const int32_t row =
      (static_cast<int32_t>(blockIdx.x) - slot * (l.is_dense() ? 0 : per_expert)) * kRowsPerBlock + own;
  RowProduct<F> gate, up;
  RowProduct<EK_F32> router;
  if (routed) {
    router.prefetch(l.router, static_cast<size_t>(min(own, s.n_experts - 1)));
  } else {
    gate.prefetch(l.shared_gate, static_cast<size_t>(row));
    up.prefetch(l.shared_up, static_cast<size_t>(row));
  }
  NormedInput input;
  input.prefetch(l.ffn_norm, s.hidden);
  wait_for_kernel_before();
  input.stage(x, squares, b.x, l.ffn_norm, s.hidden);
  const float factor = rms_factor(squares, s.hidden, s.eps);
  if (routed) {
    route(logit, router, l, s, x, factor);
    const Ranked own_expert = rank_experts(logit, l, s, slot);
    if (blockIdx.x == 0 && threadIdx.x < kWarp && own_expert.rank < s.top_k) {
      b.chosen[own_expert.rank] = threadIdx.x;
      b.chosen_weight[own_expert.rank] = own_expert.weight;
    }
    gate.prefetch(l.gate, l.gate.row(own_expert.expert, row));
    up.prefetch(l.up, l.up.row(own_expert.expert, row));
  }
  const WeightView &g = routed ? l.gate : l.shared_gate, &u = routed ? l.up : l.shared_up;
  const float first = gate.multiply(g, x) * factor, second = up.multiply(u, x) * factor;
  if (threadIdx.x % kRowLanes == 0) b.hidden[(l.is_dense() ? 0 : slot * s.ff) + row] = gated(first, second);
}

/* x += weighted down projections of the chosen experts, then that of the shared one; 16 lanes have a row of
 * x, and share out the columns of all experts. Dynamic shared memory: the hidden values, staged. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) experts_out_kernel(Buffers b, Layer l, Shape s) {
  float* h = dynamic_shared<float>();
  allow_next_kernel();
  const int32_t row = blockIdx.x * kRowsPerBlock + threadIdx.x / kRowLanes, lane = threadIdx.x % kRowLanes,
                safe = min(row, s.hidden - 1);
  const int32_t top_k = l.is_dense() ? 0 : s.top_k, per_expert = l.is_dense() ? 1 : pieces_of(s.ff);
  const int32_t n_routed = top_k * per_expert, n = n_routed + pieces_of(l.shared_down.n_cols);
  Piece<F> first;
  if (lane >= n_routed && lane < n) first.load(l.shared_down, static_cast<size_t>(safe), lane - n_routed);
  wait_for_kernel_before();
  const int32_t width = l.is_dense() ? 0 : s.ff, pitch = staged_floats(s.ff), shared_at = top_k * pitch;
  for (int32_t i = threadIdx.x; i < top_k * width; i += kThreads)
    h[i / width * pitch + staged_at(i % width)] = b.hidden[i];
  for (int32_t i = threadIdx.x; i < l.shared_down.n_cols; i += kThreads)
    h[shared_at + staged_at(i)] = b.hidden[top_k * width + i];
  float sum = 0;
  bool staged = false;
  for (int32_t p = lane;; p += kRowLanes) {
    const bool routed = p < n_routed;
    const int32_t slot = routed ? p / per_expert : 0;
    if (routed) first.load(l.down, l.down.row(b.chosen[slot], safe), p % per_expert);
    if (!routed && p >= kRowLanes && p < n)
      first.load(l.shared_down, static_cast<size_t>(safe), p - n_routed);
    if (!staged) __syncthreads(); /* behind the first loads */
    staged = true;
    if (p >= n) break;
    sum += routed ? b.chosen_weight[slot] * first.dot(h + slot * pitch, p % per_expert)
                  : first.dot(h + shared_at, p - n_routed);
  }
  sum = row_sum(sum);
  if (lane == 0 && row < s.hidden) b.x[row] += sum;
}

}  // namespace

void launch_experts_in(const Step& s, const Layer& layer) {
  const Shape& shape = s.shape;
  const int32_t routed = layer.is_dense() ? 0 : shape.top_k * (shape.ff / kRowsPerBlock);
  const size_t shared = static_cast<size_t>(staged_floats(shape.hidden)) * sizeof(float);
  for_narrow_type(layer.shared_gate.type, [&]<ek_type F>() {
    s.run("experts_in", routed + layer.shared_gate.n_rows / kRowsPerBlock, shared, experts_in_kernel<F>, s.b,
          layer, shape);
  });
}

void launch_experts_out(const Step& s, const Layer& layer) {
  const Shape& shape = s.shape;
  const int32_t top_k = layer.is_dense() ? 0 : shape.top_k;
  const size_t shared =
      static_cast<size_t>(top_k * staged_floats(shape.ff) + staged_floats(layer.shared_down.n_cols)) *
      sizeof(float);
  for_narrow_type(layer.shared_down.type, [&]<ek_type F>() {
    s.run("experts_out", ceil_div(shape.hidden, kRowsPerBlock), shared, experts_out_kernel<F>, s.b, layer,
          shape);
  });
}

}  // namespace ek::cuda::narrow
