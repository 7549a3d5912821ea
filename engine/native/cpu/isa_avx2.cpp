#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ek::cpu {
namespace avx2 {
constexpr int kTileRows = 6, kTileVecs = 1;
inline void widen16(const f16* in, float* out) {
  for (int i = 0; i < kLanes; i += 8) {
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
  }
}
#include "kernels.inl"
}  // namespace avx2
const Kernels kAvx2 = {"avx2", avx2::gemm, avx2::unpack, avx2::widen, avx2::exp_sum, avx2::silu_mul};
}  // namespace ek::cpu
#endif
