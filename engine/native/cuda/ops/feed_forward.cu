/* Feed-forward blocks out of the ops that they are made of. */
#include "ops.h"

namespace ek::cuda {

void feed_forward(Device& d, const FeedForwardOp& op) {
  d.scratch.reset();
  const int64_t n = static_cast<int64_t>(op.n_rows) * op.gate.n_rows;
  float* h = d.scratch.take<float>(static_cast<size_t>(n));
  constexpr int32_t kMostFewRows = 16; /* above, tiles read the weights less often */
  if (op.n_rows <= kMostFewRows && op.gate.type == op.up.type) {
    pair_gated(d, {h, op.x, op.gate, op.up, nullptr, op.n_rows, 1});
  } else {
    float* u = d.scratch.take<float>(static_cast<size_t>(n));
    linear(d, {h, op.x, op.gate, nullptr, op.n_rows, false});
    linear(d, {u, op.x, op.up, nullptr, op.n_rows, false});
    silu_mul(d, h, u, n);
  }
  linear(d, {op.out, h, op.down, nullptr, op.n_rows, true});
}

void experts(Device& d, const ExpertsOp& op) {
  const int32_t n_experts = op.router.n_rows, dim = op.router.n_cols, ff = op.gate.n_rows;
  const Routing& how = op.how;
  const size_t n_pairs = static_cast<size_t>(op.n_rows) * static_cast<size_t>(how.top_k);
  Scratch& s = d.scratch;
  s.reset();
  float* logits = s.take<float>(static_cast<size_t>(op.n_rows) * static_cast<size_t>(n_experts));
  int32_t* chosen = s.take<int32_t>(n_pairs);
  float *weights = s.take<float>(n_pairs), *h = s.take<float>(n_pairs * static_cast<size_t>(ff));
  float* y = s.take<float>(n_pairs * static_cast<size_t>(dim));
  linear(d, {logits, op.x, op.router, nullptr, op.n_rows, false});
  route(d, {chosen, weights, logits, op.router_bias, op.n_rows, n_experts, how.top_k, how.score_func,
            how.n_groups, how.top_groups, how.normalize, how.scale});
  const int32_t pairs = static_cast<int32_t>(n_pairs);
  pair_gated(d, {h, op.x, op.gate, op.up, chosen, pairs, how.top_k});
  pair_linear(d, {y, h, op.down, chosen, pairs, 1});
  add_pairs(d, op.out, y, weights, op.n_rows, how.top_k, dim);
}

}  // namespace ek::cuda
