/* Checks of what a caller asks for. */
#ifndef EK_CORE_CHECK_H
#define EK_CORE_CHECK_H

namespace ek {

/* Throws ArgError (error.h) with a printf message of at most 511 characters. */
[[noreturn]] __attribute__((format(printf, 1, 2))) void refuse(const char* pattern, ...);

}  // namespace ek

/* Throws ArgError with a printf message unless the condition holds. */
#define EK_REQUIRE(condition, ...)             \
  do {                                         \
    if (!(condition)) ek::refuse(__VA_ARGS__); \
  } while (0)

#endif
