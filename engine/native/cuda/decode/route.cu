#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kExpertsPerWarp = 8;

/* A block per 8 columns of W_o: R diag(norm) W_o, each warp for kExpertsPerWarp experts; the lanes share the
 * rows. */
template <ek_type F>
__global__ void __launch_bounds__(kRouteThreads)
    fold_router_kernel(float* out, WeightView w, const float* router, const float* norm, int32_t n_experts) {
  const int lane = threadIdx.x % kWarp, first = static_cast<int>(threadIdx.x) / kWarp * kExpertsPerWarp;
  const int32_t unit = blockIdx.x, n_columns = w.n_cols, hidden = w.n_rows;
  for (int32_t begin = first; begin < n_experts; begin += kRouteWarps * kExpertsPerWarp) {
    float sum[kExpertsPerWarp][8] = {};
    for (int32_t r = lane; r < hidden; r += kWarp) {
      float v[8];
      load_unit<F>(w, static_cast<size_t>(r), unit, v);
      for (int e = 0; e < kExpertsPerWarp; e++) {
        if (begin + e >= n_experts) break;
        const float by = router[static_cast<size_t>(begin + e) * hidden + r] * norm[r];
        for (int i = 0; i < 8; i++) sum[e][i] = fmaf(by, v[i], sum[e][i]);
      }
    }
    for (int e = 0; e < kExpertsPerWarp; e++) {
      for (int i = 0; i < 8; i++) {
        const float total = warp_sum(sum[e][i]);
        if (lane == 0 && begin + e < n_experts)
          out[static_cast<size_t>(begin + e) * n_columns + unit * 8 + i] = total;
      }
    }
  }
}

}  // namespace

void fold_router(Device& d, const LiteShape& shape, const LiteLayer& layer, float* router_out) {
  for_decode_type(layer.out.type, [&]<ek_type F>() {
    launch(d.stream, "fold_router", {kHeads * kValue / 8, kRouteThreads}, fold_router_kernel<F>, router_out,
           layer.out, layer.router, layer.ffn_norm, shape.n_experts);
  });
}

}  // namespace ek::cuda
