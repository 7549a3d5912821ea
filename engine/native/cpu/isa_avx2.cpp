#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ek::cpu {
namespace avx2 {
constexpr int kTileRows = 6, kTileVecs = 1;
constexpr int kFewRowGroups = 2, kFourRowGroups = 1, kEightRowGroups = 1;
constexpr int kRegisterBytes = 32;
#include "lanes.inl"
EK_INLINE Vec halves(const f16* in) {
  const __m128i* from = reinterpret_cast<const __m128i*>(in);
  return {_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from + 1))};
}
EK_INLINE Vec signed_bytes(const uint8_t* in) {
  const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(q, 8)))};
}
/* The lowest nibble of each lane less 8. */
EK_INLINE Vec nibbles(Int q) { return to_float((q & 15) - 8); }
#include "group_readers.inl"
#include "kernels.inl"
#include "matvec.inl"
}  // namespace avx2
const Kernels kAvx2 = {"avx2",        avx2::gemm_panels, avx2::matvec,  avx2::unpack,
                       avx2::exp_sum, avx2::largest,     avx2::rmsnorm, avx2::silu_mul};
}  // namespace ek::cpu
#endif
