#include <cfloat>
#include <cmath>

#include "../core/f16.h"
#include "attention_kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ek::cpu {
namespace attention_avx2 {
constexpr int kRows = 4, kVecs = 1, kScoreVecs = 1, kSumDims = 1;
constexpr int kRegisterBytes = 32;
#include "lanes.inl"
EK_INLINE Vec halves16(const f16* in) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 8)))};
}
EK_INLINE void narrow16(const float* in, f16* out) {
  for (int i = 0; i < 16; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
}
#include "attention.inl"
#include "attention_softmax.inl"
}  // namespace attention_avx2

using namespace attention_avx2;
const AttentionKernels kAttentionAvx2 = {"avx2",      gemm,     widen,        narrow,     pool,
                                         score_rows,  sum_rows, score_pooled, sum_pooled, softmax,
                                         weigh_query, tile_top, tile_ready,   tile_exp,   tile_weigh};

}  // namespace ek::cpu
#endif
