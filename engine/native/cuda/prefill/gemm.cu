/* Plain products, and products with the transpose of a weight. */
#include "../decode/shape.h"
#include "gemm.cuh"

namespace ek::cuda {

namespace {

constexpr int kPitch = kGroup + 8;
constexpr size_t kShared = sizeof(__nv_bfloat16) * kGemmRows * kPitch * 2;
static_assert(kGroup == kGemmRows, "a step has as many columns of activations as a block has rows");

/* One block per head, 128 rows of activations and 128 columns of the weight, in steps of 128 rows of the
 * weight: its tile is the right matrix transposed. grid (heads, tiles of activations, groups of columns) */
template <ek_type F>
__global__ void __launch_bounds__(kGemmThreads)
    multiply_down_kernel(GemmRows rows, int32_t head_width, WeightView w, int32_t n_rows,
                         __nv_bfloat16* out) {
  __nv_bfloat16* left = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* right = left + kGemmRows * kPitch;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, h = blockIdx.x, group = blockIdx.z;
  const int32_t first = static_cast<int32_t>(blockIdx.y) * kGemmRows;
  n_rows = rows.existing(n_rows);
  if (first >= n_rows) return;
  WarpSums sums = {};
  for (int32_t k0 = 0; k0 < w.n_rows; k0 += kGemmRows) {
    const Fragment<F> f = load_fragment<F>(w, w.row(h, k0 + warp * 16), group, lane);
    __syncthreads();
    for (int i = threadIdx.x; i < kGemmRows * 16; i += kGemmThreads) {
      const int32_t r = first + i / 16;
      copy_async_16(left + i / 16 * kPitch + i % 16 * 8,
                    rows.row(r < n_rows ? r : first) + h * head_width + k0 + i % 16 * 8, true);
    }
    copy_async_commit();
#pragma unroll
    for (int part = 0; part < 4; part++) {
      for (int r = 0; r < 2; r++)
        store_part<F>(f, r, part, lane,
                      right + (warp * 16 + lane / 4 + 8 * r) * kPitch + part * 32 + lane % 4 * 8);
    }
    copy_async_wait<0>();
    __syncthreads();
    for (int k = 0; k < kGemmRows; k += 16) {
      uint32_t b[2][4];
      for (int pair = 0; pair < 2; pair++)
        load_right_transposed<kPitch>(b[pair], right, warp % 4 * 32 + pair * 16, k, lane);
      multiply_step<kPitch>(sums, left, warp / 4 * 64, k, b, lane);
    }
  }
  for (int m = 0; m < 4; m++) {
    for (int n = 0; n < 4; n++) {
      for (int r = 0; r < 2; r++) {
        const int32_t row = first + warp / 4 * 64 + m * 16 + lane / 4 + 8 * r;
        if (row >= n_rows) continue;
        const int column = group * kGroup + warp % 4 * 32 + n * 8 + lane % 4 * 2;
        __nv_bfloat16* to = out + (static_cast<size_t>(row) * kHeads + h) * w.n_cols + column;
        *reinterpret_cast<uint32_t*>(to) = pack_bf16(sums[m][n][2 * r], sums[m][n][2 * r + 1]);
      }
    }
  }
}

}  // namespace

int32_t gemm_tile_rows() { return multiplies_in_groups() ? kGroupedRows : kGemmRows; }

void launch_gemm(cudaStream_t stream, const char* name, const GemmOp& op) {
  EK_REQUIRE(op.w.n_cols % 32 == 0 && op.w.n_rows % 16 == 0,
             "%s: a product needs columns in multiples of 32 and rows of 16, got %d and %d", name,
             op.w.n_cols, op.w.n_rows);
  launch_gemm_kernel<false>(stream, name, op);
}

void launch_multiply_down(cudaStream_t stream, const char* name, const GemmRows& rows, int32_t head_width,
                          const WeightView& w, int32_t n_rows, __nv_bfloat16* out) {
  EK_REQUIRE(w.n_rows % kGemmRows == 0 && w.n_cols % kGroup == 0 && w.n_matrices == kHeads,
             "%s: a product down a weight needs a matrix per head of multiples of 128, got %d of %d x %d",
             name, w.n_matrices, w.n_rows, w.n_cols);
  for_decode_type(w.type, [&]<ek_type F>() {
    launch(stream, name, {{kHeads, ceil_div(n_rows, kGemmRows), w.n_cols / kGroup}, kGemmThreads, kShared},
           multiply_down_kernel<F>, rows, head_width, w, n_rows, out);
  });
}

}  // namespace ek::cuda
