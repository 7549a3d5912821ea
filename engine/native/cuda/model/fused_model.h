/* What every kind of model behind ek_model does. */
#ifndef EK_CUDA_MODEL_FUSED_MODEL_H
#define EK_CUDA_MODEL_FUSED_MODEL_H
#include "../../core/backend.h"

namespace ek::cuda {

/* Tokens at the end of a sequence's part that are decoded: all of a short part, otherwise those whose logits
 * are wanted, if there are several. */
inline int32_t n_decoded(const Sequence& s, int32_t n_wanted) {
  if (s.n_new <= EK_DECODED) return s.n_new;
  return n_wanted > 1 ? n_wanted : 0;
}

struct FusedModel : Storage {
  /* Begins to compute the step; whoever calls waits. */
  virtual void begin(const ModelStep& step) = 0;
  virtual ModelCost cost(const ModelStep& step) const = 0;
  /* Copies the rows of a block of the cache, in all layers. */
  virtual void copy_block(int32_t dst, int32_t src) = 0;
  /* Random rows for positions 0 to n_tokens - 1 in blocks 0, 1, ... */
  virtual void fill_cache(int32_t n_tokens, uint32_t seed) = 0;
};

}  // namespace ek::cuda
#endif
