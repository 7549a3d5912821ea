/* Plain products, and keys from latents. */
#include "../decode/lite.h"
#include "gemm.cuh"

namespace ek::cuda {

namespace {

constexpr int kKeyPitch = kNope + 8;
constexpr size_t kKeyShared = sizeof(__nv_bfloat16) * kGemmRows * kKeyPitch * 2;
static_assert(kNope == kGroup && kLatent % kGemmRows == 0, "a group of columns per head, whole steps");

/* One block per head and 128 rows, in steps of 128 latent columns. The weight has a row per latent column, so
 * its tile is the right matrix transposed. grid (heads, tiles) */
template <ek_type F>
__global__ void __launch_bounds__(kGemmThreads)
    expand_keys_kernel(GemmRows rows, WeightView k_b, int32_t n_rows, __nv_bfloat16* keys) {
  __nv_bfloat16* left = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* right = left + kGemmRows * kKeyPitch;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, h = blockIdx.x;
  const int32_t first = static_cast<int32_t>(blockIdx.y) * kGemmRows;
  n_rows = rows.existing(n_rows);
  if (first >= n_rows) return;
  WarpSums sums = {};
  for (int32_t k0 = 0; k0 < kLatent; k0 += kGemmRows) {
    const Fragment<F> f = load_fragment<F>(k_b, k_b.row(h, k0 + warp * 16), 0, lane);
    __syncthreads();
    for (int i = threadIdx.x; i < kGemmRows * 16; i += kGemmThreads) {
      const int32_t r = first + i / 16;
      copy_async_16(left + i / 16 * kKeyPitch + i % 16 * 8,
                    rows.row(r < n_rows ? r : first) + k0 + i % 16 * 8, true);
    }
    copy_async_commit();
#pragma unroll
    for (int part = 0; part < 4; part++) {
      for (int r = 0; r < 2; r++)
        store_part<F>(f, r, part, lane,
                      right + (warp * 16 + lane / 4 + 8 * r) * kKeyPitch + part * 32 + lane % 4 * 8);
    }
    copy_async_wait<0>();
    __syncthreads();
    for (int k = 0; k < kGemmRows; k += 16) {
      uint32_t b[2][4];
      for (int pair = 0; pair < 2; pair++)
        load_right_transposed<kKeyPitch>(b[pair], right, warp % 4 * 32 + pair * 16, k, lane);
      multiply_step<kKeyPitch>(sums, left, warp / 4 * 64, k, b, lane);
    }
  }
  for (int m = 0; m < 4; m++) {
    for (int n = 0; n < 4; n++) {
      for (int r = 0; r < 2; r++) {
        const int32_t row = first + warp / 4 * 64 + m * 16 + lane / 4 + 8 * r;
        if (row >= n_rows) continue;
        const int column = warp % 4 * 32 + n * 8 + lane % 4 * 2;
        __nv_bfloat16* to = keys + (static_cast<size_t>(row) * kHeads + h) * kNope + column;
        *reinterpret_cast<uint32_t*>(to) = pack_bf16(sums[m][n][2 * r], sums[m][n][2 * r + 1]);
      }
    }
  }
}

}  // namespace

void launch_gemm(cudaStream_t stream, const char* name, const GemmOp& op) {
  EK_REQUIRE(op.w.n_cols % kDepth == 0 && op.w.n_rows % 16 == 0,
             "%s: a product needs columns in multiples of 32 and rows of 16, got %d and %d", name,
             op.w.n_cols, op.w.n_rows);
  for_decode_type(op.w.type, [&]<ek_type F>() {
    launch(stream, name, {{ceil_div(op.w.n_rows, 128), op.n_tiles, op.heads.n}, kGemmThreads, kGemmShared},
           gemm_kernel<F, false>, op);
  });
}

void launch_expand_keys(cudaStream_t stream, const GemmRows& latents, const WeightView& k_b, int32_t n_rows,
                        __nv_bfloat16* keys) {
  for_decode_type(k_b.type, [&]<ek_type F>() {
    launch(stream, "expand_keys", {{kHeads, ceil_div(n_rows, kGemmRows)}, kGemmThreads, kKeyShared},
           expand_keys_kernel<F>, latents, k_b, n_rows, keys);
  });
}

}  // namespace ek::cuda
