/* What the kernels of a step share in device memory, and their launchers. */
#ifndef EK_CUDA_DECODE_KERNELS_H
#define EK_CUDA_DECODE_KERNELS_H
#include <cuda_bf16.h>

#include "../device/launch.h"
#include "product.cuh"
#include "shape.h"

namespace ek::cuda {

constexpr int kSplits = 256;     /* of the cache in attention; fixed, so that sums never change their order */
constexpr int kScoreRows = 32;   /* pooled rows per block of the score kernel: 8 blocks of 64 tokens */
constexpr int kHeadBlocks = 400; /* blocks of the head kernel: two tiles for each warp at 102 400 tokens */

/* One token of a step. Tokens of one sequence follow each other. */
struct StepState {
  int32_t token, position;
  int32_t block;  /* of the cache, that has the position's row */
  int32_t first;  /* position of the first token of its sequence in this step */
  int32_t n_left; /* tokens of its sequence in this step, from this one on */
  int32_t wanted; /* not 0: its logits are */
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

/* What a step has once for each of its tokens: pieces of one allocation, token_bytes apart. */
struct TokenBuffers {
  StepState* state;
  float* x;                  /* (hidden) residual */
  float* q;                  /* (heads, nope + rope) */
  float* kv_a;               /* (latent + rope) */
  __nv_bfloat16* query;      /* (heads, latent + rope), scaled and rotated */
  __nv_bfloat16* own_pooled; /* (latent + rope) the pooled row of its position, of the tokens up to it */
  float* part;               /* (kSplits, heads, latent) */
  float* part_max;           /* (heads, kSplits) */
  float* part_sum;           /* (heads, kSplits), 0 where a split has no row */
  float* heads_part;         /* (4, heads * value): one sum per quarter of the latent */
  float* router_before;      /* (n_experts) the logits' share of the residual before attention (route.cuh) */
  float* router;             /* (n_experts) logits times the rms of the residual */
  float* expert_weight;      /* (top_k) of the chosen experts, the best first */
  /* Gated hidden values, as experts_out takes them: of top_k experts, of the shared experts, of a dense
   * layer; each padded with zeros to a multiple of 128. */
  Digits hidden_digits;
  Parts hidden_parts;
  float* logits;     /* (vocab) */
  HeadBest* best;    /* (kHeadBlocks) */
  int32_t* blocks;   /* (n_blocks) cache block of each 64 tokens */
  int32_t* lists;    /* (layers, n_blocks) selected blocks of the sequence, ascending */
  int32_t* listed;   /* (layers, n_blocks) the same as blocks of the cache */
  int32_t* n_listed; /* (layers) entries of them */
  ScoreSums scores;
  float2* turn; /* (rope / 2) cosine and sine of the position */
};

/* Elements of the buffers whose size the model decides. */
struct TokenSizes {
  size_t hidden, experts, top_k, units, vocab, blocks, layers, scores;
};
TokenSizes token_sizes(const LiteShape& shape);

/* Calls visit(number of elements, pointers) for each buffer of all of `b`. */
template <class Visit, class... Buffers>
EK_HD void visit_buffers(const TokenSizes& n, Visit&& visit, Buffers&... b) {
  visit(size_t{1}, b.state...);
  visit(n.hidden, b.x...);
  visit(size_t{kHeads} * (kNope + kRope), b.q...);
  visit(size_t{kRow}, b.kv_a...);
  visit(size_t{kHeads} * kRow, b.query...);
  visit(size_t{kRow}, b.own_pooled...);
  visit(size_t{kSplits} * kHeads * kLatent, b.part...);
  visit(size_t{kSplits} * kHeads, b.part_max...);
  visit(size_t{kSplits} * kHeads, b.part_sum...);
  visit(size_t{4} * kHeads * kValue, b.heads_part...);
  visit(n.experts, b.router_before...);
  visit(n.experts, b.router...);
  visit(n.top_k, b.expert_weight...);
  visit(n.units * 2, b.hidden_digits.bytes...);
  visit(n.units / 4, b.hidden_digits.scale...);
  visit(n.units, b.hidden_parts.high...);
  visit(n.units, b.hidden_parts.low...);
  visit(n.vocab, b.logits...);
  visit(size_t{kHeadBlocks}, b.best...);
  visit(n.blocks, b.blocks...);
  visit(n.layers * n.blocks, b.lists...);
  visit(n.layers * n.blocks, b.listed...);
  visit(n.layers, b.n_listed...);
  visit(n.scores, b.scores.top...);
  visit(n.scores, b.scores.sum...);
  visit(n.scores * (kScoreRows / 4), b.scores.mass...);
  visit(size_t{kRope / 2}, b.turn...);
}

/* The buffers of token 0, and what all tokens share. */
struct StepBuffers : TokenBuffers {
  uint32_t token_bytes;
  size_t most_shared; /* bytes of shared memory that a block may have */
  float* router_out;  /* (layers, n_experts, heads * value) what the heads add to the logits */
  int32_t expert_width, shared_width; /* of one expert, of the shared ones; a dense layer's follow */
  CachedRows cache;                   /* (layers, n_blocks, 64) */
  __nv_bfloat16* pooled;              /* (layers, n_blocks, 4, row) */
  /* (layers, n_blocks, most_listed): what the tiles of prefill that begin in a cache block attend to, blocks
   * of the sequence in ascending order. Part of the cache: whoever copies a block copies its list. */
  int32_t* tile_lists;
  const float* inv_freq; /* (rope / 2) */

  /* The buffers of token i. Made field by field, from fields: a copy of the whole would hide from the
   * compiler that the pointers are to device memory. */
  EK_HD TokenBuffers of_token(uint32_t i) const {
    TokenBuffers out;
    out.scores.n_groups = scores.n_groups;
    const uint64_t by = uint64_t{i} * token_bytes; /* one instruction with the sum */
    visit_buffers(
        {},
        [by](size_t, auto*& to, auto* const& from) {
          to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(reinterpret_cast<uint8_t*>(from) + by);
        },
        out, static_cast<const TokenBuffers&>(*this));
    return out;
  }

  /* The list of the tile that begins in a block of the cache; of the one at position t, with token 0's table.
   */
  EK_HD int32_t* block_list(const LiteShape& s, int32_t layer, int32_t block) const {
    return tile_lists + (static_cast<size_t>(layer) * s.n_blocks + block) * s.most_listed();
  }
  EK_HD int32_t* tile_list(const LiteShape& s, int32_t layer, int32_t t) const {
    return block_list(s, layer, blocks[t / 64]);
  }
};

struct Step {
  cudaStream_t stream;
  const LiteShape& shape;
  const StepBuffers& b;
  int32_t n_tokens;
  LaunchListener* listener = nullptr;
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
void launch_overlapped(const Step& s, const char* name, Kernel kernel, Grid grid, int threads, size_t shared,
                       Args... args) {
  launch(s.stream, name, {grid, threads, shared, true}, kernel, args...);
  if (s.listener != nullptr) s.listener->launched(name);
}

}  // namespace ek::cuda
#endif
