/* What the kernels of a chunk share in device memory, and their launchers. */
#ifndef EK_CUDA_PREFILL_KERNELS_H
#define EK_CUDA_PREFILL_KERNELS_H
#include "../decode/kernels.h"
#include "gemm.h"

namespace ek::cuda {

/* Of the past of a short run; fixed, so that sums never change order. A block for each and four tokens of 64,
 * wherever they begin, has a multiprocessor of 132. */
constexpr int kAbsorbedSplits = 7;

/* n: tokens of a chunk. All sizes are for the longest chunk or for one segment of the cache. */
struct ChunkBuffers {
  int32_t* tokens;           /* (n) */
  float* x;                  /* (n, hidden) residual */
  __nv_bfloat16* h;          /* (n, hidden) normalised */
  float* q;                  /* (n, heads, nope + rope) */
  float* kv_a;               /* (n, latent + rope) */
  __nv_bfloat16* query;      /* (n, heads, nope + rope), scaled and rotated */
  __nv_bfloat16* tile_query; /* (tiles, heads, latent + rope) absorbed, of the first token of each tile */
  __nv_bfloat16* tile_row;   /* (tiles, latent + rope) the row of that token, as the cache has it */
  ScoreSums tile_scores;     /* (tiles, as of a token) */
  int32_t* block_slot;       /* (n_blocks) place of a block of the sequence among those to expand */
  int32_t* slot_blocks;      /* (n_blocks) cache block of each slot */
  int32_t* n_slots;
  __nv_bfloat16* latents; /* (segment, latent) of rows of fp8 */
  __nv_bfloat16* keys;    /* (segment, heads, nope) */
  __nv_bfloat16* values;  /* (segment, heads, value) */
  float* sums;            /* (n, heads, value) of the segments before, as SegmentAttention has them */
  float* tops;            /* (n, heads) */
  float* totals;          /* (n, heads, 4) */
  __nv_bfloat16* heads;   /* (n, heads, value) */
  /* Of a short run, n being kMostShort at most. */
  __nv_bfloat16* absorbed;    /* (n, heads, latent) queries, then weighted latents */
  float* part;                /* (n, kAbsorbedSplits, heads, latent) */
  float *part_top, *part_sum; /* (n, kAbsorbedSplits, heads) */
  float* logits;              /* (n, n_experts) of the router */
  int32_t* experts;           /* (n, top_k) */
  float* weights;             /* (n, top_k) */
  int32_t* counts;            /* (n_experts) pairs of each expert */
  int32_t* offsets;           /* (n_experts) first slot of each expert */
  int32_t* token_of;          /* (n top_k) by slot: pairs sorted by expert */
  int32_t* slot_of;           /* (n top_k) by pair */
  int32_t *tile_expert, *tile_first, *tile_end, *n_tiles;
  __nv_bfloat16* hidden; /* (n top_k, ff) by slot; (n, shared_ff) and (n, dense_ff) use the same memory */
  __nv_bfloat16* shared_hidden; /* (n, shared_ff) of a short run, whose experts run beside each other */
  __nv_bfloat16* y;             /* (n top_k, hidden) by slot */
};

/* Positions [first, first + n) of the sequence. */
struct Chunk {
  cudaStream_t stream;
  const LiteShape& shape;
  const StepBuffers& cache;
  const ChunkBuffers& b;
  int32_t first, n;
  bool is_short; /* of a run of kMostShort tokens at most */
  bool absorbs;  /* the same, where the GPU has room for attention in absorbed form */
  LaunchListener* listener = nullptr;

  void mark(const char* name) const {
    if (listener != nullptr) listener->launched(name);
  }
};

/* Whether tokens of the chunk attend by lists in a layer. */
inline bool selects(const Chunk& c, int32_t layer_index) {
  return layer_index >= c.shape.dense_layers && c.first + c.n > c.shape.dense_len;
}

/* x = embeddings of the tokens. */
void launch_embed(const Chunk& c, const WeightView& embedding);
/* h = rms(x, norm). */
void launch_norm(const Chunk& c, const float* norm);
/* Cache rows and pooled rows from kv_a, and queries from q. */
void launch_store(const Chunk& c, const LiteLayer& layer, int32_t layer_index);
/* The latents of n rows that the cache has, as a product takes them. rows: their blocks, first and n_blocks.
 */
GemmRows launch_latents(const Chunk& c, int32_t layer_index, const GemmRows& rows, int32_t n);
/* Lists of the tiles that begin in the chunk, which ends behind dense_len. */
void launch_select_tiles(const Chunk& c, const LiteLayer& layer, int32_t layer_index);
/* Slots for the blocks that the chunk's tiles attend to. */
void launch_assign_slots(const Chunk& c, int32_t layer_index);
/* heads = attention of every token over what it sees of its past and itself, a segment of `segment` cached
 * tokens at a time. */
void launch_attention(const Chunk& c, const LiteLayer& layer, int32_t layer_index, int32_t segment);
/* As launch_attention for kMostShort tokens at most, without expanding their past. */
void launch_absorbed_attention(const Chunk& c, const LiteLayer& layer, int32_t layer_index);
/* Whether the GPU has the shared memory for it. */
bool can_absorb();
/* h = rms(x, ffn_norm); the experts of each token with their weights; the pairs sorted by expert, and the
 * tiles of their products. */
void launch_route(const Chunk& c, const LiteLayer& layer);
/* The same for a short run. */
void launch_route_few(const Chunk& c, const LiteLayer& layer);
/* The pairs sorted by expert, and the tiles: what launch_route ends with. */
void launch_sort_pairs(const Chunk& c);
/* x += sum over k of weights[k] * y of the pair's slot, in that order. */
void launch_add_experts(const Chunk& c);

/* Tiles that n tokens in a row may meet. */
inline int32_t most_query_tiles(int32_t n) { return (n + kTileQueries - 2) / kTileQueries + 1; }
/* The scores of one tile. */
__device__ inline ScoreSums tile_scores(const ChunkBuffers& b, unsigned tile) {
  const ScoreSums& all = b.tile_scores;
  const size_t at = static_cast<size_t>(tile) * static_cast<size_t>(all.n_groups) * kHeads;
  return {all.top + at, all.sum + at, all.mass + at * (kScoreRows / 4), all.n_groups};
}

/* Tiles of tile_rows rows that the pairs of n tokens may need. */
inline int32_t most_tiles(const LiteShape& s, int32_t n, int32_t tile_rows) {
  return ceil_div(int64_t{n} * s.top_k, tile_rows) + s.n_experts;
}
/* Rows of a tile of a chunk's grouped products. */
inline int32_t tile_rows(const Chunk& c) { return c.is_short ? kFewHeld : gemm_tile_rows(); }

}  // namespace ek::cuda
#endif
