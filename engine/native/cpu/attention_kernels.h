/* Hot loops of attention, compiled once per instruction set from attention.inl and attention_tile.inl.
 * Every lane adds its terms in an order that depends on neither the thread nor the rows beside it. */
#ifndef EK_CPU_ATTENTION_KERNELS_H
#define EK_CPU_ATTENTION_KERNELS_H
#include <cstddef>
#include <cstdint>

#include "engine_kernels.h"

namespace ek::cpu {

constexpr int32_t kTileQueries = 32; /* queries of a prefill tile: one lane each */

/* Pages of a cache in one layer, each EK_KV_BLOCK rows (or n_slots pooled rows) of f16 or f32. */
struct Pages {
  const void* const* at;
  int32_t n;
  bool half;
};

/* The used blocks of one query, in order; the window is a suffix of their keys. */
struct QueryKeys {
  const uint8_t* selected; /* (ceil(n_keys / 64)): whether the block is selected */
  int32_t n_keys;          /* up to the query itself */
  int32_t first_in_window;
};

/* Scores of a tile are (64 keys, kTileQueries) per block. */
struct TileBlock {
  int32_t first_key;
  uint32_t selected; /* bit i: query i selects the block */
};

/* Two softmaxes over the same scores, per query: [0] selection, [1] window. */
struct TileState {
  alignas(64) float top[2][kTileQueries];
  alignas(64) float sum[2][kTileQueries];
  alignas(64) float factor[2][kTileQueries]; /* gate / sum */
  int32_t n;                                 /* queries */
  int32_t first_position;                    /* of query 0; query i is i positions later */
  int32_t window;
  bool apart; /* the maxima differ so much that one exponential cannot serve both */
};

/* Cached rows that one pooled row covers, all in one page: keys [at, at + n). */
struct Pooled {
  const void* rows;
  bool half;
  int32_t at, n;
  int32_t ld; /* weights of one dimension are so far from those of the next */
};

struct AttentionKernels {
  const char* name;
  /* C (m, n) = A B, or +=. A (m, k) with element (i, p) at a[i * row + p * step], one of row and step being
   * 1; B (k, n); n in multiples of 16. Each element sums over k in order. */
  void (*gemm)(int32_t m, int32_t n, int32_t k, const float* a, size_t row, size_t step, const float* b,
               size_t ldb, float* c, size_t ldc, bool accumulate);
  /* out[i] = in[i] as f32; n in multiples of 16. */
  void (*widen)(const void* in, bool half, float* out, size_t n);
  /* out[i] = in[i] as f16, rounded to the nearest, or as f32. */
  void (*narrow)(const float* in, bool half, void* out, int32_t n);
  /* out[i] += the weighted sum of the keys of dimension dim + i; weights (n_dims, ld). */
  void (*pool)(const Pooled& from, int32_t dim, int32_t n_dims, const float* weights, float* out);
  /* s (m, lds): scores of q (m, width) against the rows (width, 64) of every page. */
  void (*score_rows)(const Pages& pages, int32_t width, int32_t m, const float* q, float* s, size_t lds);
  /* sums (m, latent) = p (m, ldp) times the first n_keys rows of the pages. */
  void (*sum_rows)(const Pages& pages, int32_t latent, int32_t n_keys, int32_t m, const float* p, size_t ldp,
                   float* sums);
  /* s (m, lds): scores of q (m, width) against the pooled keys (width, n_slots) of every page.
   * repeated: room for (m, 4 width). */
  void (*score_pooled)(const Pages& pages, int32_t width, int32_t n_slots, int32_t m, const float* q,
                       float* repeated, float* s, size_t lds);
  /* sums (m, latent) = p (m, ldp) times the pooled values (n_slots, latent) [first, end) of the pages. */
  void (*sum_pooled)(const Pages& pages, int32_t latent, int32_t n_slots, int32_t first, int32_t end,
                     int32_t m, const float* p, size_t ldp, float* sums);
  /* s (n) becomes its softmax, with 0 for what is below the normal range of floats; n in multiples of 16, at
   * least one element finite. */
  void (*softmax)(float* s, int32_t n);
  /* s becomes gate_slc * p_slc + gate_win * p_win of one query; elements from n_keys on are undefined. */
  void (*weigh_query)(const QueryKeys& keys, float gate_slc, float gate_win, float* s);
  /* Three passes over the blocks of a tile: maxima, then tile_ready; exponentials and sums; and, with the
   * factors set, weights. */
  void (*tile_top)(const TileBlock& block, const float* s, TileState& state);
  void (*tile_ready)(TileState& state);
  void (*tile_exp)(const TileBlock& block, float* s, TileState& state);
  void (*tile_weigh)(const TileBlock& block, float* s, const TileState& state);
};

extern const AttentionKernels kAttentionScalar;
#if defined(__x86_64__)
extern const AttentionKernels kAttentionAvx2;
extern const AttentionKernels kAttentionAvx512;
#elif defined(__aarch64__)
extern const AttentionKernels kAttentionNeon;
#endif

/* The kernels of an instruction set by its name: scalar, avx2, avx512 or neon. */
const AttentionKernels& attention_kernels(const char* isa);

}  // namespace ek::cpu
#endif
