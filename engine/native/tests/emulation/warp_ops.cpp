/* What a warp computes together. */
#include "include/emulated_ptx.h"

namespace emulation {

namespace {

/* The lower or the upper bf16 of a word. */
float half_of(uint32_t word, int upper) {
  return __uint_as_float(upper == 0 ? word << 16 : word & 0xffff0000u);
}

}  // namespace

void multiply_tile(Exchange& e) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kLanes; lane++) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; i++) {
      const int k = 2 * t + i;
      for (int part = 0; part < 4; part++)
        a[g + part % 2 * 8][k + part / 2 * 8] = half_of(e.word[lane][part], i);
      for (int part = 0; part < 2; part++) b[k + part * 8][g] = half_of(e.word[lane][4 + part], i);
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

void load_rows(Exchange& e) {
  if (e.lanes != kLanes) fail("ldmatrix in a warp of %d lanes", e.lanes);
  for (int lane = 0; lane < kLanes; lane++) {
    const uintptr_t address = static_cast<uintptr_t>(e.word[lane][1]) << 32 | e.word[lane][0];
    std::memcpy(reinterpret_cast<uint8_t*>(e.product) + lane * 16, reinterpret_cast<const void*>(address),
                16);
  }
}

}  // namespace emulation
