/* One position of a narrow model (cuda/narrow/narrow.h) in double on the host, behind the rows that the GPU
 * stored: nothing is left in which the two can differ but the position itself, within the rounding of f32.
 *
 * Even that rounding decides which block is selected where two have nearly the same mass, and another block
 * changes everything behind it by per cents. So every selection counts that leaves out no block which is
 * better by more than kNearTie, and the GPU's is the one among them with which it fits best what the GPU
 * stored next. There is more than one at few positions, and they differ in the last places alone: a block
 * that is worse by more than rounding explains is never among them. */
#ifndef EK_TESTS_NARROW_REFERENCE_H
#define EK_TESTS_NARROW_REFERENCE_H
#include "../cuda/narrow/narrow.h"
#include "host_matrix.h"

namespace ek::test {

/* Masses are sums of exponentials of scores. These are sums of 160 products in f32, of queries that up to two
 * layers in f32 led to: errors of 1e-6, of scores up to 20. */
constexpr double kNearTie = 1e-4;

/* A layer's rows of one sequence. */
struct NarrowRows {
  std::vector<float> rows;                       /* (tokens, latent + 2 rope): [c | rotated k | k] */
  std::vector<float> pooled_keys, pooled_values; /* (pooled rows, latent + rope), (pooled rows, latent) */
};

/* How far the GPU is from the reference, relative to the size of what was expected; NaN when a number is. */
struct NarrowErrors {
  std::vector<double> rows; /* of the position, by layer */
  double logits = 0;
  int32_t n_choices = 0; /* layers with blocks to choose from */
  int32_t n_ties = 0;    /* of these, with more than one selection that counts */
  double excess = 0;     /* by which a block was better that the GPU left out, at most */
};

class NarrowReference {
 public:
  /* Reads the weights. The decoder must outlive the reference. */
  explicit NarrowReference(const cuda::narrow::Decoder& decoder);
  /* Takes the rows of blocks [first, end) of the sequence, whose i-th block is table[i], from the cache. */
  void take_blocks(const std::vector<int32_t>& table, int32_t first, int32_t end);
  const NarrowRows& rows(int32_t layer) const { return rows_[static_cast<size_t>(layer)]; }
  /* Of `token` at position t, whose rows were taken; logits (vocab) behind it as the GPU has them, or empty:
   * then the last layer's attention, of which nothing else depends, is left out. */
  NarrowErrors compare(int32_t token, int32_t t, const std::vector<float>& logits) const;
  /* The same of pooled row i and the rows that it stands for: the larger error of key and value. */
  double pooled_error(int32_t layer, int32_t i) const;

 private:
  using Queries = std::vector<std::vector<double>>; /* by head */
  struct HostLayer {
    std::vector<float> attn_norm, kv_norm, ffn_norm, gate_bias, cmp_k, cmp_v, router_bias;
    HostMatrix q, kv_a, kv_b, out, attn_gate, router, gate, up, down, shared_gate, shared_up, shared_down;
  };
  /* What a position's attention has before blocks are selected. */
  struct Attention {
    Queries query;            /* (latent + rope), scaled and rotated */
    std::vector<double> gate; /* (heads, 3) */
    Queries sum;              /* (latent) gated, of pooled rows and window */
    std::vector<double> mass; /* of each block */
  };
  struct Selection {
    std::vector<int32_t> blocks;
    double excess;
  };

  void turn(double* at, int32_t position) const;
  std::vector<double> row_of(const HostLayer& layer, const std::vector<double>& x, int32_t t) const;
  Queries queries(const HostLayer& layer, const std::vector<double>& h, int32_t t) const;
  Attention attend(int32_t index, const std::vector<double>& x, int32_t t) const;
  /* Adds to sum the rows at those positions, weighted by gate `branch`. */
  void add_branch(Queries& sum, const Attention& a, int32_t index, const std::vector<int32_t>& at,
                  int32_t branch) const;
  std::vector<double> masses(const Queries& probabilities, int32_t t) const;
  /* The best, and those nearly as good. */
  std::vector<Selection> selections(const std::vector<double>& mass, int32_t t) const;
  /* The residual behind a layer. */
  std::vector<double> behind(int32_t index, std::vector<double> x, const Attention& a,
                             const std::vector<int32_t>& blocks, int32_t t) const;
  void feed_forward(const HostLayer& layer, std::vector<double>& x) const;
  double row_error(int32_t index, const std::vector<double>& x, int32_t t) const;
  double logits_error(const std::vector<double>& x, const std::vector<float>& logits) const;

  const cuda::narrow::Decoder& decoder_;
  const cuda::narrow::Shape shape_;
  std::vector<HostLayer> layers_;
  HostMatrix embedding_, head_;
  std::vector<float> norm_, inv_freq_;
  std::vector<NarrowRows> rows_; /* by layer */
};

}  // namespace ek::test
#endif
