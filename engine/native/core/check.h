/* Failures inside the library are exceptions of these types; abi.cpp turns them into a status and a message.
 */
#ifndef EK_CORE_CHECK_H
#define EK_CORE_CHECK_H
#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace ek {

/* The caller's mistake: EK_ERR_ARG. */
struct ArgError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/* The device or the environment failed: EK_ERR_DEVICE. */
struct DeviceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/* printf into a string of at most 511 characters. */
__attribute__((format(printf, 1, 2))) inline std::string format(const char* pattern, ...) {
  char text[512];
  va_list args;
  va_start(args, pattern);
  std::vsnprintf(text, sizeof text, pattern, args);
  va_end(args);
  return text;
}

}  // namespace ek

/* Throws ArgError with a printf message unless the condition holds. */
#define EK_REQUIRE(condition, ...)                                 \
  do {                                                             \
    if (!(condition)) throw ek::ArgError(ek::format(__VA_ARGS__)); \
  } while (0)

#endif
