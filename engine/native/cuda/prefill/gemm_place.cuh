/* Which rows of activations and which matrix a block of a product has, and where its results go. */
#ifndef EK_CUDA_PREFILL_GEMM_PLACE_CUH
#define EK_CUDA_PREFILL_GEMM_PLACE_CUH
#include "tile.cuh"

namespace ek::cuda {

/* The block's rows of activations, and the matrix that they meet. */
struct GemmPlace {
  int32_t first, end, matrix;
};

/* Of a tile of `tile_rows` rows. matrix: where there are no tiles of matrices. */
__device__ inline GemmPlace gemm_place(const GemmOp& op, int32_t tile_rows, int32_t tile, int32_t matrix) {
  if (op.tiles.expert == nullptr) return {tile * tile_rows, op.rows.existing(op.n_rows), matrix};
  if (tile >= *op.tiles.n_tiles) return {0, 0, 0};
  return {op.tiles.first[tile], op.tiles.end[tile], op.tiles.expert[tile]};
}

__device__ inline GemmPlace gemm_place(const GemmOp& op, int32_t tile_rows) {
  return gemm_place(op, tile_rows, static_cast<int32_t>(blockIdx.y), static_cast<int32_t>(blockIdx.z));
}

__device__ inline void store_pair(const GemmOp& op, int32_t row, int32_t column, float first, float second) {
  const int32_t width = op.heads.n > 1 ? op.heads.out_width : op.w.n_rows;
  const size_t at = static_cast<size_t>(row) * width + blockIdx.z * op.heads.out + column;
  if (op.kind == GemmOut::kBf16) {
    *reinterpret_cast<uint32_t*>(static_cast<__nv_bfloat16*>(op.out) + at) = pack_bf16(first, second);
    return;
  }
  float2* to = reinterpret_cast<float2*>(static_cast<float*>(op.out) + at);
  if (op.kind == GemmOut::kAddFloat) {
    const float2 old = *to;
    first += old.x;
    second += old.y;
  }
  *to = {first, second};
}

__device__ inline float silu(float x) { return x / (1.0f + expf(-x)); }

/* A block for each `tile_columns` rows of the weight, tile of activations, and head. */
inline Grid gemm_grid(const GemmOp& op, int32_t tile_rows, int32_t tile_columns) {
  return {ceil_div(op.w.n_rows, tile_columns),
          op.tiles.expert == nullptr ? ceil_div(op.n_rows, tile_rows) : op.tiles.most, op.heads.n};
}

}  // namespace ek::cuda
#endif
