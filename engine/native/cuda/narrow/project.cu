/* What attention needs of a token, of its normed residual: queries of all heads, absorbed into the latent and
 * rotated; the latent and rotary key; the gates. */
#include "rows.cuh"

namespace ek::cuda::narrow {

namespace {

constexpr int kAbsorbHalves = 2; /* of the latent: a block of 8 warps has 8 units of 8 columns */

/* Plain half of a head's query, then W_UK transposed times it for half of the latent. */
template <ek_type F>
__device__ void absorb(const Buffers& b, const Layer& l, const Shape& s, const NormedInput& input, float* x,
                       float* squares, int32_t job) {
  __shared__ float q[kNope];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, row = threadIdx.x / kRowLanes;
  const int32_t h = job / kAbsorbHalves, unit = job % kAbsorbHalves * kWarps + warp;
  RowProduct<F> product[2];
#pragma unroll
  for (int i = 0; i < 2; i++)
    product[i].prefetch(l.q, static_cast<size_t>(h) * (kNope + kRope) + i * kRowsPerBlock + row);
  float w[8];
  load_unit<F>(l.kv_b, static_cast<size_t>(h) * (kNope + kValue) + lane, unit, w);
  wait_for_kernel_before();
  allow_next_kernel();
  input.stage(x, squares, b.x, l.attn_norm, s.hidden);
  const float factor = rms_factor(squares, s.hidden, s.eps) * s.softmax_scale;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float y = product[i].multiply(l.q, x);
    if (threadIdx.x % kRowLanes == 0) q[i * kRowsPerBlock + row] = y * factor;
  }
  __syncthreads();
  for (int i = 0; i < 8; i++) {
    const float sum = warp_sum(w[i] * q[lane]);
    if (lane == 0) b.query[(unit * 8 + i) * kMostHeads + h] = sum;
  }
}

/* 16 rows of the rotary half of a head's query; neighbours in a warp are a pair. */
__device__ void store_rotary(const Buffers& b, int32_t job, int32_t row, float y) {
  const int32_t h = job / (kRope / kRowsPerBlock), at = job % (kRope / kRowsPerBlock) * kRowsPerBlock + row;
  const float2 turn = b.turn[at / 2];
  const float other = __shfl_xor_sync(0xffffffffu, y, kRowLanes);
  const float turned = at % 2 == 0 ? y * turn.x - other * turn.y : other * turn.y + y * turn.x;
  if (threadIdx.x % kRowLanes == 0) b.query[(kLatent + at) * kMostHeads + h] = turned;
}

/* 16 rows of a matrix times the normed residual, before the factor 1 / rms. */
template <ek_type F>
__device__ float rows_of(const WeightView& w, size_t row, const Buffers& b, const Layer& l, const Shape& s,
                         const NormedInput& input, float* x, float* squares) {
  RowProduct<F> product;
  product.prefetch(w, row);
  wait_for_kernel_before();
  allow_next_kernel();
  input.stage(x, squares, b.x, l.attn_norm, s.hidden);
  return product.multiply(w, x) * rms_factor(squares, s.hidden, s.eps);
}

/* The next kernel may begin behind this one's wait only: it reads the step's state before its own. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) project_kernel(Buffers b, Layer l, Shape s) {
  float* x = dynamic_shared<float>();
  __shared__ float squares[kWarps];
  NormedInput input;
  input.prefetch(l.attn_norm, s.hidden);
  int32_t job = blockIdx.x;
  const int32_t row = threadIdx.x / kRowLanes, n_rotary = s.n_heads * (kRope / kRowsPerBlock);
  const bool is_first = threadIdx.x % kRowLanes == 0;
  if (job < s.n_heads * kAbsorbHalves) return absorb<F>(b, l, s, input, x, squares, job);
  job -= s.n_heads * kAbsorbHalves;
  if (job < n_rotary) {
    const int32_t h = job / (kRope / kRowsPerBlock), part = job % (kRope / kRowsPerBlock);
    const size_t at = static_cast<size_t>(h) * (kNope + kRope) + kNope + part * kRowsPerBlock + row;
    const float y = rows_of<F>(l.q, at, b, l, s, input, x, squares);
    return store_rotary(b, job, row, y * s.softmax_scale);
  }
  job -= n_rotary;
  if (job < kWidth / kRowsPerBlock) {
    const int32_t at = job * kRowsPerBlock + row;
    const float y = rows_of<F>(l.kv_a, at, b, l, s, input, x, squares);
    if (is_first) b.kv_a[at] = y;
    return;
  }
  job -= kWidth / kRowsPerBlock;
  const int32_t at = job * kRowsPerBlock + row, n_gates = s.n_heads * 3, safe = min(at, n_gates - 1);
  const float y = rows_of<EK_F32>(l.attn_gate, safe, b, l, s, input, x, squares);
  if (is_first && at < n_gates) b.gates[at] = 1.0f / (1.0f + expf(-(y + l.attn_gate_bias[at])));
}

}  // namespace

void launch_project(const Step& s, const Layer& layer) {
  const Shape& shape = s.shape;
  const int32_t n_blocks = shape.n_heads * (kAbsorbHalves + kRope / kRowsPerBlock) + kWidth / kRowsPerBlock +
                           ceil_div(shape.n_heads * 3, kRowsPerBlock);
  const size_t shared = static_cast<size_t>(staged_floats(shape.hidden)) * sizeof(float);
  for_narrow_type(layer.q.type, [&]<ek_type F>() {
    s.run("project", n_blocks, shared, project_kernel<F>, s.b, layer, shape);
  });
}

}  // namespace ek::cuda::narrow
