/* One layer's attention of a shape on a device: a cache, random weights, and tokens that a seed determines,
 * so that the same tokens can be fed in any cut, to any backend. */
#ifndef EK_TESTS_ATTENTION_MODEL_H
#define EK_TESTS_ATTENTION_MODEL_H
#include <algorithm>

#include "attention_cases.h"
#include "device.h"

namespace ek::test {

/* Part of a sequence that a step computes. */
struct Part {
  uint32_t seed;               /* of the sequence's tokens */
  int32_t start, n;            /* new tokens */
  std::vector<int32_t> blocks; /* of the whole sequence */
};

/* Inputs of a step, (tokens, width) each. */
struct StepInputs {
  std::vector<float> kv_a, q, gates;
};

/* The inputs of the parts' new tokens in order, which depend on seed and position only. */
StepInputs make_inputs(const AttentionShape& shape, float q_scale, const std::vector<Part>& parts);

class AttentionModel {
 public:
  AttentionModel(ek_device device, const char* isa, int threads, const AttentionShape& shape, ek_type cache,
                 int32_t n_blocks);
  ~AttentionModel();
  AttentionModel(const AttentionModel&) = delete;
  AttentionModel& operator=(const AttentionModel&) = delete;

  int32_t kv_width() const { return shape_.latent + shape_.rope; }
  int32_t q_width() const { return shape_.heads * (shape_.nope + shape_.rope); }
  int32_t out_width() const { return shape_.heads * shape_.v; }
  StepInputs inputs(const std::vector<Part>& parts) const { return make_inputs(shape_, 1.0f, parts); }
  /* Writes the rows of the parts and computes nothing else. */
  void store(const std::vector<Part>& parts, const StepInputs& in);
  /* Writes the rows, and returns attention of all tokens of the parts, (tokens, out_width). */
  std::vector<float> run(const std::vector<Part>& parts, const StepInputs& in);
  std::vector<float> run(const std::vector<Part>& parts) { return run(parts, inputs(parts)); }
  /* The tokens of a part in steps of `step`. all: the inputs of its sequence from position 0 on. */
  std::vector<float> run_cut(const Part& part, const StepInputs& all, int32_t step);
  /* The inputs of tokens [start, start + n) of `all`. */
  StepInputs slice(const StepInputs& all, int32_t start, int32_t n) const;
  void copy_block(int32_t dst, int32_t src) { must(ek_kv_copy_block(device_.ctx, kv_, dst, src)); }

 private:
  void set(const std::vector<Part>& parts);

  Device device_;
  AttentionShape shape_;
  ek_kv_cache* kv_ = nullptr;
  ek_rope* rope_ = nullptr;
  ek_batch* batch_ = nullptr;
  const ek_weight* kv_b_;
  const ek_buffer *norm_, *cmp_k_ = nullptr, *cmp_v_ = nullptr; /* pooling weights of a shape that pools */
};

/* Blocks first, first + step, ... for n tokens. */
std::vector<int32_t> block_list(int32_t n_tokens, int32_t first = 0, int32_t step = 1);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace ek::test
#endif
