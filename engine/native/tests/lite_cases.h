/* Small models of Coder-V2-Lite's kind for tests of prefill, and what they compare. */
#ifndef EK_TESTS_LITE_CASES_H
#define EK_TESTS_LITE_CASES_H
#include <cmath>

#include "../cuda/decode/lite.h"
#include "cuda_check.h"
#include "lite_reference.h"

namespace ek::test {

inline cuda::LiteTypes all_of(ek_type t) { return {t, t, {t, t}, {t, t}, t, t}; }
inline cuda::LiteTypes q4_k_m_types() {
  return {EK_Q4_K, EK_Q8_0, {EK_Q5_0, EK_Q8_0}, {EK_Q4_K, EK_Q6_K}, EK_Q6_K, EK_Q4_K};
}

inline cuda::LiteShape small_lite_shape(int32_t n_tokens, int32_t n_layers, int32_t n_experts,
                                        int32_t top_k) {
  cuda::LiteShape s = cuda::lite_shape(n_tokens);
  s.n_layers = n_layers;
  s.hidden = 256;
  s.dense_ff = 320;
  s.n_experts = n_experts;
  s.top_k = top_k;
  s.ff = 160; /* 5 steps of 32: a last group that is not full */
  s.shared_ff = 512;
  s.vocab = 512;
  return s;
}

/* Root mean square of the differences over that of what was expected; NaN when anything is. */
inline double error_of(const std::vector<float>& actual, const std::vector<double>& expected) {
  return error_of(actual.data(), expected);
}

/* Everything that a prompt of n tokens leaves: logits, and the rows and pooled rows of all layers. */
inline std::vector<float> state_of(cuda::LiteDecoder& decoder, int32_t n) {
  std::vector<float> out = decoder.logits();
  for (int32_t layer = 0; layer < decoder.shape.n_layers; layer++) {
    for (float x : decoder.cache_rows(layer, n)) out.push_back(x);
    for (float x : decoder.pooled_rows(layer, (n + cuda::kPoolStride - 1) / cuda::kPoolStride))
      out.push_back(x);
  }
  return out;
}

/* Checks that every pooled row of a layer is the mean, to the bit, of the cache rows (n, latent + rope) that
 * it stands for. */
inline void check_pooled_rows(cuda::LiteDecoder& decoder, int32_t layer, const std::vector<float>& rows,
                              const std::string& name) {
  const size_t n = rows.size() / cuda::kRow;
  std::vector<float> expected;
  for (size_t first = 0; first < n; first += cuda::kPoolStride) {
    const size_t end = std::min(n, first + cuda::kPoolStride);
    for (size_t c = 0; c < cuda::kRow; c++) {
      float mean = 0;
      for (size_t i = first; i < end; i++) mean += rows[i * cuda::kRow + c];
      expected.push_back(static_cast<float>(bf16(mean / static_cast<float>(end - first))));
    }
  }
  const std::vector<float> pooled =
      decoder.pooled_rows(layer, static_cast<int32_t>(expected.size() / cuda::kRow));
  check(pooled == expected,
        name + ": pooled rows of layer " + std::to_string(layer) + " are not the means of their rows");
}

}  // namespace ek::test
#endif
