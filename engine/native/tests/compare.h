/* Comparison of results. Written so that NaN and Inf never pass; a failure prints index, both values, and the
 * errors. */
#ifndef EK_TESTS_COMPARE_H
#define EK_TESTS_COMPARE_H
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "engine_kernels.h"

namespace ek::test {

inline int failures = 0;

/* |actual - expected| <= absolute + relative * |expected|, for every element. */
inline void expect_close(const std::string& name, const std::vector<float>& actual,
                         const std::vector<float>& expected, double absolute, double relative) {
  double worst = 0, sum = 0;
  size_t bad = actual.size();
  for (size_t i = 0; i < actual.size(); i++) {
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (!(error <= absolute + relative * std::fabs(expected[i])) && bad == actual.size()) bad = i;
    worst = !(error <= worst) ? error : worst;
    sum += error;
  }
  if (actual.size() == expected.size() && !actual.empty() && bad == actual.size()) return;
  failures++;
  const size_t at = bad < actual.size() ? bad : 0;
  std::printf("FAIL %s: element %zu of %zu is %g, expected %g (max error %g, mean %g)\n", name.c_str(), at,
              actual.size(), actual.empty() ? NAN : actual[at], expected.empty() ? NAN : expected[at], worst,
              sum / static_cast<double>(actual.size()));
}

inline void expect(bool holds, const std::string& what) {
  if (holds) return;
  failures++;
  std::printf("FAIL %s\n", what.c_str());
}

/* Ends the program when a call that must work did not. */
inline void must(ek_status status) {
  if (status == EK_OK) return;
  std::printf("FAIL: %s\n", ek_last_error());
  std::exit(1);
}

inline std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> out(n);
  for (float& x : out) x = normal(engine);
  return out;
}

/* The first n of a sequence that depends on the vocabulary alone. */
inline std::vector<int32_t> random_tokens(int32_t n, int32_t vocab) {
  std::vector<int32_t> out;
  std::mt19937 engine(11);
  for (int32_t i = 0; i < n; i++)
    out.push_back(static_cast<int32_t>(engine() % static_cast<uint32_t>(vocab)));
  return out;
}

}  // namespace ek::test
#endif
