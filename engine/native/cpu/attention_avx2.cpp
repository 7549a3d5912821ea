#include <cfloat>
#include <cmath>

#include "../core/f16.h"
#include "attention_kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>

namespace ek::cpu {
namespace attention_avx2 {
constexpr int kRows = 4, kVecs = 1, kScoreVecs = 1, kSumDims = 1;
struct Wide {
  __m256 low, high;
};
inline Wide halves16(const f16* in) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 8)))};
}
#include "attention.inl"
#include "attention_softmax.inl"
}  // namespace attention_avx2

using namespace attention_avx2;
const AttentionKernels kAttentionAvx2 = {"avx2",       gemm,       widen,     score_rows,  sum_rows,
                                         score_pooled, sum_pooled, softmax,   weigh_query, tile_top,
                                         tile_ready,   tile_exp,   tile_weigh};

}  // namespace ek::cpu
#endif
