/* Type mixes of the benchmarks of DeepSeek-Coder-V2-Lite's shape, by name. */
#ifndef EK_BENCH_BENCH_TYPES_H
#define EK_BENCH_BENCH_TYPES_H
#include "../cuda/decode/lite.h"

namespace ek::bench {

inline cuda::LiteTypes lite_types(const std::string& name) {
  /* As in the released Q4_K_M file: 1408 and 10944 are no multiples of 256, so down is Q5_0 or Q8_0. */
  if (name == "q4_k_m") return {EK_Q4_K, EK_Q8_0, {EK_Q5_0, EK_Q8_0}, {EK_Q4_K, EK_Q6_K}, EK_Q6_K, EK_Q4_K};
  if (name == "q8_0") return {EK_Q8_0, EK_Q8_0, {EK_Q8_0, EK_Q8_0}, {EK_Q8_0, EK_Q8_0}, EK_Q8_0, EK_Q8_0};
  EK_REQUIRE(name == "bf16", "--types must be q4_k_m, q8_0 or bf16, got %s", name.c_str());
  return {EK_BF16, EK_BF16, {EK_BF16, EK_BF16}, {EK_BF16, EK_BF16}, EK_BF16, EK_BF16};
}

}  // namespace ek::bench
#endif
