/* What the kernels of a chunk share in device memory, and their launchers. */
#ifndef EK_CUDA_PREFILL_KERNELS_H
#define EK_CUDA_PREFILL_KERNELS_H
#include "../decode/kernels.h"
#include "gemm.h"

namespace ek::cuda {

/* n: tokens of a chunk. All sizes are for the longest chunk or for one segment of the cache. */
struct ChunkBuffers {
  int32_t* tokens;       /* (n) */
  float* x;              /* (n, hidden) residual */
  __nv_bfloat16* h;      /* (n, hidden) normalised */
  float* q;              /* (n, heads, nope + rope) */
  float* kv_a;           /* (n, latent + rope) */
  __nv_bfloat16* query;  /* (n, heads, nope + rope), scaled and rotated */
  __nv_bfloat16* keys;   /* (segment, heads, nope) */
  __nv_bfloat16* values; /* (segment, heads, value) */
  float* sums;           /* (n, heads, value) of the segments before */
  float* tops;           /* (n, heads) */
  float* totals;         /* (n, heads) */
  __nv_bfloat16* heads;  /* (n, heads, value) */
  int32_t* experts;      /* (n, top_k) */
  float* weights;        /* (n, top_k) */
  int32_t* counts;       /* (n_experts) pairs of each expert */
  int32_t* offsets;      /* (n_experts) first slot of each expert */
  int32_t* token_of;     /* (n top_k) by slot: pairs sorted by expert */
  int32_t* slot_of;      /* (n top_k) by pair */
  int32_t *tile_expert, *tile_first, *tile_end, *n_tiles;
  __nv_bfloat16* hidden; /* (n top_k, ff) by slot; (n, shared_ff) and (n, dense_ff) use the same memory */
  float* y;              /* (n top_k, hidden) by slot */
};

/* Positions [first, first + n) of the sequence. */
struct Chunk {
  cudaStream_t stream;
  const LiteShape& shape;
  const StepBuffers& cache;
  const ChunkBuffers& b;
  int32_t first, n;
  /* Called after each launch or group of launches; for timing. May be empty. */
  std::function<void(const char*)> after;

  void mark(const char* name) const {
    if (after) after(name);
  }
};

/* x = embeddings of the tokens. */
void launch_embed(const Chunk& c, const WeightView& embedding);
/* h = rms(x, norm). */
void launch_norm(const Chunk& c, const float* norm);
/* Cache rows and pooled rows from kv_a, and queries from q. */
void launch_store(const Chunk& c, const LiteLayer& layer, int32_t layer_index);
/* heads = attention of every token over its cached past and itself, a segment of `segment` tokens at a time.
 */
void launch_attention(const Chunk& c, const LiteLayer& layer, int32_t layer_index, int32_t segment);
/* h = rms(x, ffn_norm), experts and weights, and the pairs sorted by expert. */
void launch_route(const Chunk& c, const LiteLayer& layer);
/* x += sum over k of weights[k] * y of the pair's slot, in that order. */
void launch_add_experts(const Chunk& c);

/* Tiles of 128 rows that n pairs may need. */
inline int32_t most_tiles(const LiteShape& s, int32_t n) {
  return ceil_div(int64_t{n} * s.top_k, 128) + s.n_experts;
}

}  // namespace ek::cuda
#endif
