#include <cfloat>
#include <cmath>

#include "../core/f16.h"
#include "attention_kernels.h"

namespace ek::cpu {
namespace attention_scalar {
constexpr int kRows = 2, kVecs = 1, kScoreVecs = 1, kSumDims = 1;
constexpr int kRegisterBytes = 16;
#include "lanes.inl"
EK_INLINE Vec halves16(const f16* in) {
  float lane[16];
  for (int i = 0; i < 16; i++) lane[i] = f16_to_f32(in[i]);
  return load(lane);
}
EK_INLINE void narrow16(const float* in, f16* out) {
  for (int i = 0; i < 16; i++) out[i] = f32_to_f16(in[i]);
}
#include "attention.inl"
#include "attention_softmax.inl"
}  // namespace attention_scalar

using namespace attention_scalar;
const AttentionKernels kAttentionScalar = {"scalar",    gemm,     widen,        narrow,     pool,
                                           score_rows,  sum_rows, score_pooled, sum_pooled, softmax,
                                           weigh_query, tile_top, tile_ready,   tile_exp,   tile_weigh};

}  // namespace ek::cpu
