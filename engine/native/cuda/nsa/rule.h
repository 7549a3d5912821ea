/* The rule of native sparse attention (arXiv 2502.11089), as tidepool-mini has it (docs/model.md). */
#ifndef EK_CUDA_NSA_RULE_H
#define EK_CUDA_NSA_RULE_H
#include "../decode/shape.h"

namespace ek::cuda {

constexpr int kPooledTokens = 32; /* a pooled row stands for; one begins every kPoolStride tokens */
constexpr int kMostSelected = 64;

struct NsaRule {
  int32_t selected = 16;          /* blocks of 64 tokens, the forced ones included */
  int32_t initial = 1, local = 2; /* forced: the first ones, and the last ones up to the token's own */
  int32_t window = 512;           /* last tokens, the token itself included */
  /* Tokens of a prompt, from a multiple of it on, that share what the first of them selects, to which each
   * adds the blocks that begin behind it (docs/decisions/0013): 1, or kTileQueries. */
  int32_t sharing = 1;

  /* Blocks that the token at t selects. */
  EK_HD int32_t n_selected(int32_t t) const { return selected < t / 64 + 1 ? selected : t / 64 + 1; }
  /* The token of a prompt that selects for the one at t. */
  EK_HD int32_t chooser(int32_t t) const { return t - t % sharing; }
  EK_HD bool is_forced(int32_t block, int32_t own) const { return block < initial || block > own - local; }
  EK_HD int32_t window_begin(int32_t t) const { return t + 1 > window ? t + 1 - window : 0; }
};

/* Pooled rows that the token at t sees: row i stands for tokens 16 i to 16 i + 31, none of them later. */
EK_HD inline int32_t pooled_visible(int32_t t) {
  return t + 1 < kPooledTokens ? 0 : (t + 1 - kPooledTokens) / kPoolStride + 1;
}

/* Throws ArgError unless there are kernels for the rule. */
void check_rule(const NsaRule& rule);

}  // namespace ek::cuda
#endif
