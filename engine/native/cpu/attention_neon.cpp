#include <cfloat>
#include <cmath>

#include "../core/f16.h"
#include "attention_kernels.h"
#if defined(__aarch64__)
#include <arm_neon.h>

namespace ek::cpu {
namespace attention_neon {
constexpr int kRows = 4, kVecs = 1, kScoreVecs = 1, kSumDims = 1;
constexpr int kRegisterBytes = 16;
#include "lanes.inl"
EK_INLINE FloatRegister four_halves(const f16* in) {
  return (FloatRegister)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(in)));
}
EK_INLINE Vec halves16(const f16* in) {
  return {{four_halves(in), four_halves(in + 4)}, {four_halves(in + 8), four_halves(in + 12)}};
}
EK_INLINE void narrow16(const float* in, f16* out) {
  for (int i = 0; i < 16; i += 4) vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in + i))));
}
#include "attention.inl"
#include "attention_softmax.inl"
}  // namespace attention_neon

using namespace attention_neon;
const AttentionKernels kAttentionNeon = {"neon",      gemm,     widen,        narrow,     pool,
                                         score_rows,  sum_rows, score_pooled, sum_pooled, softmax,
                                         weigh_query, tile_top, tile_ready,   tile_exp,   tile_weigh};

}  // namespace ek::cpu
#endif
