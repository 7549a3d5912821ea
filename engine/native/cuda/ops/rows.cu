/* Ops that go over rows: embedding, normalisation, copies, gating, the weighted sum of experts. */
#include "ops.h"
#include "reduce.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256;

template <ek_type F>
__global__ void embed_kernel(float* out, WeightView table, const int32_t* tokens) {
  const int32_t dim = table.n_cols;
  const size_t token = static_cast<size_t>(tokens[blockIdx.x]);
  float* to = out + static_cast<size_t>(blockIdx.x) * dim;
  for (int32_t unit = threadIdx.x; unit * 8 < dim; unit += blockDim.x) {
    float values[8];
    load_unit<F>(table, token, unit, values);
    for (int i = 0; i < 8; i++) {
      if (unit * 8 + i < dim) to[unit * 8 + i] = values[i];
    }
  }
}

__global__ void rmsnorm_kernel(float* out, const float* x, const float* weight, int32_t dim, float eps) {
  __shared__ float shared[kThreads / kWarp];
  const size_t at = static_cast<size_t>(blockIdx.x) * dim;
  float sum = 0;
  for (int32_t c = threadIdx.x; c < dim; c += kThreads) sum += x[at + c] * x[at + c];
  sum = block_sum<kThreads>(sum, shared);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(dim) + eps);
  for (int32_t c = threadIdx.x; c < dim; c += kThreads) out[at + c] = x[at + c] * scale * weight[c];
}

__global__ void gather_rows_kernel(float* out, const float* x, const int32_t* rows, int32_t dim) {
  const size_t to = static_cast<size_t>(blockIdx.x) * dim, from = static_cast<size_t>(rows[blockIdx.x]) * dim;
  for (int32_t c = threadIdx.x; c < dim; c += blockDim.x) out[to + c] = x[from + c];
}

__global__ void concat_kernel(float* out, const float* a, const float* b, int32_t dim) {
  const size_t from = static_cast<size_t>(blockIdx.x) * dim;
  for (int32_t c = threadIdx.x; c < dim; c += blockDim.x) {
    out[2 * from + c] = a[from + c];
    out[2 * from + dim + c] = b[from + c];
  }
}

__global__ void silu_mul_kernel(float* h, const float* up, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) h[i] = h[i] / (1.0f + expf(-h[i])) * up[i];
}

__global__ void add_pairs_kernel(float* out, const float* y, const float* weights, int32_t top_k,
                                 int32_t dim) {
  const size_t row = blockIdx.x;
  for (int32_t c = threadIdx.x; c < dim; c += blockDim.x) {
    float sum = out[row * dim + c];
    for (int32_t k = 0; k < top_k; k++) {
      const size_t pair = row * top_k + k;
      sum += weights[pair] * y[pair * dim + c];
    }
    out[row * dim + c] = sum;
  }
}

}  // namespace

void embed(Device& d, float* out, const WeightView& table, const int32_t* tokens, int32_t n_tokens) {
  for_type(table.type, [&]<ek_type F>() {
    launch(d.stream, "embed_kernel", {n_tokens, 128}, embed_kernel<F>, out, table, tokens);
  });
}

void rmsnorm(Device& d, float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
             float eps) {
  launch(d.stream, "rmsnorm_kernel", {n_rows, kThreads}, rmsnorm_kernel, out, x, weight, dim, eps);
}

void gather_rows(Device& d, float* out, const float* x, const int32_t* rows, int32_t n_rows, int32_t dim) {
  launch(d.stream, "gather_rows_kernel", {n_rows, kThreads}, gather_rows_kernel, out, x, rows, dim);
}

void concat(Device& d, float* out, const float* a, const float* b, int32_t n_rows, int32_t dim) {
  launch(d.stream, "concat_kernel", {n_rows, kThreads}, concat_kernel, out, a, b, dim);
}

void silu_mul(Device& d, float* h, const float* up, int64_t n) {
  launch(d.stream, "silu_mul_kernel", {ceil_div(n, kThreads), kThreads}, silu_mul_kernel, h, up, n);
}

void add_pairs(Device& d, float* out, const float* y, const float* weights, int32_t n_rows, int32_t top_k,
               int32_t dim) {
  launch(d.stream, "add_pairs_kernel", {n_rows, kThreads}, add_pairs_kernel, out, y, weights, top_k, dim);
}

}  // namespace ek::cuda
