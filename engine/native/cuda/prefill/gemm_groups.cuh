/* The tiled product by groups of four warps, on sm_90: 256 rows of activations by 128 rows of a weight (64 of
 * gate and 64 of up) in a block. Each of four groups has 64 rows of activations; both matrices are read from
 * shared memory.
 *
 * Per step 128 columns. While the tensor cores multiply one, the activations of the next arrive by
 * asynchronous copies, and every warp turns eight rows of the weight, which it loaded a step earlier, to
 * bf16. A weight is read and unpacked once per 256 rows of activations: with 128 the unpacking would take
 * longer than the products. A row's sums do not depend on the other rows of its tile. */
#ifndef EK_CUDA_PREFILL_GEMM_GROUPS_CUH
#define EK_CUDA_PREFILL_GEMM_GROUPS_CUH
#include "gemm_place.cuh"

namespace ek::cuda {

constexpr int kGroupWarps = 4, kGroupRows = 64, kWeightRows = 128;
constexpr int kGroupedWarps = kGroupedRows / kGroupRows * kGroupWarps,
              kGroupedThreads = kGroupedWarps * kWarp;
using GroupActivations = PermutedRows<kGroupedRows>;
using GroupWeights = PermutedRows<kWeightRows>;
constexpr int kHalf = 64, kActivationStep = 2 * GroupActivations::kColumns,
              kWeightStep = 2 * GroupWeights::kColumns; /* of 128 columns */
constexpr size_t kGroupShared = sizeof(__nv_bfloat16) * 2 * (kActivationStep + kWeightStep);
/* Of a warp's 16 rows: [8 rows of the weight][as mma_bf16]. */
using ProductSums = float[kWeightRows / 8][4];

/* The rows of activations that a thread copies, twice 16 bytes of each a step. */
constexpr int kCopiers = kHalf / 8, kRowsAtOnce = kGroupedThreads / kCopiers,
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

  /* Begins to copy the next 128 columns, of which `left` are there; the others become zeros. */
  __device__ void load(__nv_bfloat16* step, int32_t left) {
    const int piece = threadIdx.x % kCopiers;
    __nv_bfloat16* to = step + GroupActivations::at(threadIdx.x / kCopiers, piece);
#pragma unroll
    for (int i = 0; i < kCopiedRows; i++) {
      if (i >= n) break;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        __nv_bfloat16* place =
            to + half * GroupActivations::kColumns + i * kRowsAtOnce * GroupActivations::kPitch;
        if (left >= 2 * kHalf) {
          copy_async_16(place, from[i] + half * kHalf, true);
        } else {
          const bool exists = half * kHalf + piece * 8 < left;
          copy_async_16(place, exists ? from[i] + half * kHalf : from[i], exists);
        }
      }
      from[i] += 2 * kHalf;
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

  /* Stores the columns of a step as bf16. Rows that are next to each other begin with different parts, so
   * that eight lanes meet all banks. */
  __device__ void store(__nv_bfloat16* step, const Fragment<F>& f, int lane) const {
    const int g = lane / 4, t = lane % 4;
    const bool swaps = g % 2 != 0;
    __nv_bfloat16* to = step + (place + g) * GroupWeights::kPitch;
    __nv_bfloat16 *first = to + ((swaps ? 4 + t : t) ^ g) * 8, *second = to + ((swaps ? t : 4 + t) ^ g) * 8;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint4 left = part_as_bf16<F>(f, 0, 2 * half, lane),
                  right = part_as_bf16<F>(f, 0, 2 * half + 1, lane);
      *reinterpret_cast<uint4*>(first + half * GroupWeights::kColumns) = swaps ? right : left;
      *reinterpret_cast<uint4*>(second + half * GroupWeights::kColumns) = swaps ? left : right;
    }
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
__device__ inline void multiply_step(ProductSums& sums, const __nv_bfloat16* activations,
                                     const __nv_bfloat16* weights) {
  const SharedTile a = shared_tile(activations), b = shared_tile(weights);
  begin_group_products();
#pragma unroll
  for (int half = 0; half < 2; half++) {
#pragma unroll
    for (int k = 0; k < kHalf; k += 16)
      multiply_group(sums, a.behind((half * GroupActivations::kColumns + k) * 2),
                     b.behind((half * GroupWeights::kColumns + k) * 2));
  }
  commit_group_products();
}

/* Of a row of the weight's tile, the lane's pair of results in eight columns. */
template <bool Gated>
__device__ float2 result_of(const ProductSums& sums, int r, int n) {
  float2 v{sums[n][2 * r], sums[n][2 * r + 1]};
  if constexpr (Gated) {
    constexpr int kUp = kWeightRows / 16;
    v = {silu(v.x) * sums[n + kUp][2 * r], silu(v.y) * sums[n + kUp][2 * r + 1]};
  }
  return v;
}

/* Where the results of a block go: n_columns of them that there are, `width` to the next row. */
struct GroupResults {
  int32_t width, n_columns;
  size_t first; /* of row 0 */
};

/* f32: a quad stores whole sectors. */
template <bool Gated, bool Adds>
__device__ void store_floats(const GemmOp& op, const GemmPlace& place, const GroupResults& to,
                             const ProductSums& sums) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, column = lane % 4 * 2;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int32_t row = place.first + warp * 16 + lane / 4 + 8 * r;
    if (row >= place.end) continue;
    float* at = static_cast<float*>(op.out) + to.first + static_cast<size_t>(row) * to.width + column;
#pragma unroll
    for (int n = 0; n < kWeightRows / (Gated ? 16 : 8); n++) {
      if (n * 8 + column >= to.n_columns) break;
      if constexpr (Adds) {
        add_pair(at + n * 8, result_of<Gated>(sums, r, n));
      } else {
        *reinterpret_cast<float2*>(at + n * 8) = result_of<Gated>(sums, r, n);
      }
    }
  }
}

/* bf16: through the warp's own rows of shared memory, so that neighbouring lanes store neighbouring pieces.
 */
template <bool Gated>
__device__ void store_halves(const GemmOp& op, const GemmPlace& place, const GroupResults& to,
                             const ProductSums& sums, __nv_bfloat16* shared) {
  constexpr int kColumns = Gated ? kWeightRows / 2 : kWeightRows, kPitch = kColumns + 8,
                kPieces = kColumns / 8;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  __nv_bfloat16* rows = shared + warp * 16 * kPitch;
#pragma unroll
  for (int r = 0; r < 2; r++) {
#pragma unroll
    for (int n = 0; n < kPieces; n++) {
      const float2 v = result_of<Gated>(sums, r, n);
      *reinterpret_cast<uint32_t*>(rows + (lane / 4 + 8 * r) * kPitch + n * 8 + lane % 4 * 2) =
          pack_bf16(v.x, v.y);
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16 * kPieces / kWarp; i++) {
    const int own = i * (kWarp / kPieces) + lane / kPieces, column = lane % kPieces * 8;
    const int32_t row = place.first + warp * 16 + own;
    if (row >= place.end || column >= to.n_columns) continue;
    __nv_bfloat16* at =
        static_cast<__nv_bfloat16*>(op.out) + to.first + static_cast<size_t>(row) * to.width + column;
    *reinterpret_cast<uint4*>(at) = *reinterpret_cast<const uint4*>(rows + own * kPitch + column);
  }
}

/* shared: nobody needs it any more. */
template <bool Gated>
__device__ void store_results(const GemmOp& op, const GemmPlace& place, const ProductSums& sums,
                              __nv_bfloat16* shared) {
  constexpr int kColumns = Gated ? kWeightRows / 2 : kWeightRows;
  const int32_t column = static_cast<int32_t>(blockIdx.x) * kColumns;
  const GroupResults to{op.heads.n > 1 ? op.heads.out_width : op.w.n_rows, op.w.n_rows - column,
                        static_cast<size_t>(blockIdx.z) * op.heads.out + column};
  if (op.kind == GemmOut::kBf16) {
    store_halves<Gated>(op, place, to, sums, shared);
  } else if (op.kind == GemmOut::kFloat) {
    store_floats<Gated, false>(op, place, to, sums);
  } else {
    store_floats<Gated, true>(op, place, to, sums);
  }
}

/* What a warp does of all steps. Multiplies: whether its group has rows; a type, not a condition in the loop,
 * where the compiler would wait for products before a path that has none. activations: the first place. */
template <bool Multiplies, ek_type F>
__device__ void take_steps(ProductSums& sums, ActivationRows& rows, const UnpackedRows<F>& unpacked,
                           __nv_bfloat16* activations, __nv_bfloat16* weights, int first, int32_t n_cols) {
  const int lane = threadIdx.x % kWarp;
  const int32_t n_steps = (n_cols + kGroup - 1) / kGroup;
  Fragment<F> next = unpacked.load(0, lane);
  rows.load(activations, n_cols);
  copy_async_commit();
  unpacked.store(weights, next, lane);
  copy_async_wait<0>();
  publish_shared();
  if (n_steps > 1) next = unpacked.load(1, lane);
  for (int32_t step = 0; step < n_steps; step++) {
    __syncthreads(); /* the step is complete, and nobody multiplies the last */
    const int own = step % 2, other = 1 - own;
    if constexpr (Multiplies)
      multiply_step(sums, activations + own * kActivationStep + first * GroupActivations::kPitch,
                    weights + own * kWeightStep);
    if (step + 1 < n_steps) {
      rows.load(activations + other * kActivationStep, n_cols - (step + 1) * kGroup);
      copy_async_commit();
      unpacked.store(weights + other * kWeightStep, next, lane);
      copy_async_wait<0>();
      publish_shared(); /* which waits for loads that are under way: the next ones begin behind it */
      if (step + 2 < n_steps) next = unpacked.load(step + 2, lane);
    }
    if constexpr (Multiplies) wait_for_group_products<0>();
  }
  __syncthreads();
}

/* grid as gemm_grid */
template <ek_type F, bool Gated>
__global__ void __launch_bounds__(kGroupedThreads, 1) gemm_groups_kernel(GemmOp op) {
  const GemmPlace place = gemm_place(op, kGroupedRows);
  if (place.first >= place.end) return;
  __nv_bfloat16* activations = aligned_shared<__nv_bfloat16>();
  __nv_bfloat16* weights = activations + 2 * kActivationStep;
  /* The same in all lanes, as the compiler sees too: it must know that whole warps multiply. */
  const int warp = __shfl_sync(0xffffffffu, threadIdx.x / kWarp, 0), first = warp / kGroupWarps * kGroupRows;
  ActivationRows rows(op, place);
  const UnpackedRows<F> unpacked = unpacked_rows<F, Gated>(op, place, warp);
  ProductSums sums = {};
  if (place.first + first >= place.end)
    return take_steps<false>(sums, rows, unpacked, activations, weights, first, op.w.n_cols);
  take_steps<true>(sums, rows, unpacked, activations, weights, first, op.w.n_cols);
  store_results<Gated>(op, place, sums, activations);
}

template <ek_type F, bool Gated>
void launch_gemm_groups(cudaStream_t stream, const char* name, const GemmOp& op) {
  launch(stream, name,
         {gemm_grid(op, kGroupedRows, Gated ? kWeightRows / 2 : kWeightRows), kGroupedThreads, kGroupShared},
         gemm_groups_kernel<F, Gated>, op);
}

}  // namespace ek::cuda
#endif
