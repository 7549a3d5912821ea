/* Half precision in portable C++: exact widening, narrowing with round to nearest even. */
#ifndef EK_CORE_F16_H
#define EK_CORE_F16_H
#include <cstdint>
#include <cstring>

namespace ek {

using f16 = uint16_t; /* the bits of a half */

inline uint32_t bits_of(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return u;
}

inline float float_of(uint32_t u) {
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}

inline float f16_to_f32(f16 h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
  const uint32_t exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f; /* 2^-24 */
  return float_of(sign | bits_of(magnitude));
}

inline f16 f32_to_f16(float x) {
  const uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<f16>(sign | 0x7e00);
  if (magnitude >= 0x477ff000u) return static_cast<f16>(sign | 0x7c00); /* rounds to 65520 or more */
  if (magnitude < 0x38800000u) {
    /* Subnormal: adding 0.5 leaves the result, rounded by the hardware, in the low bits. */
    return static_cast<f16>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
  return static_cast<f16>(sign | ((rounded - 0x38000000u) >> 13));
}

}  // namespace ek
#endif
