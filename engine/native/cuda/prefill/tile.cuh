/* Pieces of tiled products: weights from their planes to bf16 in shared memory, and a warp's share of a tile.
 */
#ifndef EK_CUDA_PREFILL_TILE_CUH
#define EK_CUDA_PREFILL_TILE_CUH
#include "../decode/fragment.cuh"
#include "gemm.h"

namespace ek::cuda {

/* Eight warps in two rows and four columns: a warp has 64 x 32 of a tile of 128 x 128. */
constexpr int kGemmWarps = 8, kGemmThreads = kGemmWarps * kWarp;

/* A lane's 8 columns of one part, scaled, in f32. r: row g or g + 8 of the fragment. */
template <ek_type F>
__device__ void scale_part(const Fragment<F>& f, int r, int part, int lane, float (&v)[8]) {
  if constexpr (F == EK_FP8_E4M3) {
    uint32_t pair[4];
    unpack_pairs<F>(f, r, part, pair);
    const float scale = pair_affine<F>(f, r, part, 0).scale;
    for (int p = 0; p < 4; p++) {
      v[p] = scale * bf16_value(pair[p] & 0xffff);
      v[p + 4] = scale * bf16_value(pair[p] >> 16);
    }
  } else if constexpr (F == EK_Q8_0) {
    /* Signed bytes as 2^23 + 128 + b, minus 2^23 + 128. */
    const float scale = pair_affine<F>(f, r, part, 0).scale;
    for (int odd = 0; odd < 2; odd++) {
      const uint32_t word = word_of(f.low[r][part / 2], part % 2 * 2 + odd) ^ kSignBits;
      for (int i = 0; i < 4; i++)
        v[2 * i + odd] = scale * (__uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 + i)) - 8388736.0f);
    }
  } else {
    /* An integer as bits 16 to 22 of a float is 128 more. */
    uint32_t word[2];
    unpack_integers<F>(f, r, part, word);
    const Affine s = pair_affine<F>(f, r, part, lane % 4 / 2, 128.0f);
    for (int i = 0; i < 8; i++)
      v[i] = fmaf(s.scale, __uint_as_float(__byte_perm(word[i % 2], 0x43000000u, 0x7044 + i / 2 * 0x100)),
                  s.offset);
  }
}

/* The same as bf16, in column order. */
template <ek_type F>
__device__ uint4 part_as_bf16(const Fragment<F>& f, int r, int part, int lane) {
  if constexpr (F == EK_BF16) {
    uint32_t pair[4];
    unpack_pairs<F>(f, r, part, pair);
    return {__byte_perm(pair[0], pair[1], 0x5410), __byte_perm(pair[2], pair[3], 0x5410),
            __byte_perm(pair[0], pair[1], 0x7632), __byte_perm(pair[2], pair[3], 0x7632)};
  } else {
    float v[8];
    scale_part<F>(f, r, part, lane, v);
    return {pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7])};
  }
}

template <ek_type F>
__device__ void store_part(const Fragment<F>& f, int r, int part, int lane, __nv_bfloat16* to) {
  *reinterpret_cast<uint4*>(to) = part_as_bf16<F>(f, r, part, lane);
}

/* Rows of bf16 in shared memory whose pieces of 16 bytes do not meet in its banks: by a gap behind each, or
 * permuted, in columns of 64 (SharedTile). */
template <int Width>
struct PaddedRows {
  static constexpr int kPitch = Width + 8; /* to the next row, where its place among eight is the same */
  static constexpr int size(int rows) { return rows * kPitch; }
  __device__ static int at(int row, int piece) { return row * kPitch + piece * 8; }
};
template <int Rows>
struct PermutedRows {
  static constexpr int kPitch = 64, kColumns = Rows * kPitch;
  __device__ static int at(int row, int piece) {
    return piece / 8 * kColumns + row * kPitch + (piece % 8 ^ row % 8) * 8;
  }
};

/* Rows `row` to row + 15 and columns k to k + 15 of a tile as the left matrix of mma. */
template <int Pitch>
__device__ void load_left(uint32_t (&a)[4], const __nv_bfloat16* tile, int row, int k, int lane) {
  load_matrices(a, tile + (row + lane % 16) * Pitch + k + lane / 16 * 8);
}

/* Rows n to n + 15 and columns k to k + 15 of a tile as two right matrices: words 0 and 1 have rows n to n
 * + 7. */
template <int Pitch>
__device__ void load_right(uint32_t (&b)[4], const __nv_bfloat16* tile, int n, int k, int lane) {
  load_matrices(b, tile + (n + lane / 16 * 8 + lane % 8) * Pitch + k + lane / 8 % 2 * 8);
}

/* Columns n to n + 15 and rows k to k + 15 of a tile as two right matrices. */
template <int Pitch>
__device__ void load_right_transposed(uint32_t (&b)[4], const __nv_bfloat16* tile, int n, int k, int lane) {
  load_matrices_transposed(b, tile + (k + lane % 16) * Pitch + n + lane / 16 * 8);
}

/* Sums of a warp's 64 x 32: [16 rows][8 columns][as mma_bf16]. */
using WarpSums = float[4][4][4];

/* sums += the left tile's 64 rows from `row` on times two pairs of right matrices; of the first `sixteens`
 * times 16 rows, where that is known to be less. */
template <int Pitch>
__device__ void multiply_step(WarpSums& sums, const __nv_bfloat16* left, int row, int k,
                              const uint32_t (&b)[2][4], int lane, int sixteens = 4) {
#pragma unroll
  for (int m = 0; m < 4; m++) {
    if (m >= sixteens) return;
    uint32_t a[4];
    load_left<Pitch>(a, left, row + m * 16, k, lane);
#pragma unroll
    for (int n = 0; n < 4; n++)
      mma_bf16(sums[m][n], a[0], a[1], a[2], a[3], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
  }
}

}  // namespace ek::cuda
#endif
