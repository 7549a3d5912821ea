#include "check.h"

#include "error.h"

namespace ek {

void refuse(const char* pattern, ...) {
  char text[512];
  va_list args;
  va_start(args, pattern);
  std::vsnprintf(text, sizeof text, pattern, args);
  va_end(args);
  throw ArgError(text);
}

}  // namespace ek
