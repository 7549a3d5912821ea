#include "kernels.h"

namespace ek::cpu {
namespace scalar {
constexpr int kTileRows = 4, kTileVecs = 1;
inline void widen16(const f16* in, float* out) {
  for (int i = 0; i < kLanes; i++) out[i] = f16_to_f32(in[i]);
}
#include "kernels.inl"
}  // namespace scalar
const Kernels kScalar = {"scalar",      scalar::gemm,    scalar::unpack,
                         scalar::widen, scalar::exp_sum, scalar::silu_mul};
}  // namespace ek::cpu
