/* A model behind ek_model: the narrow decoder for short parts, a token after the other, ops for longer ones,
 * over one cache. */
#ifndef EK_CUDA_MODEL_NARROW_MODEL_H
#define EK_CUDA_MODEL_NARROW_MODEL_H
#include "../narrow/narrow.h"
#include "fused_model.h"

namespace ek::cuda::narrow {

/* Throws ArgError, saying what was expected and what was found, unless the fused kernels compute this model.
 */
Shape shape_of(const ek_model_params& params);
/* Bytes that a Model allocates. */
ek_model_memory memory_of(const Shape& shape, int32_t chunk);
/* Views of weights that live elsewhere. Throws ArgError when a type has no kernel. */
Weights weights_of(const ek_model_params& params, const ek_model_weights& from);

/* Bytes of a step's weights when n_experts of each layer are met. */
double weight_bytes(const Weights& weights, int32_t n_experts);

class Model final : public FusedModel {
 public:
  Model(Device& d, const ek_model_params& params, Weights weights);
  ~Model() override;

  void begin(const ModelStep& step) override;
  ModelCost cost(const ModelStep& step) const override;
  void copy_block(int32_t dst, int32_t src) override;
  void fill_cache(int32_t n_tokens, uint32_t seed) override;

  Decoder& decoder() { return decoder_; }

 private:
  struct Activations;

  /* Gives the kernels the sequence's block table, unless they have it. */
  void use_blocks(const Sequence& sequence);
  /* Reads n tokens of the sequence in use op by op; with logits behind the last one when they are wanted. */
  void read(int32_t start, const int32_t* tokens, int32_t n, bool wants);
  /* One chunk of it. */
  void read_chunk(int32_t start, const int32_t* tokens, int32_t n, bool wants);
  void attend(const Layer& layer, int32_t index, const BatchView& batch);
  void feed_forward(const Layer& layer, float* x, int32_t n_rows);

  Device& device_;
  const int32_t chunk_;
  DeviceMemory cache_;
  Decoder decoder_;
  std::unique_ptr<Activations> act_;
  std::vector<int32_t> table_; /* on the device */
};

}  // namespace ek::cuda::narrow
#endif
