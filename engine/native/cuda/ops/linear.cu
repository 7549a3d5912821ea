/* Products of activations and weights with f32 arithmetic, for any type and shape. */
#include "ops.h"
#include "reduce.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8;

/* sum over columns of w[row,:] * x, one warp. The lanes take units of 8 columns in turn, so the order of the
 * sum depends on the number of columns alone. */
template <ek_type F>
__device__ float warp_dot(const WeightView& w, size_t row, const float* x, int lane) {
  float sum = 0;
  for (int32_t unit = lane; unit * 8 < w.n_cols; unit += kWarp) {
    float values[8];
    load_unit<F>(w, row, unit, values);
    for (int i = 0; i < 8; i++) {
      if (unit * 8 + i < w.n_cols) sum = fmaf(values[i], x[unit * 8 + i], sum);
    }
  }
  return warp_sum(sum);
}

/* grid (w.n_rows / kWarps, n_rows): a warp per output, for few rows of x. */
template <ek_type F>
__global__ void __launch_bounds__(kWarps* kWarp) linear_rows_kernel(LinearOp op) {
  const int32_t column = blockIdx.x * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (column >= op.w.n_rows) return;
  const size_t row = blockIdx.y;
  const float y = warp_dot<F>(op.w, op.w.row(0, column), op.x + row * op.w.n_cols, lane);
  if (lane != 0) return;
  float* out = op.out + row * op.w.n_rows + column;
  *out = y + (op.bias == nullptr ? 0.0f : op.bias[column]) + (op.accumulate ? *out : 0.0f);
}

/* The same for pairs of a row and an expert; grid (w.n_rows / kWarps, n_pairs). */
template <ek_type F>
__global__ void __launch_bounds__(kWarps* kWarp) pair_linear_kernel(PairLinearOp op) {
  const int32_t column = blockIdx.x * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (column >= op.w.n_rows) return;
  const size_t pair = blockIdx.y;
  const int32_t matrix = op.experts == nullptr ? 0 : op.experts[pair];
  const float y = warp_dot<F>(op.w, op.w.row(matrix, column), op.x + pair / op.x_per * op.w.n_cols, lane);
  if (lane == 0) op.out[pair * op.w.n_rows + column] = y;
}

/* Gate, up and their product at once; grid as above. */
template <ek_type F>
__global__ void __launch_bounds__(kWarps* kWarp) pair_gated_kernel(PairGatedOp op) {
  const int32_t column = blockIdx.x * kWarps + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (column >= op.gate.n_rows) return;
  const size_t pair = blockIdx.y;
  const int32_t matrix = op.experts == nullptr ? 0 : op.experts[pair];
  const float* x = op.x + pair / op.x_per * op.gate.n_cols;
  const float gate = warp_dot<F>(op.gate, op.gate.row(matrix, column), x, lane);
  const float up = warp_dot<F>(op.up, op.up.row(matrix, column), x, lane);
  if (lane == 0) op.h[pair * op.gate.n_rows + column] = gate / (1.0f + expf(-gate)) * up;
}

/* A tile of 64 rows of x by 64 outputs per block of 256 threads, 4 x 4 outputs per thread. */
constexpr int kTile = 64, kDepth = 32;

template <ek_type F>
__global__ void __launch_bounds__(256) linear_tiles_kernel(LinearOp op) {
  __shared__ float xs[kDepth][kTile + 4], ws[kDepth][kTile + 4];
  const int32_t k_total = op.w.n_cols, n_out = op.w.n_rows;
  const int32_t first_out = blockIdx.x * kTile, first_row = blockIdx.y * kTile;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const int fill_row = threadIdx.x / 4, fill_unit = threadIdx.x % 4; /* 64 rows x 4 units of 8 columns */
  float sum[4][4] = {};
  for (int32_t k0 = 0; k0 < k_total; k0 += kDepth) {
    float values[8] = {};
    const int32_t column = k0 + fill_unit * 8;
    if (first_out + fill_row < n_out && column < k_total)
      load_unit<F>(op.w, op.w.row(0, first_out + fill_row), column / 8, values);
    for (int i = 0; i < 8; i++) ws[fill_unit * 8 + i][fill_row] = column + i < k_total ? values[i] : 0.0f;
    const int32_t row = first_row + fill_row;
    for (int i = 0; i < 8; i++) {
      xs[fill_unit * 8 + i][fill_row] = row < op.n_rows && column + i < k_total
                                            ? op.x[static_cast<size_t>(row) * k_total + column + i]
                                            : 0.0f;
    }
    __syncthreads();
    for (int k = 0; k < kDepth; k++) {
      float a[4], b[4];
      for (int i = 0; i < 4; i++) a[i] = xs[k][ty * 4 + i];
      for (int i = 0; i < 4; i++) b[i] = ws[k][tx * 4 + i];
      for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; i++) {
    const int32_t row = first_row + ty * 4 + i;
    for (int j = 0; j < 4; j++) {
      const int32_t column = first_out + tx * 4 + j;
      if (row >= op.n_rows || column >= n_out) continue;
      float* out = op.out + static_cast<size_t>(row) * n_out + column;
      *out = sum[i][j] + (op.bias == nullptr ? 0.0f : op.bias[column]) + (op.accumulate ? *out : 0.0f);
    }
  }
}

constexpr int32_t kMostFewRows = 16; /* above, a tile reads the weights less often */

}  // namespace

void linear(Device& d, const LinearOp& op) {
  for_type(op.w.type, [&]<ek_type F>() {
    if (op.n_rows <= kMostFewRows) {
      const Grid grid(ceil_div(op.w.n_rows, kWarps), op.n_rows);
      launch(d.stream, "linear_rows_kernel", {grid, kWarps * kWarp}, linear_rows_kernel<F>, op);
    } else {
      const Grid grid(ceil_div(op.w.n_rows, kTile), ceil_div(op.n_rows, kTile));
      launch(d.stream, "linear_tiles_kernel", {grid, 256}, linear_tiles_kernel<F>, op);
    }
  });
}

namespace {

/* Calls body(first, n) for parts of n_pairs that fit into a grid's second dimension, at whole rows of x. */
template <class Body>
void for_pair_parts(int32_t n_pairs, int32_t x_per, Body&& body) {
  const int32_t most = 65535 / x_per * x_per;
  for (int32_t first = 0; first < n_pairs; first += most)
    body(first, n_pairs - first < most ? n_pairs - first : most);
}

}  // namespace

void pair_linear(Device& d, const PairLinearOp& op) {
  for_pair_parts(op.n_pairs, op.x_per, [&](int32_t first, int32_t n) {
    PairLinearOp part = op;
    part.out += static_cast<size_t>(first) * op.w.n_rows;
    part.x += static_cast<size_t>(first / op.x_per) * op.w.n_cols;
    if (op.experts != nullptr) part.experts += first;
    const Grid grid(ceil_div(op.w.n_rows, kWarps), n);
    for_type(op.w.type, [&]<ek_type F>() {
      launch(d.stream, "pair_linear_kernel", {grid, kWarps * kWarp}, pair_linear_kernel<F>, part);
    });
  });
}

void pair_gated(Device& d, const PairGatedOp& op) {
  EK_REQUIRE(op.gate.type == op.up.type, "gate and up must be of one type");
  for_pair_parts(op.n_pairs, op.x_per, [&](int32_t first, int32_t n) {
    PairGatedOp part = op;
    part.h += static_cast<size_t>(first) * op.gate.n_rows;
    part.x += static_cast<size_t>(first / op.x_per) * op.gate.n_cols;
    if (op.experts != nullptr) part.experts += first;
    const Grid grid(ceil_div(op.gate.n_rows, kWarps), n);
    for_type(op.gate.type, [&]<ek_type F>() {
      launch(d.stream, "pair_gated_kernel", {grid, kWarps * kWarp}, pair_gated_kernel<F>, part);
    });
  });
}

}  // namespace ek::cuda
