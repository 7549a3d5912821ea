/* Hot loops, compiled once per instruction set from kernels.inl. Lanes are always 16 floats, so results
 * hardly differ. */
#ifndef EK_CPU_KERNELS_H
#define EK_CPU_KERNELS_H
#include <cstddef>
#include <cstdint>

#include "../core/f16.h"
#include "engine_kernels.h"

namespace ek::cpu {

constexpr int32_t kLanes = 16;

struct Kernels {
  const char* name;
  /* C (m, n) = A (m, k) B (k, n), or += ; n in multiples of 16. Each element sums over k in order, whatever m
   * is. */
  void (*gemm)(int32_t m, int32_t n, int32_t k, const float* a, size_t lda, const float* b, size_t ldb,
               float* c, size_t ldc, bool accumulate);
  /* 16 packed rows of a weight as f32 (n_cols, 16). */
  void (*unpack)(ek_type type, const uint8_t* group, int32_t n_cols, float* out);
  /* out[i] = f32 of in[i]; n in multiples of 16. */
  void (*widen)(const f16* in, float* out, size_t n);
  /* x[i] = exp(x[i] - top), returns the sum; n in multiples of 16. */
  float (*exp_sum)(float* x, int32_t n, float top);
  /* gate[i] = silu(gate[i]) * up[i]; n in multiples of 16. */
  void (*silu_mul)(float* gate, const float* up, size_t n);
};

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#endif

}  // namespace ek::cpu
#endif
