/* Reading a prompt with a model of DeepSeek-Coder-V2-Lite's architecture: chunks of many tokens on tensor
 * cores, into the cache of a decoder, which then goes on. Attention is dense up to the shape's dense_len and
 * in its dense layers; behind it a tile of kTileQueries positions attends to the blocks that the decoder
 * would choose for the tile's first token (docs/decisions/0007).
 *
 * What a token's row is does not depend on how a run was cut into chunks, to the bit, nor on how a prompt was
 * cut into runs of more than kMostShort tokens, or into shorter ones. Between the two forms the row
 * differs as the decoder's does (docs/decisions/0005). */
#ifndef EK_CUDA_PREFILL_PREFILL_H
#define EK_CUDA_PREFILL_PREFILL_H
#include "../decode/lite.h"
#include "../device/launch.h"

namespace ek::cuda {

/* Tokens of a run that is short: it reads each weight once, without rounding it, and computes its attention
 * in absorbed form where the GPU has room for it. */
constexpr int kMostShort = 64;

class LitePrefill {
 public:
  /* longest: tokens of a chunk. segment: cached tokens whose keys and values are expanded at once, a multiple
   * of 64. Memory grows with both; with the context only what selection needs, 1.1 bytes for each of its
   * tokens and tile of a chunk. The decoder must outlive this. Its dense_len must be a multiple of
   * kTileQueries. */
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
   * latents, scores and weighted values of visible pairs. Which blocks a chunk with lists expands only the
   * device knows: those of one list are counted, and the chunk itself. */
  double operations(int32_t first, int32_t n) const;

 private:
  struct State;
  /* Whether a run of n tokens computes its attention in absorbed form. */
  bool absorbs(int32_t n) const;
  void run_marked(int32_t first, const std::vector<int32_t>& tokens, bool wants_logits,
                  LaunchListener* listener);

  Device& device_;
  LiteDecoder& decoder_;
  const int32_t longest_, segment_;
  std::unique_ptr<State> state_;
};

}  // namespace ek::cuda
#endif
