/* Splits of attention put together, W_UV, and the projection of the heads. */
#include "rows.cuh"

namespace ek::cuda::narrow {

namespace {

constexpr int kQuarter = kLatent / kQuarters; /* 32 columns: 4 units */
constexpr int kGroups = kThreads / kQuarter;  /* that share the splits */

static_assert(kQuarter == kWarp && kValue * 4 == kThreads, "a lane per latent, four per value");

/* One branch's splits of a head. */
struct Branch {
  const float *maxima, *sums, *parts;
  int32_t n;
  float gate;
};

/* weight (n): the factor of each split's latents, gate and sum included, 0 where a split has no rows; by one
 * warp. */
__device__ void weigh_splits(float* weight, const Branch& branch, int32_t h) {
  const int lane = threadIdx.x % kWarp;
  float top = -INFINITY, sum = 0;
  for (int32_t i = lane; i < branch.n; i += kWarp) top = fmaxf(top, branch.maxima[i * kMostHeads + h]);
  top = warp_max(top);
  for (int32_t i = lane; i < branch.n; i += kWarp) {
    const float m = branch.maxima[i * kMostHeads + h];
    const float by = m == -INFINITY ? 0.0f : expf(m - top);
    weight[i] = by;
    if (by != 0) sum += by * branch.sums[i * kMostHeads + h];
  }
  sum = warp_sum(sum);
  const float factor = sum > 0 ? branch.gate / sum : 0.0f;
  for (int32_t i = lane; i < branch.n; i += kWarp) weight[i] *= factor;
}

/* grid (quarters of the latent, heads). Dynamic shared memory: weights of all splits. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    combine_kernel(Buffers b, Layer l, Shape s, int32_t pooled_splits, int32_t row_splits) {
  float* weights = dynamic_shared<float>();
  __shared__ float part[kGroups * kQuarter], latent[kQuarter];
  allow_next_kernel();
  const int32_t quarter = blockIdx.x, h = blockIdx.y, value = threadIdx.x / 4;
  float w[8];
  load_unit<F>(l.kv_b, static_cast<size_t>(h) * (kNope + kValue) + kNope + value,
               quarter * 4 + threadIdx.x % 4, w);
  wait_for_kernel_before();
  const int32_t visible = b.kv.n_visible(b.state->position);
  const Branch branches[3] = {{b.pooled_max, b.pooled_sum, b.pooled_part,
                               min(pooled_splits, (visible + kTileRows - 1) / kTileRows), b.gates[h * 3]},
                              {b.row_max[0], b.row_sum[0], b.row_part[0], row_splits, b.gates[h * 3 + 1]},
                              {b.row_max[1], b.row_sum[1], b.row_part[1], row_splits, b.gates[h * 3 + 2]}};
  const int32_t begins[3] = {0, pooled_splits, pooled_splits + row_splits};
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int i = 0; i < 3; i++) {
    if (warp == i) weigh_splits(weights + begins[i], branches[i], h);
  }
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 3; i++) {
    const float* from = branches[i].parts + h * kLatent + quarter * kQuarter + lane;
    for (int32_t k = warp; k < branches[i].n; k += kGroups) {
      const float by = weights[begins[i] + k];
      if (by != 0) sum = fmaf(by, from[static_cast<size_t>(k) * s.n_heads * kLatent], sum);
    }
  }
  part[threadIdx.x] = sum;
  __syncthreads();
  if (warp == 0) {
    float total = 0;
    for (int g = 0; g < kGroups; g++) total += part[g * kQuarter + lane];
    latent[lane] = total;
  }
  __syncthreads();
  float y = 0;
  for (int i = 0; i < 8; i++) y = fmaf(w[i], latent[threadIdx.x % 4 * 8 + i], y);
  y += __shfl_xor_sync(0xffffffffu, y, 1);
  y += __shfl_xor_sync(0xffffffffu, y, 2);
  if (threadIdx.x % 4 == 0) b.heads[(quarter * s.n_heads + h) * kValue + value] = y;
}

/* x += W_o heads; a block per 16 rows. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) project_out_kernel(Buffers b, WeightView w) {
  float* x = dynamic_shared<float>();
  allow_next_kernel();
  const int32_t row = blockIdx.x * kRowsPerBlock + threadIdx.x / kRowLanes, safe = min(row, w.n_rows - 1);
  RowProduct<F> product;
  product.prefetch(w, static_cast<size_t>(safe));
  wait_for_kernel_before();
  for (int32_t i = threadIdx.x; i < (w.n_cols + kGroup - 1) / kGroup * kGroup; i += kThreads) {
    float sum = 0;
    for (int q = 0; q < kQuarters && i < w.n_cols; q++) sum += b.heads[q * w.n_cols + i];
    x[staged_at(i)] = sum;
  }
  __syncthreads();
  const float y = product.multiply(w, x);
  if (threadIdx.x % kRowLanes == 0 && row < w.n_rows) b.x[row] += y;
}

}  // namespace

void launch_combine(const Step& s, const Layer& layer, int32_t pooled_splits) {
  const int32_t row_splits = s.shape.most_union() * (EK_KV_BLOCK / kTileRows);
  const size_t shared = static_cast<size_t>(pooled_splits + 2 * row_splits) * sizeof(float);
  for_narrow_type(layer.kv_b.type, [&]<ek_type F>() {
    s.run("combine", {kQuarters, s.shape.n_heads}, shared, combine_kernel<F>, s.b, layer, s.shape,
          pooled_splits, row_splits);
  });
}

void launch_project_out(const Step& s, const Layer& layer) {
  const size_t shared = static_cast<size_t>(staged_floats(layer.out.n_cols)) * sizeof(float);
  for_narrow_type(layer.out.type, [&]<ek_type F>() {
    s.run("project_out", ceil_div(layer.out.n_rows, kRowsPerBlock), shared, project_out_kernel<F>, s.b,
          layer.out);
  });
}

}  // namespace ek::cuda::narrow
