/* Numbers of 8 bits on the host: every one of them, what is rounded to them, and their scales. */
#include <cmath>

#include "../cuda/device/e4m3.h"
#include "compare.h"

using namespace ek::test;
using ek::cuda::e4m3_of;
using ek::cuda::e4m3_scale;
using ek::cuda::e4m3_value;

namespace {

void expect(bool holds, const char* what, double at) {
  if (holds) return;
  failures++;
  std::printf("FAIL %s: %g\n", what, at);
}

/* By the definition of the format; 0x7f would be NaN. */
double value_of(int byte) {
  const int exponent = byte >> 3 & 15, mantissa = byte & 7;
  const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return byte & 0x80 ? -size : size;
}

void test_values() {
  for (int byte = 0; byte < 256; byte++) {
    if ((byte & 0x7f) == 0x7f) continue;
    const float value = e4m3_value(static_cast<uint8_t>(byte));
    expect(value == value_of(byte), "a number's value", byte);
    expect(e4m3_of(value) == byte, "a number does not come back", byte);
  }
}

/* Between two neighbours the nearer one, of both the even one. */
void test_rounding() {
  for (int byte = 0; byte < 0x7e; byte++) {
    const double low = value_of(byte), high = value_of(byte + 1), middle = (low + high) / 2;
    const int even = byte % 2 == 0 ? byte : byte + 1;
    for (int sign = 0; sign < 2; sign++) {
      const auto rounded = [&](double x) {
        return e4m3_of(static_cast<float>(sign ? -x : x)) ^ (sign ? 0x80 : 0);
      };
      expect(rounded(middle) == even, "a tie", middle);
      expect(rounded(std::nextafter(static_cast<float>(middle), 0.0f)) == byte, "just below a tie", middle);
      expect(rounded(std::nextafter(static_cast<float>(middle), 1e9f)) == byte + 1, "just above a tie",
             middle);
    }
  }
  for (float x : {448.0f, 464.0f, 1e4f, 3e38f, INFINITY}) expect(e4m3_of(x) == 0x7e, "a number too large", x);
}

void test_scales() {
  for (float most : {1e-30f, 0.01f, 1.0f, 1.75f, 1.7500001f, 447.9f, 448.0f, 448.1f, 57344.0f}) {
    const float scale = e4m3_scale(most);
    int exponent = 0;
    expect(std::frexp(scale, &exponent) == 0.5f, "a scale is no power of two", most);
    expect(most / scale <= 448 && most / scale > 224, "a scale is not the least", most);
  }
  expect(e4m3_scale(0) > 0, "the scale of zeros", 0);
  expect(std::isnan(e4m3_scale(INFINITY)) && std::isnan(e4m3_scale(NAN)), "scales of what is not finite", 0);
}

}  // namespace

int main() {
  test_values();
  test_rounding();
  test_scales();
  return failures == 0 ? 0 : 1;
}
