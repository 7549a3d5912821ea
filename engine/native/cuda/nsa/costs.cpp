/* What rules are accepted, and what attention by them reads and computes. */
#include <algorithm>

#include "decode.h"
#include "prefill.h"

namespace ek::cuda {

void check_rule(const NsaRule& rule) {
  EK_REQUIRE(rule.initial >= 0 && rule.local >= 1 && rule.window >= 1 &&
                 rule.selected >= rule.initial + rule.local && rule.selected <= kMostSelected,
             "sparse attention needs a window and a local block at least, and %d blocks at most, got %d "
             "selected, %d initial, %d local, window %d",
             kMostSelected, rule.selected, rule.initial, rule.local, rule.window);
}

double BatchAttention::dense_bytes(int32_t position) { return 2.0 * kRow * (position + 1); }

double BatchAttention::sparse_bytes(int32_t position) const {
  const int32_t own = position / 64, first = rule_.window_begin(position) / 64;
  const double listed = rule_.n_selected(position), near = std::min(rule_.local, own + 1);
  const double blocks = std::min(own + 1.0, listed + std::max(0.0, own - first + 1 - near));
  return 2.0 * kRow * (pooled_visible(position) + 64 * blocks - (63 - position % 64));
}

double BatchAttention::sparse_rows(int32_t position) const {
  return pooled_visible(position) + 64.0 * rule_.n_selected(position) - (63 - position % 64) +
         (position + 1 - rule_.window_begin(position));
}

double BatchAttention::operations(double n_rows) { return n_rows * kHeads * 2 * (kRow + kLatent); }

namespace {

double operations_of(double pairs) { return pairs * kHeads * 2 * (kNope + kRope + kValue); }

}  // namespace

double PrefillAttention::dense_operations(int32_t first, int32_t end) {
  return operations_of((static_cast<double>(end) * (end + 1.0) - static_cast<double>(first) * (first + 1.0)) /
                       2);
}

double PrefillAttention::sparse_operations(int32_t first, int32_t end) const {
  double pairs = 0;
  for (int32_t t = first; t < end; t++) {
    const int32_t own = t % 64 + 1, chooser = rule_.chooser(t); /* own: of its own block */
    const int32_t others = rule_.n_selected(chooser) + t / 64 - chooser / 64 - 1;
    pairs += pooled_visible(t) + 64.0 * others + own + (t + 1 - rule_.window_begin(t));
  }
  return operations_of(pairs);
}

}  // namespace ek::cuda
