/* Random numbers by index, for data that is made on the device. */
#ifndef EK_CUDA_DEVICE_NOISE_CUH
#define EK_CUDA_DEVICE_NOISE_CUH
#include <cstdint>

#include "ptx.cuh"

namespace ek::cuda {

__device__ inline uint32_t hash(uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return static_cast<uint32_t>(x >> 32 ^ x);
}

/* About normal: the sum of four uniform numbers, deviation 1. */
__device__ inline float normal(uint64_t x) {
  const uint32_t a = hash(x * 2 + 1), b = hash(x * 2 + 2);
  const float sum = static_cast<float>(a & 0xffff) + static_cast<float>(a >> 16) +
                    static_cast<float>(b & 0xffff) + static_cast<float>(b >> 16);
  return (sum / 65536.0f - 2.0f) * 1.7320508f;
}

}  // namespace ek::cuda
#endif
