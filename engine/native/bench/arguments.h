/* The arguments of a benchmark, one option at a time: "--name value" or "--name". */
#ifndef EK_BENCH_ARGUMENTS_H
#define EK_BENCH_ARGUMENTS_H
#include <cstdint>
#include <cstdlib>
#include <string>

#include "../core/check.h"
#include "../core/error.h"

namespace ek::bench {

class Arguments {
 public:
  Arguments(int argc, char** argv) : argc_(argc), argv_(argv) {}

  /* Goes to the next option; false behind the last. */
  bool next() { return ++at_ < argc_; }
  bool is(const char* name) const { return name == std::string(argv_[at_]); }
  /* The option's value. Throws ArgError when there is none. */
  std::string value() {
    EK_REQUIRE(at_ + 1 < argc_, "%s needs a value", argv_[at_]);
    return argv_[++at_];
  }
  /* A whole number of at least `least`. Throws ArgError for another. */
  int32_t number(int32_t least) {
    const char* name = argv_[at_];
    const std::string text = value();
    char* end = nullptr;
    const long n = std::strtol(text.c_str(), &end, 10);
    EK_REQUIRE(end != text.c_str() && *end == 0 && n >= least && n <= INT32_MAX,
               "%s must be a number of at least %d, got %s", name, least, text.c_str());
    return static_cast<int32_t>(n);
  }
  /* Throws ArgError with the option's name. */
  [[noreturn]] void refuse() const { throw ArgError(format("unknown option %s", argv_[at_])); }

 private:
  int argc_;
  char** argv_;
  int at_ = 0;
};

}  // namespace ek::bench
#endif
