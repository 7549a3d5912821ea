/* What a warp computes together. */
#include "include/emulated_ptx.h"

namespace emulation {

namespace {

/* The lower or the upper bf16 of a word. */
float half_of(uint32_t word, int upper) {
  return __uint_as_float(upper == 0 ? word << 16 : word & 0xffff0000u);
}

int byte_of(uint32_t word, int i) { return static_cast<int8_t>(word >> 8 * i & 0xff); }

}  // namespace

void multiply_bytes(Exchange& e) {
  int a[16][32], b[32][8];
  for (int lane = 0; lane < kLanes; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
      const int k = 4 * t + i;
      for (int part = 0; part < 4; part++)
        a[g + part % 2 * 8][k + part / 2 * 16] = byte_of(e.word[lane][part], i);
      for (int part = 0; part < 2; part++) b[k + part * 16][g] = byte_of(e.word[lane][4 + part], i);
    }
  }
  for (int row = 0; row < 16; row++) {
    for (int n = 0; n < 8; n++) {
      int sum = 0;
      for (int k = 0; k < 32; k++) sum += a[row][k] * b[k][n];
      e.product[row][n] = static_cast<float>(sum);
    }
  }
}

namespace {

template <class Element>
void multiply_pairs(Exchange& e, Element&& element) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kLanes; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; i++) {
      const int k = 2 * t + i;
      for (int part = 0; part < 4; part++)
        a[g + part % 2 * 8][k + part / 2 * 8] = element(e.word[lane][part], i);
      for (int part = 0; part < 2; part++) b[k + part * 8][g] = element(e.word[lane][4 + part], i);
    }
  }
  for (int row = 0; row < 16; row++) {
    float sum[8] = {};
    for (int k = 0; k < 16; k++) {
      for (int n = 0; n < 8; n++) sum[n] += a[row][k] * b[k][n];
    }
    std::memcpy(e.product[row], sum, sizeof sum);
  }
}

}  // namespace

void multiply_tile(Exchange& e) { multiply_pairs(e, half_of); }

void multiply_f16(Exchange& e) {
  multiply_pairs(e,
                 [](uint32_t pair, int i) { return ek::f16_to_f32(static_cast<uint16_t>(pair >> 16 * i)); });
}

void load_rows(Exchange& e) {
  if (e.lanes != kLanes) fail("ldmatrix in a warp of %d lanes", e.lanes);
  for (int lane = 0; lane < kLanes; lane++) {
    const uintptr_t address = static_cast<uintptr_t>(e.word[lane][1]) << 32 | e.word[lane][0];
    std::memcpy(reinterpret_cast<uint8_t*>(e.product) + lane * 16, reinterpret_cast<const void*>(address),
                16);
  }
}

}  // namespace emulation
