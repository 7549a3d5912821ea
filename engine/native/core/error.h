/* Failures inside the library are exceptions of these types; abi.cpp turns them into a status and a message.
 * What only throws includes check.h, which is read in a fraction of the time. */
#ifndef EK_CORE_ERROR_H
#define EK_CORE_ERROR_H
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

#endif
