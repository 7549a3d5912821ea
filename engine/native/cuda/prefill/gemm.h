/* Products of many rows of activations with quantised weights, on tensor cores. */
#ifndef EK_CUDA_PREFILL_GEMM_H
#define EK_CUDA_PREFILL_GEMM_H
#include <cuda_bf16.h>

#include "../device/device.h"
#include "../device/launch.h"
#include "../weights/planes.h"

namespace ek::cuda {

/* Where the rows of activations lie: row r of a product is row gather[r] of `a`, or position first + r of a
 * cache whose blocks of 64 rows are in a table, or simply row r. */
struct GemmRows {
  const __nv_bfloat16* a;
  int32_t width; /* elements from one row to the next, a multiple of 8 */
  const int32_t* gather;
  const int32_t* blocks;
  int32_t first;
  const int32_t* n_blocks = nullptr; /* of the table, where only the device knows; there are no rows behind */

  EK_HD size_t index(int32_t r) const {
    if (gather != nullptr) r = gather[r];
    if (blocks != nullptr) r = blocks[(first + r) / 64] * 64 + (first + r) % 64;
    return static_cast<size_t>(r);
  }
  EK_HD const __nv_bfloat16* row(int32_t r) const { return a + index(r) * width; }
  /* How many of n rows there are. */
  EK_HD int32_t existing(int32_t n) const {
    if (n_blocks == nullptr) return n;
    const int32_t left = *n_blocks * 64 - first;
    return left < n ? left : n;
  }
};

/* Which rows belong to which matrix of a stack: tile i has rows [first[i], end[i]) and matrix expert[i]. */
struct GemmTiles {
  const int32_t *expert, *first, *end; /* null: all rows, matrix 0 */
  const int32_t* n_tiles;
  int32_t most; /* that there can be */
};

enum class GemmOut { kFloat, kBf16, kAddFloat };

/* A product for each head: head h meets matrix h of the stack with columns of the activations from h * in on,
 * and writes columns from h * out on of rows of out_width. */
struct GemmHeads {
  int32_t n = 1, in = 0, out = 0, out_width = 0;
};

struct GemmOp {
  GemmRows rows;
  GemmTiles tiles;
  WeightView w;
  WeightView up;  /* of gated products, otherwise unused */
  int32_t n_rows; /* of activations */
  GemmOut kind;
  void* out; /* (n_rows, w.n_rows), f32 or bf16 */
  GemmHeads heads{};
};

/* Rows of activations in a tile: of products by warps, and by groups of warps. */
constexpr int kGemmRows = 128, kGroupedRows = 256;
/* Of launch_gemm on the current GPU. */
int32_t gemm_tile_rows();

/* out = rows times w transposed, or added to it. Needs w.n_cols % 32 == 0 and w.n_rows % 16 == 0. */
void launch_gemm(cudaStream_t stream, const char* name, const GemmOp& op);
/* out (bf16) = silu(rows times w) * (rows times up). */
void launch_gemm_gated(cudaStream_t stream, const char* name, const GemmOp& op);
/* The same where kFewRows of activations at most meet one matrix: bound by reading the weights, which are not
 * rounded. */
constexpr int kFewRows = 64;
constexpr int kFewHeld = 16; /* of them in a tile */
void launch_gemm_few(cudaStream_t stream, const char* name, const GemmOp& op);
void launch_gemm_few_gated(cudaStream_t stream, const char* name, const GemmOp& op);
/* The same of two, beside each other if there is a kernel for their types. tiles_known: the tiles of the
 * second were written before the last kernel but one. */
void launch_gemm_few(cudaStream_t stream, const char* name, const GemmOp& first, const GemmOp& second,
                     bool tiles_known);
void launch_gemm_few_gated(cudaStream_t stream, const char* name, const GemmOp& first, const GemmOp& second,
                           bool tiles_known);
/* out (n_rows, heads, w.n_cols), bf16 = for each head its columns of the activations, from head * head_width
 * on, times its matrix as it lies: sums run over the weight's rows. Rows and columns in multiples of 128. */
void launch_multiply_down(cudaStream_t stream, const char* name, const GemmRows& rows, int32_t head_width,
                          const WeightView& w, int32_t n_rows, __nv_bfloat16* out);

}  // namespace ek::cuda
#endif
