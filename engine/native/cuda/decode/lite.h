/* Decoding with a model of DeepSeek-Coder-V2-Lite's architecture: MLA in absorbed
 * form, a mixture of experts after a dense first layer, and training-free sparse attention above a length.
 *
 * A step computes up to kMostTokens tokens, of one sequence or several, and is one CUDA graph: every shape is
 * fixed, and position, token and chosen experts are read from device memory. Seven kernels per layer, nine
 * where attention is sparse. What is computed for a token does not depend on the others of its step. */
#ifndef EK_CUDA_DECODE_LITE_H
#define EK_CUDA_DECODE_LITE_H
#include <memory>
#include <string>

#include "shape.h"

namespace ek::cuda {

/* By the name of the files that have them: "q4_k_m", "q8_0", "fp8" or "bf16". */
LiteTypes lite_types(const std::string& name);

/* Random weights that keep the size of activations, made on the device. */
LiteWeights random_lite_weights(Device& d, const LiteShape& shape, const LiteTypes& types, uint32_t seed);

/* Throws ArgError unless the kernels are compiled for the shape, and for the types of every weight. */
void check_lite_shape(const LiteShape& shape);
void check_lite_types(const LiteWeights& weights);

/* Angles per position of the released checkpoint: YaRN of factor 40. (kRope / 2) */
std::vector<float> lite_frequencies();

struct StepBuffers;
struct Step;

/* Device memory of a decoder beside its cache and its folded routers, for kMostTokens tokens. */
size_t step_bytes(const LiteShape& shape);

/* A token to decode. */
struct StepToken {
  int32_t token, position;
  bool continues; /* follows the token before it, of the same sequence */
  bool wanted;    /* whether its logits are */
};

class LiteDecoder {
 public:
  /* inv_freq (kRope / 2): angle per position of each pair. The blocks of the cache are those of one sequence,
   * in order, until set_blocks. */
  LiteDecoder(Device& d, const LiteShape& shape, LiteWeights weights,
              const std::vector<float>& inv_freq = lite_frequencies());
  ~LiteDecoder();
  LiteDecoder(const LiteDecoder&) = delete;
  LiteDecoder& operator=(const LiteDecoder&) = delete;

  /* Random cache rows for positions [0, n), and their pooled rows: as if n tokens had been read. */
  void fill_cache(int32_t n_tokens, uint32_t seed);
  /* What token `index` of the next steps, or what is read next (index 0), belongs to: a sequence whose i-th
   * 64 tokens lie in block blocks[i]. */
  void set_blocks(int32_t index, const int32_t* blocks, int32_t n);
  /* Copies the rows and pooled rows of a block, in all layers. */
  void copy_block(int32_t dst, int32_t src);
  /* Computes 1 to kMostTokens tokens, and the logits of those that want them. */
  void step(const std::vector<StepToken>& tokens);
  /* The next run reads `token` at `position`. */
  void set(int32_t token, int32_t position);
  /* Logits and the next token from x (hidden, device), the residual behind the last layer at `position`. */
  void choose_after(const float* x, int32_t position);
  /* Runs n steps, each on the token that the one before chose. */
  void run(int32_t n_steps);
  /* Copies the logits (vocab) of token `index` of the last step on the device, in the order of the stream. */
  void copy_logits(int32_t index, float* to);
  /* Waits; logits (vocab) of a token of the last step, and the token that the last run chose. */
  std::vector<float> logits(int32_t index = 0);
  int32_t token();
  /* Microseconds of each kernel of one step of n_tokens without the graph, with their names; for finding what
   * is slow. */
  void time_kernels(int32_t position, int32_t n_tokens);

  /* Bytes of cache that a step at `position` reads. */
  double cache_bytes(int32_t position) const;
  /* Cache and scratch memory, for prefill. */
  const StepBuffers& buffers() const;
  /* Cache rows (n_tokens, latent + rope) of a layer, as f32; for tests. */
  std::vector<float> cache_rows(int32_t layer, int32_t n_tokens);
  /* The same as they lie: n_tokens rows of cache_row_bytes. */
  std::vector<uint8_t> stored_rows(int32_t layer, int32_t n_tokens);
  /* Pooled rows (n_rows, latent + rope) of a layer, as f32; for tests. */
  std::vector<float> pooled_rows(int32_t layer, int32_t n_rows);
  /* The blocks that the last step attended to in a layer where attention was sparse; for tests. */
  std::vector<int32_t> step_list(int32_t layer);
  /* Sums of the exponentials of token `index`'s scores of pooled rows in the last layer of the last step,
   * (heads, groups), where attention was sparse; for tests. */
  std::vector<float> score_sums(int32_t index);
  /* The blocks that the tile of prefill from `position` on attends to, without those that begin inside of it;
   * for tests. */
  std::vector<int32_t> tile_list(int32_t layer, int32_t position);

  const LiteShape shape;
  const LiteWeights weights;

 private:
  struct State;
  void upload(const std::vector<StepToken>& tokens);
  /* Launches the layers and the head. sparse: with selection, for positions from dense_len on. */
  void launch_layers(const Step& s, bool sparse);
  /* The graph of what `launch` launches. */
  template <class Launch>
  cudaGraphExec_t captured(Launch&& launch);

  Device& device_;
  std::unique_ptr<State> state_;
};

}  // namespace ek::cuda
#endif
