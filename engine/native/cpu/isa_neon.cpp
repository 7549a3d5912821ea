#include "kernels.h"
#if defined(__aarch64__)
#include <arm_neon.h>

namespace ek::cpu {
namespace neon {
constexpr int kTileRows = 4, kTileVecs = 1;
constexpr int kFewRowGroups = 2, kFourRowGroups = 1, kEightRowGroups = 1;
constexpr int kRegisterBytes = 16;
#include "lanes.inl"
EK_INLINE FloatRegister four_halves(const f16* in) {
  return (FloatRegister)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(in)));
}
EK_INLINE Vec halves(const f16* in) {
  return {{four_halves(in), four_halves(in + 4)}, {four_halves(in + 8), four_halves(in + 12)}};
}
/* Eight of 16 lanes. */
EK_INLINE auto eight_bytes(int8x8_t q) {
  const int16x8_t wide = vmovl_s8(q);
  return Pair<FloatRegister>{(FloatRegister)vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))),
                             (FloatRegister)vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide)))};
}
EK_INLINE Vec signed_bytes(const uint8_t* in) {
  const int8x16_t q = vreinterpretq_s8_u8(vld1q_u8(in));
  return {eight_bytes(vget_low_s8(q)), eight_bytes(vget_high_s8(q))};
}
/* The lowest nibble of each lane less 8. */
EK_INLINE Vec nibbles(const Int& q) { return to_float((q & 15) - 8); }
#include "group_readers.inl"
#include "kernels.inl"
#include "matvec.inl"
}  // namespace neon
const Kernels kNeon = {"neon",        neon::gemm_panels, neon::matvec,  neon::unpack,
                       neon::exp_sum, neon::largest,     neon::rmsnorm, neon::silu_mul};
}  // namespace ek::cpu
#endif
