#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ek::cpu {
namespace avx512 {
constexpr int kTileRows = 12, kTileVecs = 2;
constexpr int kFewRowGroups = 4, kFourRowGroups = 4, kEightRowGroups = 2;
constexpr int kRegisterBytes = 64;
#include "lanes.inl"
EK_INLINE Vec halves(const f16* in) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
}
EK_INLINE Vec signed_bytes(const uint8_t* in) {
  return _mm512_maskz_cvtepi32_ps(
      0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(in))));
}
/* The lowest nibble of each lane less 8. A permutation looks at the lowest 4
 * bits of its index only. */
EK_INLINE Vec nibbles(Int q) {
  const Vec table = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
  return __builtin_shuffle(table, q);
}
#include "group_readers.inl"
#include "kernels.inl"
#include "matvec.inl"
}  // namespace avx512
const Kernels kAvx512 = {"avx512",        avx512::gemm_panels, avx512::matvec,  avx512::unpack,
                         avx512::exp_sum, avx512::largest,     avx512::rmsnorm, avx512::silu_mul};
}  // namespace ek::cpu
#endif
