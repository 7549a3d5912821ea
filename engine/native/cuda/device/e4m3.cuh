/* Numbers of 8 bits as bf16, two at a time. */
#ifndef EK_CUDA_DEVICE_E4M3_CUH
#define EK_CUDA_DEVICE_E4M3_CUH
#include <cuda_bf16.h>

#include "e4m3.h"

namespace ek::cuda {

/* Numbers 2 i and 2 i + 1 of a word times `scale`, which is the same bf16 twice: e4m3_factor of a power of
 * two, so that nothing is rounded. The bits of an e4m3 are those of a bf16 with another bias. */
__device__ inline uint32_t e4m3_pair(uint32_t word, int i, uint32_t scale) {
  const uint32_t high = __byte_perm(word, 0, i == 0 ? 0x1404 : 0x3424);
  const uint32_t bits = (high & 0x80008000u) | (high >> 4 & 0x07f007f0u);
  const __nv_bfloat162 product = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&bits),
                                         *reinterpret_cast<const __nv_bfloat162*>(&scale));
  return *reinterpret_cast<const uint32_t*>(&product);
}

/* A power of two that e4m3_scale gave, or NaN, for e4m3_pair. */
__device__ inline uint32_t e4m3_factor(float power) {
  constexpr float kBias = 1.329227995784916e36f; /* 2^120: from exponent bias 127 to 7 */
  const uint32_t factor = __float_as_uint(power * kBias) >> 16;
  return factor | factor << 16;
}

}  // namespace ek::cuda
#endif
