#include <cfloat>
#include <cmath>

#include "../core/f16.h"
#include "attention_kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ek::cpu {
namespace attention_avx512 {
constexpr int kRows = 8, kVecs = 2, kScoreVecs = 4, kSumDims = 4;
constexpr int kRegisterBytes = 64;
#include "lanes.inl"
EK_INLINE Vec halves16(const f16* in) {
  return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in)));
}
EK_INLINE void narrow16(const float* in, f16* out) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm512_maskz_cvtps_ph(0xffff, _mm512_loadu_ps(in), _MM_FROUND_TO_NEAREST_INT));
}
#include "attention.inl"
#include "attention_softmax.inl"
}  // namespace attention_avx512

using namespace attention_avx512;
const AttentionKernels kAttentionAvx512 = {"avx512",    gemm,     widen,        narrow,     pool,
                                           score_rows,  sum_rows, score_pooled, sum_pooled, softmax,
                                           weigh_query, tile_top, tile_ready,   tile_exp,   tile_weigh};

}  // namespace ek::cpu
#endif
