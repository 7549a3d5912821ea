/* What the kernels of nsa_attention pass to each other in scratch memory. */
#ifndef EK_CUDA_OPS_ATTENTION_CUH
#define EK_CUDA_OPS_ATTENTION_CUH
#include "cache.cuh"

namespace ek::cuda {

constexpr int kValueRows = 128; /* rows per partial sum of values */

/* Tokens [first, first + n) of a step, absorbed: every head's query meets the cached rows themselves. Shapes
 * begin with (n). A slot is a row of a chosen block: slot s is row s % 64 of union entry s / 64. */
struct AttentionPass {
  AttentionOp op;
  int32_t first, n;
  int32_t most_pooled; /* pooled rows that the last position sees */
  int32_t most_union;  /* entries of a union of selected and window blocks */
  int32_t most_blocks; /* blocks up to the last position */
  float* query;        /* (heads, latent + rope), scaled and rotated */
  float* pooled;       /* (heads, most_pooled): scores, then probabilities */
  float* block_score;  /* (most_blocks) */
  int32_t* unions;     /* (most_union): block of the sequence * 2 + selected */
  int32_t* n_union;    /* () */
  float* weight;       /* (heads, most_union * 64): scores, then weights; -1 for slots that do not count */
  float* pooled_part;  /* (chunks of most_pooled, heads, latent) */
  float* row_part;     /* (chunks of most_union * 64, heads, latent) */

  EK_HD int32_t width() const { return op.kv.latent + op.kv.rope; }
  EK_HD int32_t most_slots() const { return most_union * EK_KV_BLOCK; }
  EK_HD int32_t pooled_chunks() const { return (most_pooled + kValueRows - 1) / kValueRows; }
  EK_HD int32_t row_chunks() const { return (most_slots() + kValueRows - 1) / kValueRows; }
};

/* Block scores from the probabilities, and the union of the selected blocks and the window's. */
void nsa_select(Device& d, const AttentionPass& pass);

}  // namespace ek::cuda
#endif
