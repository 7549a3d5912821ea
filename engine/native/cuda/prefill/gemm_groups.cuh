/* The tiled product by groups of four warps, on sm_90: 256 rows of activations by 128 rows of a weight (64 of
 * gate and 64 of up) in a block. Each of four groups has 64 rows of activations; both matrices are read from
 * shared memory.
 *
 * Per step 64 columns. While the tensor cores multiply one, its activations having arrived by asynchronous
 * copies, every warp turns eight rows of the next ones of the weight, 128 columns of which are in registers
 * and as many on their way, to bf16. What is made for a step is complete at the barrier before it; a product
 * may go on behind the next one, so that four places of activations and three of weights are enough. A weight
 * is read and unpacked once per 256 rows of activations: with 128 the unpacking would take longer than the
 * products. A row's sums do not depend on the other rows of its tile. */
#ifndef EK_CUDA_PREFILL_GEMM_GROUPS_CUH
#define EK_CUDA_PREFILL_GEMM_GROUPS_CUH
#include "gemm_place.cuh"

namespace ek::cuda {

constexpr int kGroupWarps = 4, kGroupRows = 64, kWeightRows = 128;
constexpr int kGroupedWarps = kGroupedRows / kGroupRows * kGroupWarps,
              kGroupedThreads = kGroupedWarps * kWarp;
constexpr int kGroupDepth = 64, kActivationPlaces = 4, kWeightPlaces = 3, kAhead = 2; /* steps */
using GroupActivations = PermutedRows<kGroupedRows>;
using GroupWeights = PermutedRows<kWeightRows>;
constexpr size_t kGroupShared = sizeof(__nv_bfloat16) * (kActivationPlaces * GroupActivations::kColumns +
                                                         kWeightPlaces * GroupWeights::kColumns);
/* Of a warp's 16 rows: [8 rows of the weight][as mma_bf16]. */
using GroupSums = float[kWeightRows / 8][4];

/* The rows of activations that a thread copies, 16 bytes of each a step. */
constexpr int kCopiers = kGroupDepth / 8, kRowsAtOnce = kGroupedThreads / kCopiers,
              kCopiedRows = kGroupedRows / kRowsAtOnce;

struct ActivationRows {
  const __nv_bfloat16* from[kCopiedRows];
  int n; /* that there are */

  __device__ ActivationRows(const GemmOp& op, const GemmPlace& place) : n(0) {
    const int32_t own = static_cast<int32_t>(threadIdx.x) / kCopiers, piece = threadIdx.x % kCopiers;
    for (int i = 0; i < kCopiedRows; i++) {
      const int32_t r = place.first + own + i * kRowsAtOnce;
      if (r < place.end) n = i + 1;
      from[i] = op.rows.row(min(r, place.end - 1)) + blockIdx.z * op.heads.in + piece * 8;
    }
  }

  /* Begins to copy a step; columns from n_cols on become zeros. */
  __device__ void load(__nv_bfloat16* place, int32_t step, int32_t n_cols) const {
    const int piece = threadIdx.x % kCopiers;
    __nv_bfloat16* to = place + GroupActivations::at(threadIdx.x / kCopiers, piece);
    const bool exists = step * kGroupDepth + piece * 8 < n_cols;
#pragma unroll
    for (int i = 0; i < kCopiedRows; i++) {
      if (i < n)
        copy_async_16(to + i * kRowsAtOnce * GroupActivations::kPitch,
                      exists ? from[i] + step * kGroupDepth : from[i], exists);
    }
  }
};

/* Eight rows of a weight that a warp unpacks: of each 16 the upper or the lower ones. */
template <ek_type F>
struct UnpackedRows {
  const WeightView& w;
  size_t row; /* the first of the 16 */
  int lower, place;

  __device__ Fragment<F> load(int32_t group, int lane) const {
    return load_half_fragment<F>(w, row, lower, group, lane);
  }

  /* Stores 64 columns, the first or second half of 128, as bf16. Rows that are next to each other begin with
   * different quarters, so that eight lanes meet all banks. */
  __device__ void store(__nv_bfloat16* tile, const Fragment<F>& f, int half, int lane) const {
    const int g = lane / 4, t = lane % 4;
    const bool swaps = g % 2 != 0;
    const uint4 left = part_as_bf16<F>(f, 0, 2 * half, lane),
                right = part_as_bf16<F>(f, 0, 2 * half + 1, lane);
    __nv_bfloat16* to = tile + (place + g) * GroupWeights::kPitch;
    *reinterpret_cast<uint4*>(to + ((swaps ? 4 + t : t) ^ g) * 8) = swaps ? right : left;
    *reinterpret_cast<uint4*>(to + ((swaps ? t : 4 + t) ^ g) * 8) = swaps ? left : right;
  }
};

template <ek_type F, bool Gated>
__device__ UnpackedRows<F> unpacked_rows(const GemmOp& op, const GemmPlace& place, int warp) {
  constexpr int kSixteens = kWeightRows / 16;
  const int sixteen = warp % kSixteens, lower = warp / kSixteens;
  const bool is_up = Gated && sixteen >= kSixteens / 2;
  const WeightView& w = is_up ? op.up : op.w;
  const int32_t own = static_cast<int32_t>(blockIdx.x) * (Gated ? kWeightRows / 2 : kWeightRows) +
                      (Gated ? sixteen % (kSixteens / 2) : sixteen) * 16;
  /* Behind the last: computed and not stored. */
  return {w, w.row(place.matrix, own < w.n_rows ? own : 0), lower, sixteen * 16 + lower * 8};
}

/* Begins to multiply a group's rows in a step. */
__device__ inline void multiply_columns(GroupSums& sums, const __nv_bfloat16* activations,
                                        const __nv_bfloat16* weights) {
  const SharedTile a = shared_tile(activations), b = shared_tile(weights);
  begin_group_products();
#pragma unroll
  for (int k = 0; k < kGroupDepth; k += 16) multiply_group(sums, a.behind(k * 2), b.behind(k * 2));
  commit_group_products();
}

template <bool Gated>
__device__ void store_group_sums(const GemmOp& op, const GemmPlace& place, const GroupSums& sums) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  constexpr int kColumns = Gated ? kWeightRows / 2 : kWeightRows;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int32_t row = place.first + warp * 16 + lane / 4 + 8 * r;
    if (row >= place.end) continue;
#pragma unroll
    for (int n = 0; n < kColumns / 8; n++) {
      const int32_t column = static_cast<int32_t>(blockIdx.x) * kColumns + n * 8 + lane % 4 * 2;
      if (column >= op.w.n_rows) continue;
      float first = sums[n][2 * r], second = sums[n][2 * r + 1];
      if constexpr (Gated) {
        first = silu(first) * sums[n + kColumns / 8][2 * r];
        second = silu(second) * sums[n + kColumns / 8][2 * r + 1];
      }
      store_pair(op, row, column, first, second);
    }
  }
}

/* grid as gemm_grid */
template <ek_type F, bool Gated>
__global__ void __launch_bounds__(kGroupedThreads, 1) gemm_groups_kernel(GemmOp op) {
  const GemmPlace place = gemm_place(op, kGroupedRows);
  if (place.first >= place.end) return;
  __nv_bfloat16* activations = aligned_shared<__nv_bfloat16>();
  __nv_bfloat16* weights = activations + kActivationPlaces * GroupActivations::kColumns;
  /* The same in all lanes, as the compiler sees too: it must know that whole warps multiply. */
  const int lane = threadIdx.x % kWarp, warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0);
  const int first = warp / kGroupWarps * kGroupRows;
  const bool multiplies = place.first + first < place.end;
  const int32_t n_cols = op.w.n_cols, n_steps = (n_cols + kGroupDepth - 1) / kGroupDepth,
                n_groups = (n_steps + 1) / 2;
  const ActivationRows rows(op, place);
  const UnpackedRows<F> unpacked = unpacked_rows<F, Gated>(op, place, warp);
  for (int32_t s = 0; s < kAhead; s++) {
    if (s < n_steps) rows.load(activations + s * GroupActivations::kColumns, s, n_cols);
    copy_async_commit();
  }
  Fragment<F> now = unpacked.load(0, lane), next = now;
  unpacked.store(weights, now, 0, lane);
  copy_async_wait<kAhead - 1>();
  publish_shared();
  if (n_groups > 1) next = unpacked.load(1, lane);
  GroupSums sums = {};
  int32_t weight_place = 0;
  for (int32_t group = 0; group < n_groups; group++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int32_t step = group * 2 + half, ahead = step + kAhead;
      if (step >= n_steps) break;
      __syncthreads(); /* the step is complete, and nobody multiplies the last but one */
      if (multiplies)
        multiply_columns(sums,
                         activations + step % kActivationPlaces * GroupActivations::kColumns +
                             first * GroupActivations::kPitch,
                         weights + weight_place * GroupWeights::kColumns);
      if (ahead < n_steps)
        rows.load(activations + ahead % kActivationPlaces * GroupActivations::kColumns, ahead, n_cols);
      copy_async_commit();
      weight_place = weight_place + 1 == kWeightPlaces ? 0 : weight_place + 1;
      if (half == 1) now = next;
      if (step + 1 < n_steps)
        unpacked.store(weights + weight_place * GroupWeights::kColumns, now, 1 - half, lane);
      copy_async_wait<kAhead - 1>();
      publish_shared();
      if (half == 1 && group + 2 < n_groups) next = unpacked.load(group + 2, lane);
      if (multiplies) wait_for_group_products<1>();
    }
  }
  if (!multiplies) return;
  wait_for_group_products<0>();
  store_group_sums<Gated>(op, place, sums);
}

template <ek_type F, bool Gated>
void launch_gemm_groups(cudaStream_t stream, const char* name, const GemmOp& op) {
  launch(stream, name,
         {gemm_grid(op, kGroupedRows, Gated ? kWeightRows / 2 : kWeightRows), kGroupedThreads, kGroupShared},
         gemm_groups_kernel<F, Gated>, op);
}

}  // namespace ek::cuda
#endif
