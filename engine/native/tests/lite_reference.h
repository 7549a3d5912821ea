/* A decoder of the architecture of cuda/decode/lite.h in double on the host, token by token, on the same
 * weights, its sums over cached tokens shared out to threads. It rounds where the kernels store bf16 or fp8:
 * cache rows, pooled rows and absorbed queries. */
#ifndef EK_TESTS_LITE_REFERENCE_H
#define EK_TESTS_LITE_REFERENCE_H
#include <cmath>
#include <functional>

#include "../cuda/decode/lite.h"
#include "host_matrix.h"

namespace ek::test {

/* The nearest number of bf16. */
double bf16(double x);

struct HostLayer {
  std::vector<float> attn_norm, kv_norm, ffn_norm;
  HostMatrix q, kv_a, k_b, v_b, out, gate, up, down, shared_gate, shared_up, shared_down, router;
  bool dense;
  std::vector<float> rows;          /* cache, (tokens, latent + rope): rounded, so that f32 holds them */
  std::vector<int32_t> tile_blocks; /* that the first token of the last tile attends to */
};

class LiteReference {
 public:
  LiteReference(const cuda::LiteShape& shape, const cuda::LiteWeights& weights);
  /* Rows (n, latent + rope) of a layer's cache, as if their tokens had been read. */
  void set_rows(int32_t layer, const std::vector<float>& rows);
  /* The same for the n_rows tokens that follow. */
  void add_rows(int32_t layer, const float* rows, size_t n_rows);
  /* Logits after `token` at the next position, read as the decoder reads it: with a selection of its own. */
  std::vector<double> step(int32_t token) { return forward(token, false); }
  /* The same read as a prompt is: with the selection of the first token of its tile. */
  std::vector<double> read(int32_t token) { return forward(token, true); }
  /* Forgets positions from n_tokens on. */
  void rewind(int32_t n_tokens);
  /* Layers in which the last token came close to another choice of experts: the logits of the last that was
   * chosen and the best that was not differ by less than `gap`. */
  std::vector<int32_t> close_choices(double gap) const;
  /* The last position's logits if those layers had chosen that other expert. */
  std::vector<double> step_with_runners_up(int32_t token, const std::vector<int32_t>& layers);
  /* Selections to take instead of its own, by layer and position: of steps, and of the first token of a tile.
   * How much better a block was that they leave out is counted, so that blocks that are equal but for
   * rounding do not matter. */
  using Lists = std::function<std::vector<int32_t>(int32_t layer, int32_t position)>;
  void prescribe(Lists lists) { lists_ = std::move(lists); }
  /* At most, of the mass of the worst block that was chosen; infinite when a list has no proper form. */
  double worst_choice() const { return worst_choice_; }
  /* Selections with blocks to choose from, so far. */
  int n_choices() const { return n_choices_; }
  /* (tokens, latent + rope). */
  const std::vector<float>& rows(int32_t layer) const { return layers_[static_cast<size_t>(layer)].rows; }

 private:
  using Queries = std::vector<std::vector<double>>; /* by head */

  std::vector<double> forward(int32_t token, bool by_tile);
  void attend(HostLayer& layer, int32_t index, std::vector<double>& x, bool by_tile);
  void feed_forward(const HostLayer& layer, int32_t index, std::vector<double>& x);
  /* Blocks that the last token attends to, ascending. */
  std::vector<int32_t> blocks_of(HostLayer& layer, int32_t index, const Queries& query, bool by_tile);
  /* Latents that each head attends to at those positions, by head. */
  static Queries attended(const HostLayer& layer, const Queries& query,
                          const std::vector<int32_t>& positions);
  /* Probability of each block in the softmax over pooled rows, summed over heads. */
  std::vector<double> masses(const HostLayer& layer, const Queries& query) const;
  std::vector<int32_t> choose(const std::vector<double>& mass) const;
  void judge(const std::vector<int32_t>& list, const std::vector<double>& mass);

  cuda::LiteShape shape_;
  std::vector<HostLayer> layers_;
  HostMatrix embedding_, head_;
  std::vector<float> norm_;
  Lists lists_;
  double worst_choice_ = 0;
  int n_choices_ = 0;
  std::vector<double> gaps_;        /* of the last token, by layer */
  std::vector<int32_t> runners_up_; /* layers that take the runner-up */
};

}  // namespace ek::test
#endif
