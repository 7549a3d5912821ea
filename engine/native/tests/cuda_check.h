/* How the GPU programs report: one line per case with the largest error, and nothing ends a run early. */
#ifndef EK_TESTS_CUDA_CHECK_H
#define EK_TESTS_CUDA_CHECK_H
#include "compare.h"

namespace ek::test {

/* Whether programs leave out what takes minutes where kernels run on the CPU (emulation/emulator.h) or under
 * a checker. */
#ifdef EK_SMALL_SHAPES
constexpr bool kSmallShapes = true;
#else
constexpr bool kSmallShapes = false;
#endif

inline int checks = 0;

/* As expect_close, and says on success how much of the tolerance was used. */
inline void check_close(const std::string& name, const std::vector<float>& actual,
                        const std::vector<float>& expected, double absolute, double relative) {
  checks++;
  const int before = failures;
  expect_close(name, actual, expected, absolute, relative);
  if (failures != before) return;
  double used = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    used = std::fmax(used, error / (absolute + relative * std::fabs(expected[i]) + 1e-30));
  }
  std::printf("ok   %s: %.2g of the tolerance\n", name.c_str(), used);
}

inline void check(bool holds, const std::string& what) {
  checks++;
  expect(holds, what);
}

/* The closing line and the exit code of a program. */
inline int summary(const char* program) {
  std::printf("%s: %d passed, %d failed\n", program, checks - failures, failures);
  return failures == 0 && checks > 0 ? 0 : 1;
}

}  // namespace ek::test
#endif
