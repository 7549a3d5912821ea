/* Numbers of tests in device memory. */
#ifndef EK_TESTS_DEVICE_NUMBERS_H
#define EK_TESTS_DEVICE_NUMBERS_H
#include <cuda_bf16.h>

#include "../cuda/device/device.h"
#include "compare.h"
#include "lite_reference.h"

namespace ek::test {

/* Numbers of bf16 on the device, then n_behind that are none. */
inline cuda::DeviceMemory bf16_on_device(const std::vector<float>& from, size_t n_behind = 0) {
  std::vector<uint16_t> bits;
  for (float x : from) bits.push_back(static_cast<uint16_t>(bits_of(x) >> 16));
  bits.resize(from.size() + n_behind, 0xffff);
  return cuda::upload(bits);
}

inline std::vector<float> random_bf16(size_t n, uint32_t seed, float scale) {
  std::vector<float> out = random_floats(n, seed, scale);
  for (float& x : out) x = static_cast<float>(bf16(x));
  return out;
}

inline std::vector<float> read_bf16(const __nv_bfloat16* from, size_t n) {
  std::vector<uint16_t> bits(n);
  cuda::check(cudaMemcpy(bits.data(), from, n * 2, cudaMemcpyDeviceToHost), "reading values");
  std::vector<float> out;
  for (uint16_t x : bits) out.push_back(cuda::bf16_value(x));
  return out;
}

/* Random numbers of bf16, and their copy on the device. More rows than there are tokens are not numbers. */
struct Numbers {
  std::vector<float> host;
  cuda::DeviceMemory device;

  Numbers(size_t n, uint32_t seed, float scale, size_t n_behind = 0)
      : host(random_bf16(n, seed, scale)), device(bf16_on_device(host, n_behind)) {}
};

}  // namespace ek::test
#endif
