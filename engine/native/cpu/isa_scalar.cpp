#include "kernels.h"

namespace ek::cpu {
namespace scalar {
constexpr int kTileRows = 4, kTileVecs = 1;
constexpr int kFewRowGroups = 1, kFourRowGroups = 1, kEightRowGroups = 1;
#include "vectors.inl"
inline Vec halves(const f16* in) {
  Vec v;
  for (int i = 0; i < kLanes; i++) v[i] = f16_to_f32(in[i]);
  return v;
}
inline Vec signed_bytes(const uint8_t* in) {
  Vec v;
  for (int i = 0; i < kLanes; i++) v[i] = static_cast<int8_t>(in[i]);
  return v;
}
/* The lowest nibble of each lane less 8. */
inline Vec nibbles(Int q) { return to_float((q & 15) - 8); }
#include "kernels.inl"
#include "matvec.inl"
}  // namespace scalar
const Kernels kScalar = {"scalar",        scalar::gemm_panels, scalar::matvec,  scalar::unpack,
                         scalar::exp_sum, scalar::largest,     scalar::rmsnorm, scalar::silu_mul};
}  // namespace ek::cpu
