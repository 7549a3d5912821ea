/* What the tests of long prompts share. */
#ifndef EK_TESTS_LONG_PROMPTS_H
#define EK_TESTS_LONG_PROMPTS_H
#include <chrono>
#include <cstdint>

namespace ek::test {

constexpr int32_t kDecodedTokens = 5; /* behind each prompt */

class Watch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace ek::test
#endif
