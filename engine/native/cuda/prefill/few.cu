/* Products of a few rows of activations (64 at most meet one matrix), where reading the weights is what takes
 * time: as in decode, a weight's integers are the left matrix and its scales meet f32 sums of 32 columns, so
 * it is unpacked once, in registers, and not rounded (decode/fragment.cuh). Eight rows of activations are the
 * columns of a tile. A row's sums do not depend on the other rows. */
#include "gemm_place.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = kGemmWarps, kThreads = kGemmThreads, kTileRows = 8;
constexpr int kWeights = 32; /* rows of the weight per block: two fragments per warp */

/* The lane's columns 8 t to 8 t + 7 of a part, in the order of a weight's pairs: p and p + 4. */
__device__ uint4 paired(const uint4& v) {
  return {__byte_perm(v.x, v.z, 0x5410), __byte_perm(v.x, v.z, 0x7632), __byte_perm(v.y, v.w, 0x5410),
          __byte_perm(v.y, v.w, 0x7632)};
}

/* sums += a (two steps of 16 columns) times the paired columns of 8 rows. */
__device__ void multiply_part(float (&sums)[4], const uint32_t (&a)[2][4], const uint4& b) {
  mma_bf16(sums, a[0][0], a[1][0], a[0][1], a[1][1], b.x, b.y);
  mma_bf16(sums, a[0][2], a[1][2], a[0][3], a[1][3], b.z, b.w);
}

/* What the weight's scales do to the sums of one part; ones: the sums of the activations themselves. */
template <ek_type F>
__device__ void add_scaled(float (&y)[4], const Fragment<F>& f, int part, int half, const float (&sums)[4],
                           const float (&ones)[4]) {
  for (int r = 0; r < 2; r++) {
    const Affine s = pair_affine<F>(f, r, part, half);
    for (int i = 0; i < 2; i++) {
      y[2 * r + i] = fmaf(s.scale, sums[2 * r + i], y[2 * r + i]);
      if constexpr (has_offset(F)) y[2 * r + i] = fmaf(s.offset, ones[2 * r + i], y[2 * r + i]);
    }
  }
}

/* Of two fragments, [8 rows of activations][as mma_bf16]. */
template <int Tiles>
using FewSums = float[2][Tiles][4];

/* y += 128 columns from `column` on of both fragments. rows: the lane's row g of every tile. */
template <ek_type F, int Tiles>
__device__ void multiply_group(FewSums<Tiles>& y, const Fragment<F> (&f)[2],
                               const __nv_bfloat16* const (&rows)[Tiles], int32_t column, int32_t n_columns,
                               int n_tiles, int lane) {
  const uint32_t one = 0x3f803f80u, ones[2][4] = {{one, one, one, one}, {one, one, one, one}};
#pragma unroll
  for (int part = 0; part < 4; part++) {
    if (column + part * 32 >= n_columns) break;
    uint32_t a[2][2][4];
    for (int i = 0; i < 2; i++) {
      for (int r = 0; r < 2; r++) unpack_pairs<F>(f[i], r, part, a[i][r]);
    }
#pragma unroll
    for (int tile = 0; tile < Tiles; tile++) {
      if (tile >= n_tiles) break;
      const uint4 all =
          paired(*reinterpret_cast<const uint4*>(rows[tile] + column + part * 32 + lane % 4 * 8));
      if constexpr (F == EK_BF16) {
        for (int i = 0; i < 2; i++) multiply_part(y[i][tile], a[i], all);
      } else {
        constexpr int kHalves = F == EK_Q6_K ? 2 : 1; /* its scales span 16 columns */
        for (int half = 0; half < kHalves; half++) {
          const bool used = kHalves == 1 || lane % 4 / 2 == half;
          const uint4 b = used ? all : uint4{0, 0, 0, 0};
          float of_ones[4] = {};
          if constexpr (has_offset(F)) multiply_part(of_ones, ones, b);
          for (int i = 0; i < 2; i++) {
            float sums[4] = {};
            multiply_part(sums, a[i], b);
            add_scaled<F>(y[i][tile], f[i], part, half, sums, of_ones);
          }
        }
      }
    }
  }
}

/* Sums the warps' parts of one tile and stores it; a thread has one row of the weight and one of the
 * activations. */
template <bool Gated>
__device__ void store_tile(const GemmOp& op, float (*partial)[kTileRows][kWeights], int32_t row, int32_t end,
                           int32_t column) {
  const int r = threadIdx.x / kWeights, own = threadIdx.x % kWeights;
  float sum = 0, up = 0;
  for (int w = 0; w < kWarps; w++) sum += partial[w][r][own];
  if (row + r >= end) return;
  if constexpr (Gated) {
    if (own >= kWeights / 2) return;
    for (int w = 0; w < kWarps; w++) up += partial[w][r][own + kWeights / 2];
    sum = silu(sum) * up;
  }
  if (column + own >= op.w.n_rows) return;
  const size_t at = static_cast<size_t>(row + r) * op.w.n_rows + column + own;
  if (op.kind == GemmOut::kBf16) {
    static_cast<__nv_bfloat16*>(op.out)[at] = __float2bfloat16_rn(sum);
  } else {
    float* to = static_cast<float*>(op.out) + at;
    *to = op.kind == GemmOut::kAddFloat ? *to + sum : sum;
  }
}

/* The products of Tiles tiles of activations, from row `first` on. */
template <ek_type F, bool Gated, int Tiles>
__device__ void multiply_tiles(const GemmOp& op, float (*partial)[kTileRows][kWeights],
                               const GemmPlace& place, int32_t first) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, g = lane / 4, t = lane % 4;
  const int32_t column = static_cast<int32_t>(blockIdx.x) * (Gated ? kWeights / 2 : kWeights);
  const int n_tiles = (place.end - first + kTileRows - 1) / kTileRows;
  const __nv_bfloat16* rows[Tiles];
  for (int i = 0; i < Tiles; i++) {
    const int32_t r = first + i * kTileRows + g;
    rows[i] = op.rows.row(r < place.end ? r : place.first);
  }
  const WeightView& second = Gated ? op.up : op.w;
  const int32_t second_row = Gated || column + 16 >= op.w.n_rows ? column : column + 16;
  FewSums<Tiles> y = {};
  for (int32_t group = warp; group * kGroup < op.w.n_cols; group += kWarps) {
    const Fragment<F> f[2] = {load_fragment<F>(op.w, op.w.row(place.matrix, column), group, lane),
                              load_fragment<F>(second, second.row(place.matrix, second_row), group, lane)};
    multiply_group<F, Tiles>(y, f, rows, group * kGroup, op.w.n_cols, n_tiles, lane);
  }
#pragma unroll
  for (int tile = 0; tile < Tiles; tile++) {
    if (tile >= n_tiles) break;
    for (int i = 0; i < 2; i++) {
      for (int j = 0; j < 4; j++) partial[warp][2 * t + j % 2][i * 16 + g + j / 2 * 8] = y[i][tile][j];
    }
    __syncthreads();
    store_tile<Gated>(op, partial, first + tile * kTileRows, place.end, column);
    __syncthreads();
  }
}

/* grid (32 rows of the weight, or 16 of gate and 16 of up; tiles of matrices). The warps share the columns,
 * 128 at a time. Where there are more rows than Tiles hold, the weight is read again. */
template <ek_type F, bool Gated, int Tiles>
__global__ void __launch_bounds__(kThreads, Tiles > 2 ? 1 : 2) gemm_few_kernel(GemmOp op) {
  __shared__ float partial[kWarps][kTileRows][kWeights];
  const GemmPlace place = gemm_place(op, kGemmRows);
  for (int32_t first = place.first; first < place.end; first += Tiles * kTileRows)
    multiply_tiles<F, Gated, Tiles>(op, partial, place, first);
}

/* An expert gets a tenth of the rows at most, if the router is even; two tiles leave room for more warps. */
template <bool Gated>
void launch_few(cudaStream_t stream, const char* name, const GemmOp& op) {
  constexpr int32_t kSmall = 2 * kTileRows;
  const LaunchShape shape{gemm_grid(op, kGemmRows, Gated ? kWeights / 2 : kWeights), kThreads};
  for_decode_type(op.w.type, [&]<ek_type F>() {
    if (op.tiles.expert != nullptr || op.n_rows <= kSmall) {
      launch(stream, name, shape, gemm_few_kernel<F, Gated, 2>, op);
    } else {
      launch(stream, name, shape, gemm_few_kernel<F, Gated, 8>, op);
    }
  });
}

}  // namespace

void launch_gemm_few(cudaStream_t stream, const char* name, const GemmOp& op) {
  launch_few<false>(stream, name, op);
}

void launch_gemm_few_gated(cudaStream_t stream, const char* name, const GemmOp& op) {
  launch_few<true>(stream, name, op);
}

}  // namespace ek::cuda
