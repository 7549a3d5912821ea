/* Numbers of 8 bits: sign, 4 bits of exponent, 3 of mantissa (OCP FP8 E4M3), up to 448. */
#ifndef EK_CUDA_DEVICE_E4M3_H
#define EK_CUDA_DEVICE_E4M3_H
#include "../../core/f16.h"
#include "host_device.h"

namespace ek::cuda {

constexpr float kMostE4m3 = 448;

EK_HD inline uint32_t float_bits(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  return bits_of(x);
#endif
}
EK_HD inline float float_from(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return float_of(bits);
#endif
}

/* The nearest e4m3, ties to even; what is larger than kMostE4m3 becomes that. There is no infinity and, here,
 * no NaN. */
EK_HD inline uint8_t e4m3_of(float x) {
  constexpr uint32_t kLeastNormal = 0x3c800000u; /* 2^-6 */
  const uint32_t bits = float_bits(x), sign = bits >> 24 & 0x80, size = bits & 0x7fffffffu;
  /* Below it numbers are multiples of 2^-9: the sum rounds to one. */
  if (size < kLeastNormal)
    return static_cast<uint8_t>(sign | (float_bits(float_from(size) * 512.0f + 8388608.0f) & 15));
  const uint32_t rounded =
      ((size + 0x7ffffu + (size >> 20 & 1)) >> 20) - (120 << 3); /* exponent bias 127 to 7 */
  return static_cast<uint8_t>(sign | (rounded < 0x7e ? rounded : 0x7e));
}

EK_HD inline float e4m3_value(uint8_t byte) {
  constexpr float kBias = 1.329227995784916e36f; /* 2^120: from exponent bias 127 to 7 */
  const uint32_t b = byte;
  return float_from((b & 0x80) << 24 | (b & 0x7f) << 20) * kBias;
}

/* The least power of two whose multiples by e4m3 reach `most`, between 2^-110 and 2^7, so that such a product
 * is a bf16, exactly, and so is kE4m3Bias times the power. NaN when `most` is not finite. */
EK_HD inline float e4m3_scale(float most) {
  const uint32_t bits = float_bits(most) & 0x7fffffffu;
  if (bits >= 0x7f800000u) return float_from(0x7fc00000u);
  const uint32_t above = (bits & 0x7fffffu) > 0x600000u; /* 448 is 1.75 times a power of two */
  const int32_t exponent = static_cast<int32_t>((bits >> 23) + above) - 8;
  return float_from(static_cast<uint32_t>(exponent < 17 ? 17 : exponent > 134 ? 134 : exponent) << 23);
}

}  // namespace ek::cuda
#endif
