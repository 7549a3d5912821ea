/* What the kernels of a step share in device memory, and their launchers. */
#ifndef EK_CUDA_DECODE_KERNELS_H
#define EK_CUDA_DECODE_KERNELS_H
#include <cuda_bf16.h>

#include <functional>

#include "../device/launch.h"
#include "lite.h"
#include "product.cuh"

namespace ek::cuda {

constexpr int kSplits = 256;     /* of the cache in attention; fixed, so that sums never change their order */
constexpr int kScoreRows = 32;   /* pooled rows per block of the score kernel: 8 blocks of 64 tokens */
constexpr int kHeadBlocks = 400; /* blocks of the head kernel: two tiles for each warp at 102 400 tokens */

struct StepState {
  int32_t token, position;
  int32_t block; /* of the cache, that has the position's row */
};

/* The best token of one block of the head kernel. */
struct HeadBest {
  float value;
  int32_t index;
};

/* Scores of one token's queries with the pooled rows, kScoreRows of them in a group. */
struct ScoreSums {
  float* top;  /* (heads, n_groups) largest score */
  float* sum;  /* (heads, n_groups) of exp(score - top) */
  float* mass; /* (n_groups, kScoreRows / 4 blocks, heads) the same of each 64 tokens */
  int32_t n_groups;
};

/* Groups of pooled rows of a full cache. */
inline int32_t score_groups(const LiteShape& s) { return ceil_div(int64_t{s.n_blocks} * 4, kScoreRows); }

/* Rows of the cache in device memory. */
struct CachedRows {
  uint8_t* data;
  RowFormat format;

  EK_HD uint8_t* row(size_t index) const {
    return data + index * static_cast<size_t>(cache_row_bytes(format));
  }
};

/* Calls body with the format as a constant. */
template <class Body>
EK_HD auto for_row_format(RowFormat format, Body&& body) {
  return format == RowFormat::kFp8 ? body.template operator()<RowFormat::kFp8>()
                                   : body.template operator()<RowFormat::kBf16>();
}

struct StepBuffers {
  size_t most_shared; /* bytes of shared memory that a block may have */
  StepState* state;
  float* x;             /* (hidden) residual */
  float* q;             /* (heads, nope + rope) */
  float* kv_a;          /* (latent + rope) */
  __nv_bfloat16* query; /* (heads, latent + rope), scaled and rotated */
  float* part;          /* (kSplits, heads, latent) */
  float* part_max;      /* (heads, kSplits) */
  float* part_sum;      /* (heads, kSplits), 0 where a split has no row */
  float* heads_part;    /* (4, heads * value): one sum per quarter of the latent */
  float* router_before; /* (n_experts) the logits' share of the residual before attention (route.cuh) */
  float* router;        /* (n_experts) logits times the rms of the residual */
  float* router_out;    /* (layers, n_experts, heads * value) what the heads add to them */
  float* expert_weight; /* (top_k) of the chosen experts, the best first */
  /* Gated hidden values, as experts_out takes them: of top_k experts, of the shared experts, of a dense
   * layer; each padded with zeros to a multiple of 128. */
  Digits hidden_digits;
  Parts hidden_parts;
  int32_t expert_width, shared_width; /* of one expert, of the shared ones; a dense layer's follow */
  float* logits;                      /* (vocab) */
  HeadBest* best;                     /* (kHeadBlocks) */
  int32_t* blocks;                    /* (n_blocks) cache block of each 64 tokens */
  int32_t* lists;                     /* (layers, n_blocks) selected blocks of the sequence, ascending */
  int32_t* listed;                    /* (layers, n_blocks) the same as blocks of the cache */
  int32_t* n_listed;                  /* (layers) entries of them */
  ScoreSums scores;
  CachedRows cache;      /* (layers, n_blocks, 64) */
  __nv_bfloat16* pooled; /* (layers, n_blocks, 4, row) */
  /* (layers, n_blocks, most_listed): what the tiles of prefill that begin in a cache block attend to, blocks
   * of the sequence in ascending order. Part of the cache: whoever copies a block copies its list. */
  int32_t* tile_lists;
  const float* inv_freq; /* (rope / 2) */
  float2* turn;          /* (rope / 2) cosine and sine of the step's position */

  /* The list of the tile that begins at position t. */
  EK_HD int32_t* tile_list(const LiteShape& s, int32_t layer, int32_t t) const {
    return tile_lists + (static_cast<size_t>(layer) * s.n_blocks + blocks[t / 64]) * s.most_listed();
  }
};

struct Step {
  cudaStream_t stream;
  const LiteShape& shape;
  const StepBuffers& b;
  /* Called after each launch; for timing. May be empty. */
  std::function<void(const char*)> after;
};

/* q = W_q h, kv_a = W_kva h with h = rms(x, norm). */
void launch_project_in(const Step& s, const LiteLayer& layer);
/* Writes the cache row and its pooled row, and the absorbed, scaled, rotated query. */
void launch_absorb(const Step& s, const LiteLayer& layer, int32_t layer_index);
/* Scores of all pooled rows, then the list of blocks to attend to. */
void launch_select(const Step& s, int32_t layer_index);
/* Attention of the listed blocks (sparse) or of all, in kSplits parts. */
void launch_attend(const Step& s, int32_t layer_index, bool sparse);
/* router_out of a layer from its router, norm and W_o. */
void fold_router(Device& d, const LiteShape& shape, const LiteLayer& layer, float* router_out);
/* heads_part = W_UV times the combined latents, in quarters; router_before. */
void launch_combine(const Step& s, const LiteLayer& layer);
/* x += W_o heads; router. */
void launch_project_out(const Step& s, const LiteLayer& layer, int32_t layer_index);
/* Chooses experts, and hidden = silu(gate h) * up h of them and the shared ones, h = rms(x, norm). */
void launch_experts_in(const Step& s, const LiteLayer& layer);
/* Whether there is a kernel for down weights of these types, of chosen and of shared experts. */
bool has_down_kernel(ek_type routed, ek_type shared);
/* x += sum of weight * down hidden. */
void launch_experts_out(const Step& s, const LiteLayer& layer);
/* logits = W_head rms(x, norm). */
void launch_head(const Step& s, const LiteWeights& weights);
/* Chooses the token, moves to the next position, and x = its embedding. choose false: x of the state's token.
 */
void launch_next(const Step& s, const LiteWeights& weights, bool choose);

/* A launch that may begin while the kernel before it still runs; the kernel waits for it itself. */
template <class Kernel, class... Args>
void launch_overlapped(const Step& s, const char* name, Kernel kernel, int blocks, int threads, size_t shared,
                       Args... args) {
  launch(s.stream, name, {blocks, threads, shared, true}, kernel, args...);
  if (s.after) s.after(name);
}

}  // namespace ek::cuda
#endif
