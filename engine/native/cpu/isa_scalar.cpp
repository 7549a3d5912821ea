#include "kernels.h"

namespace ek::cpu {
namespace scalar {
constexpr int kTileRows = 4, kTileVecs = 1;
constexpr int kFewRowGroups = 1, kFourRowGroups = 1, kEightRowGroups = 1;
constexpr int kRegisterBytes = 16;
#include "lanes.inl"
EK_INLINE Vec halves(const f16* in) {
  float lane[kLanes];
  for (int i = 0; i < kLanes; i++) lane[i] = f16_to_f32(in[i]);
  return load(lane);
}
EK_INLINE Vec signed_bytes(const uint8_t* in) {
  float lane[kLanes];
  for (int i = 0; i < kLanes; i++) lane[i] = static_cast<int8_t>(in[i]);
  return load(lane);
}
/* The lowest nibble of each lane less 8. */
EK_INLINE Vec nibbles(Int q) { return to_float((q & 15) - 8); }
#include "group_readers.inl"
#include "kernels.inl"
#include "matvec.inl"
}  // namespace scalar
const Kernels kScalar = {"scalar",        scalar::gemm_panels, scalar::matvec,  scalar::unpack,
                         scalar::exp_sum, scalar::largest,     scalar::rmsnorm, scalar::silu_mul};
}  // namespace ek::cpu
