/* Hot loops, compiled once per instruction set from kernels.inl. Lanes are
 * always 16 floats, so results hardly differ. */
#ifndef EK_CPU_KERNELS_H
#define EK_CPU_KERNELS_H
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "../core/f16.h"
#include "engine_kernels.h"

namespace ek::cpu {

constexpr int32_t kLanes = 16;
constexpr int32_t kFewRows = 8; /* most rows that share one decoding of packed weights */

/* Bytes before the words of a group, padded to a cache line: factors and scales of its 16 rows. */
constexpr size_t head_bytes(ek_type type, int32_t n_cols) {
  const size_t columns = static_cast<size_t>(n_cols);
  size_t bytes_of_row = 0;
  if (type == EK_Q4_0 || type == EK_Q5_0 || type == EK_Q8_0) bytes_of_row = columns / 32 * 2;
  if (type == EK_Q4_K || type == EK_Q5_K) bytes_of_row = columns / 256 * (2 + 2 + 8 * 2);
  if (type == EK_Q6_K) bytes_of_row = columns / 256 * (2 + 16);
  return (bytes_of_row * kLanes + 63) / 64 * 64;
}

struct Kernels {
  const char* name;
  /* C (m, 16 n_panels) = A (m, k) B, B as n_panels panels (k, 16) one behind the other. Each element sums
   * over k in order, whatever m is. */
  void (*gemm_panels)(int32_t m, int32_t n_panels, int32_t k, const float* a, size_t lda, const float* panels,
                      float* c, size_t ldc);
  /* out[r] (16 n_groups) = x[r] (n_cols) times packed groups, for 1 to kFewRows rows. The bits are those of
   * gemm_panels over the unpacked groups. */
  void (*matvec)(ek_type type, const uint8_t* groups, size_t group_bytes, int32_t n_groups, int32_t n_cols,
                 const float* const* x, float* const* out, int32_t n_rows);
  /* 16 packed rows of a weight as f32 (n_cols, 16). */
  void (*unpack)(ek_type type, const uint8_t* group, int32_t n_cols, float* out);
  /* x[i] = exp(x[i] - top), returns the sum; n in multiples of 16. */
  float (*exp_sum)(float* x, int32_t n, float top);
  /* The largest of n > 0 elements; NaN counts as minus infinity. */
  float (*largest)(const float* x, size_t n);
  /* out (dim) = x / rms(x) * weight. */
  void (*rmsnorm)(float* out, const float* x, const float* weight, int32_t dim, float eps);
  /* gate[i] = silu(gate[i]) * up[i]; n in multiples of 16. */
  void (*silu_mul)(float* gate, const float* up, size_t n);
};

extern const Kernels kScalar;
#if defined(__x86_64__)
extern const Kernels kAvx2;
extern const Kernels kAvx512;
#elif defined(__aarch64__)
extern const Kernels kNeon;
#endif

}  // namespace ek::cpu
#endif
