/* The tiled product by warps, on every GPU that there are kernels for: 128 rows of activations by 128 rows of
 * a weight (64 of gate and 64 of up) in a block.
 *
 * Per step 32 columns: activations arrive by asynchronous copies, two steps ahead; every warp holds its 16
 * rows of the weight, 128 columns at a time and one such group ahead, and turns 32 columns of them to bf16 in
 * shared memory while the step before is multiplied. So a weight is read once per tile of activations, and
 * rounded to bf16 as the activations are; sums are f32. A row's sums do not depend on the other rows of its
 * tile, and where a tile has few rows, as those of an expert in a short chunk, only these are multiplied. */
#ifndef EK_CUDA_PREFILL_GEMM_WARPS_CUH
#define EK_CUDA_PREFILL_GEMM_WARPS_CUH
#include "gemm_place.cuh"

namespace ek::cuda {

constexpr int kDepth = 32, kStages = 3;
constexpr int kGemmPitch = kDepth + 8; /* bf16: 8 rows of a matrix meet all 32 banks */
constexpr int kGemmTile = kGemmRows * kGemmPitch;
constexpr size_t kGemmShared = sizeof(__nv_bfloat16) * kGemmTile * (kStages + 2);

/* Begins to copy step `step` of the activations: rows by 64 up to `count`. from: the thread's two rows. */
__device__ inline void load_rows(__nv_bfloat16* stage, const __nv_bfloat16* const (&from)[2], int32_t step,
                                 int32_t count) {
  const int chunk = threadIdx.x % 4, row = threadIdx.x / 4;
  for (int i = 0; i < 2; i++) {
    if (i * 64 >= count) return;
    const __nv_bfloat16* at = from[i] + step * kDepth + chunk * 8;
    copy_async_16(stage + (row + i * 64) * kGemmPitch + chunk * 8, at, true);
  }
}

template <ek_type F>
__device__ void store_rows(__nv_bfloat16* tile, const Fragment<F>& f, int part, int lane, int warp) {
  for (int r = 0; r < 2; r++)
    store_part<F>(f, r, part, lane, tile + (warp * 16 + lane / 4 + 8 * r) * kGemmPitch + lane % 4 * 8);
}

/* Where a pair of 8-column results begins: rows of the weight's tile. Gated: 16 of gate, then 16 of up. */
template <bool Gated>
__device__ int right_row(int column_warp, int pair) {
  return Gated ? pair * 64 + column_warp * 16 : column_warp * 32 + pair * 16;
}

/* sixteens: of the warp's 64 rows of activations those that are there, by 16. */
template <bool Gated>
__device__ void multiply_stage(WarpSums& sums, const __nv_bfloat16* left, const __nv_bfloat16* right,
                               int lane, int warp, int sixteens) {
  if (sixteens == 0) return;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t b[2][4];
    for (int pair = 0; pair < 2; pair++)
      load_right<kGemmPitch>(b[pair], right, right_row<Gated>(warp % 4, pair), k, lane);
    if (sixteens == 4) {
      multiply_step<kGemmPitch>(sums, left, warp / 4 * 64, k, b, lane);
    } else {
      multiply_step<kGemmPitch>(sums, left, warp / 4 * 64, k, b, lane, sixteens);
    }
  }
}

template <bool Gated>
__device__ void store_sums(const GemmOp& op, const GemmPlace& place, const WarpSums& sums, int lane,
                           int warp) {
  const int g = lane / 4, t = lane % 4;
  for (int m = 0; m < 4; m++) {
    for (int r = 0; r < 2; r++) {
      const int32_t row = place.first + warp / 4 * 64 + m * 16 + g + 8 * r;
      if (row >= place.end) continue;
      for (int n = 0; n < (Gated ? 2 : 4); n++) {
        const int32_t column = static_cast<int32_t>(blockIdx.x) * (Gated ? 64 : 128) +
                               warp % 4 * (Gated ? 16 : 32) + n * 8 + 2 * t;
        if (column >= op.w.n_rows) continue;
        float first = sums[m][n][2 * r], second = sums[m][n][2 * r + 1];
        if constexpr (Gated) {
          first = silu(first) * sums[m][n + 2][2 * r];
          second = silu(second) * sums[m][n + 2][2 * r + 1];
        }
        store_pair(op, row, column, first, second);
      }
    }
  }
}

/* grid (tiles of the weight's rows, tiles of activations, heads). Two blocks per multiprocessor: while one
 * unpacks weights or waits at its barrier, the other multiplies. That leaves 128 registers a thread, of which
 * a few of a group of 128 columns are spilled. FewRows: with what is missing of a tile left out, which costs
 * full tiles 5 %. */
template <ek_type F, bool Gated, bool FewRows>
__global__ void __launch_bounds__(kGemmThreads, 2) gemm_kernel(GemmOp op) {
  const GemmPlace place = gemm_place(op, kGemmRows);
  if (place.first >= place.end) return;
  __nv_bfloat16* left = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* right = left + kStages * kGemmTile;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const bool is_up = Gated && warp >= 4;
  const WeightView& w = is_up ? op.up : op.w;
  const int32_t n_steps = w.n_cols / kDepth, n_groups = (n_steps + 3) / 4;
  const int32_t own = static_cast<int32_t>(blockIdx.x) * (Gated ? 64 : 128) + (Gated ? warp % 4 : warp) * 16;
  const size_t row =
      w.row(place.matrix, own < w.n_rows ? own : 0); /* behind the last: computed and not stored */
  const __nv_bfloat16* from[2];
  for (int i = 0; i < 2; i++) {
    const int32_t r = place.first + static_cast<int32_t>(threadIdx.x) / 4 + i * 64;
    from[i] = op.rows.row(r < place.end ? r : place.first) + blockIdx.z * op.heads.in;
  }
  const int32_t count = FewRows ? place.end - place.first : kGemmRows;
  for (int32_t s = 0; s < kStages - 1; s++) {
    if (s < n_steps) load_rows(left + s * kGemmTile, from, s, count);
    copy_async_commit();
  }
  const int sixteens = FewRows ? min(4, max(0, (place.end - place.first - warp / 4 * 64 + 15) / 16)) : 4;
  Fragment<F> now = load_fragment<F>(w, row, 0, lane), next = now;
  if (n_groups > 1) next = load_fragment<F>(w, row, 1, lane);
  store_rows<F>(right, now, 0, lane, warp);
  WarpSums sums = {};
  for (int32_t group = 0; group < n_groups; group++) {
#pragma unroll
    for (int part = 0; part < 4; part++) {
      const int32_t step = group * 4 + part, ahead = step + kStages - 1;
      if (step >= n_steps) break;
      copy_async_wait<kStages - 2>();
      __syncthreads();
      if (ahead < n_steps) load_rows(left + ahead % kStages * kGemmTile, from, ahead, count);
      copy_async_commit();
      multiply_stage<Gated>(sums, left + step % kStages * kGemmTile, right + step % 2 * kGemmTile, lane, warp,
                            sixteens);
      if (step + 1 >= n_steps) break;
      __nv_bfloat16* to = right + (step + 1) % 2 * kGemmTile;
      if (part < 3) {
        store_rows<F>(to, now, part + 1, lane, warp);
      } else {
        now = next;
        store_rows<F>(to, now, 0, lane, warp);
        if (group + 2 < n_groups) next = load_fragment<F>(w, row, group + 2, lane);
      }
    }
  }
  store_sums<Gated>(op, place, sums, lane, warp);
}

/* Whether most tiles of a product have few rows: those of experts in a short chunk, or of a short chunk. */
inline bool has_few_rows(const GemmOp& op) {
  constexpr int32_t kMost = 112;
  return op.n_rows <= kMost * (op.tiles.expert == nullptr ? 1 : op.w.n_matrices);
}

template <ek_type F, bool Gated>
void launch_gemm_warps(cudaStream_t stream, const char* name, const GemmOp& op) {
  launch(stream, name, {gemm_grid(op, kGemmRows, Gated ? 64 : 128), kGemmThreads, kGemmShared},
         has_few_rows(op) ? gemm_kernel<F, Gated, true> : gemm_kernel<F, Gated, false>, op);
}

}  // namespace ek::cuda
#endif
