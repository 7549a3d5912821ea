/* A model behind ek_model: the fused decoder and prefill over one cache, for sequences with block tables. */
#ifndef EK_CUDA_MODEL_LITE_MODEL_H
#define EK_CUDA_MODEL_LITE_MODEL_H
#include "../prefill/prefill.h"
#include "fused_model.h"

namespace ek::cuda {

/* Throws ArgError, saying what was expected and what was found, unless the fused kernels compute this model.
 */
LiteShape shape_of(const ek_model_params& params);
/* Bytes that a LiteModel allocates. */
ek_model_memory memory_of(const LiteShape& shape, int32_t chunk);
/* Views of weights that live elsewhere. Throws ArgError when a type has no kernel. */
LiteWeights weights_of(const ek_model_params& params, const ek_model_weights& from);

class LiteModel final : public FusedModel {
 public:
  LiteModel(Device& d, const ek_model_params& params, LiteWeights weights);

  /* Short parts are computed together, in fused steps of up to kMostTokens tokens, long ones one after the
   * other. */
  void begin(const ModelStep& step) override;
  ModelCost cost(const ModelStep& step) const override;
  void copy_block(int32_t dst, int32_t src) override { decoder_.copy_block(dst, src); }
  void fill_cache(int32_t n_tokens, uint32_t seed) override { decoder_.fill_cache(n_tokens, seed); }

 private:
  /* Tokens that are decoded together, and where their logits go, or null. */
  struct Pending {
    std::vector<StepToken> tokens;
    std::vector<float*> logits;
  };
  /* Computes them, and leaves none. */
  void decode(Pending& pending);
  /* Gives the kernels the block table for token `index` of a step, unless they have it: while decoding it
   * changes every 64 tokens. */
  void use_blocks(int32_t index, const Sequence& sequence);

  Device& device_;
  LiteDecoder decoder_;
  LitePrefill prefill_;
  std::vector<int32_t> tables_[kMostTokens]; /* on the device */
};

}  // namespace ek::cuda
#endif
