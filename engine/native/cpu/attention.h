/* What the parts of attention share: the pooled branch (attention_pooled.cpp) comes first and chooses blocks;
 * then selection and window, absorbed for few new tokens (attention_decode.cpp), decompressed for many
 * (attention_prefill.cpp). */
#ifndef EK_CPU_ATTENTION_H
#define EK_CPU_ATTENTION_H
#include <algorithm>

#include "../core/aligned.h"
#include "attention_kernels.h"
#include "cpu_backend.h"

namespace ek::cpu {

/* W_UK and W_UV of all heads as f32, made once per weight. */
struct Projections : Storage {
  Aligned<float> uk; /* (heads, nope, latent) */
  Aligned<float> uv; /* (heads, latent, v) */
};

/* A new token of a step. */
struct StepToken {
  const Sequence* seq;
  int32_t position;
  size_t row; /* of the step's activations */
};

struct AttentionScratch {
  Aligned<float> floats;
  Aligned<const void*> pages;
  Aligned<int32_t> indices;
  Aligned<uint8_t> flags;
};

/* Memory of a step, kept for the next. It is reserved outside the loops that threads share, since nothing may
 * throw inside them. */
struct AttentionMemory {
  std::vector<StepToken> few, many;
  Aligned<float> absorbed;             /* (tokens of a group, heads, latent + rope), scaled */
  Aligned<float> sums;                 /* (tokens of a group, heads, latent): the gated pooled branch */
  Aligned<float> p;                    /* (tokens of a group, heads, ld_pooled) */
  Aligned<uint8_t> selected;           /* (tokens of a group, n_blocks) */
  Aligned<uint32_t> masks;             /* (tiles, n_blocks): bit i: query i of the tile selects the block */
  std::vector<uint8_t> absorbed_tiles; /* (tiles) of a sequence: those that attend_absorbed computed */
  std::vector<int32_t> needed;         /* blocks in the slab */
  Aligned<int32_t> slab_at;            /* (n_blocks): where a block's keys and values lie in the slab */
  Aligned<float> slab; /* per needed block: keys (nope + rope, 64), values (64, v) of one head */
  std::vector<AttentionScratch> scratch; /* per thread */

  void reserve_scratch(int n_threads, size_t n_floats, size_t n_blocks) {
    scratch.resize(n_threads);
    for (AttentionScratch& s : scratch) {
      s.floats.reserve(n_floats);
      s.pages.reserve(n_blocks);
      s.indices.reserve(n_blocks);
      s.flags.reserve(n_blocks);
    }
  }
};

/* One call of the op. */
struct AttentionStep {
  const AttentionArgs& a;
  const HostKv& kv;
  const AttentionKernels& k;
  const Projections& w;
  const float* turns; /* (n_tokens, rope): cosine and sine of each pair */
  ThreadPool& pool;
  AttentionMemory& m;

  int32_t latent() const { return kv.params.latent_dim; }
  int32_t rope() const { return kv.params.rope_dim; }
  int32_t heads() const { return a.nsa.n_heads; }
  int32_t qk() const { return a.nsa.nope_dim + rope(); }
  /* The query of a head before rotation, (nope + rope). */
  const float* query(size_t row, int32_t head) const { return a.q + (row * heads() + head) * qk(); }
  float* out(size_t row, int32_t head) const { return a.out + (row * heads() + head) * a.nsa.v_dim; }
  float gate(size_t row, int32_t head, int32_t branch) const;
  /* How many heads an item of work takes when there are n tokens or tiles, so that every thread has some.
   * Results do not depend on it: a lane never sees the heads beside it. */
  int32_t heads_per_item(int32_t n) const {
    const int32_t parts = std::clamp((pool.n_threads() + n - 1) / n, 1, heads());
    return (heads() + parts - 1) / parts;
  }
  /* to (rope) = the rotary part of a query, rotated and scaled. */
  void rotate(size_t row, int32_t head, float* to) const;
};

/* Tokens that are treated together. */
struct TokenGroup {
  const StepToken* tokens;
  int32_t n;
  int32_t n_blocks;  /* of the longest sequence */
  int32_t ld_pooled; /* pooled slots of n_blocks blocks, in multiples of 16 */
};

/* Fills absorbed, sums, p and selected of the group. */
void attend_pooled(const AttentionStep& step, const TokenGroup& group);
/* Selection and window, and what attend_pooled left, into out. */
void attend_absorbed(const AttentionStep& step, const TokenGroup& group);
/* All branches of a sequence with many new tokens. */
void attend_sequence(const AttentionStep& step, const Sequence& seq);

/* Calls body(group) for consecutive parts of tokens whose probabilities stay small, a multiple of
 * kTileQueries each but the last. */
template <class Body>
void for_groups(const AttentionStep& step, const std::vector<StepToken>& tokens, Body&& body) {
  constexpr int32_t kProbabilities = 1 << 19, kMost = 4 * kTileQueries;
  int32_t last = 0;
  for (const StepToken& t : tokens) last = std::max(last, t.position);
  const int32_t n_blocks = last / EK_KV_BLOCK + 1;
  const int32_t ld = std::max(kLanes, round_up(n_blocks * step.kv.n_pooled, kLanes));
  const int32_t fit = kProbabilities / (step.heads() * ld) / kTileQueries * kTileQueries;
  const int32_t most = std::clamp(fit, kTileQueries, kMost), n = static_cast<int32_t>(tokens.size());
  for (int32_t first = 0; first < n; first += most) {
    body(TokenGroup{tokens.data() + first, std::min(most, n - first), n_blocks, ld});
  }
}

}  // namespace ek::cpu
#endif
