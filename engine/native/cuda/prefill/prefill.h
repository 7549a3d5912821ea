/* Reading a prompt with a model of DeepSeek-Coder-V2-Lite's architecture: chunks of many tokens on tensor
 * cores, into the cache of a decoder, which then goes on. Attention is dense at every length.
 *
 * What a token's row is does not depend on how the prompt was cut into chunks, to the bit. */
#ifndef EK_CUDA_PREFILL_PREFILL_H
#define EK_CUDA_PREFILL_PREFILL_H
#include "../decode/lite.h"

namespace ek::cuda {

class LitePrefill {
 public:
  /* longest: tokens of a chunk. segment: cached tokens whose keys and values are expanded at once, a multiple
   * of 64. Memory grows with both, and not with the context. The decoder must outlive this. */
  LitePrefill(Device& d, LiteDecoder& decoder, int32_t longest, int32_t segment = 8192);
  ~LitePrefill();
  LitePrefill(const LitePrefill&) = delete;
  LitePrefill& operator=(const LitePrefill&) = delete;

  /* Reads tokens as positions [first, first + n); everything before must be in the cache. Then the decoder
   * has the logits behind the last one, has chosen the next token, and can run. wants_logits false: the cache
   * rows alone. */
  void run(int32_t first, const std::vector<int32_t>& tokens, bool wants_logits = true);
  /* The same, and prints the milliseconds of each kind of kernel. */
  void time_kernels(int32_t first, const std::vector<int32_t>& tokens);

  size_t n_bytes() const; /* of the workspace */
  /* Floating-point operations of reading n tokens from `first` on: products with weights, expansion of cached
   * latents, scores and weighted values of visible pairs. */
  double operations(int32_t first, int32_t n) const;

 private:
  struct State;
  void run_marked(int32_t first, const std::vector<int32_t>& tokens, bool wants_logits,
                  const std::function<void(const char*)>& after);

  Device& device_;
  LiteDecoder& decoder_;
  const int32_t longest_, segment_;
  std::unique_ptr<State> state_;
};

}  // namespace ek::cuda
#endif
