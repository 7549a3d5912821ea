#include <cmath>

#include "reference_backend.h"

namespace ek {

void ReferenceBackend::argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids,
                              float* log_probs) {
  for (int32_t r = 0; r < n_rows; r++, logits += vocab) {
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++) {
      if (logits[i] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[i]))) best = i;
    }
    double sum = 0;
    for (int32_t i = 0; i < vocab; i++) sum += std::exp(static_cast<double>(logits[i]) - logits[best]);
    ids[r] = best;
    log_probs[r] = static_cast<float>(-std::log(sum));
  }
}

/* The reference has no speed to compare with: 0 for both. */
void ReferenceBackend::measure_limits(size_t, double* gb_per_s, double* gflop_per_s) {
  *gb_per_s = 0;
  *gflop_per_s = 0;
}

std::shared_ptr<Backend> make_reference_backend() { return std::make_shared<ReferenceBackend>(); }

}  // namespace ek
