#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ek::cpu {
namespace avx512 {
constexpr int kTileRows = 12, kTileVecs = 2;
inline void widen16(const f16* in, float* out) {
  _mm512_storeu_ps(out, _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in))));
}
#include "kernels.inl"
}  // namespace avx512
const Kernels kAvx512 = {"avx512",      avx512::gemm,    avx512::unpack,
                         avx512::widen, avx512::exp_sum, avx512::silu_mul};
}  // namespace ek::cpu
#endif
