/* What a warp computes together. */
#include "include/emulated_ptx.h"

namespace emulation {

namespace {

/* Of rows of Pitch numbers, the first Columns of 16: a (16 x K) times b (K x Columns), four rows at a time,
 * whose sums do not wait for each other. Most of the time of large products goes into this; the compiler
 * alone takes seven times as long. */
template <int K, int Columns, int Pitch>
void multiply(const float (&a)[16][K], const float (&b)[K][Columns], float (&product)[16][Pitch]) {
  typedef float Four __attribute__((vector_size(16), aligned(4)));
  for (int row = 0; row < 16; row += 4) {
    for (int n = 0; n < Columns; n += 4) {
      Four s0 = {}, s1 = {}, s2 = {}, s3 = {};
      for (int k = 0; k < K; k++) {
        const Four right = *reinterpret_cast<const Four*>(b[k] + n);
        s0 += a[row][k] * right;
        s1 += a[row + 1][k] * right;
        s2 += a[row + 2][k] * right;
        s3 += a[row + 3][k] * right;
      }
      const Four sums[4] = {s0, s1, s2, s3};
      for (int r = 0; r < 4; r++) std::memcpy(product[row + r] + n, &sums[r], sizeof(Four));
    }
  }
}

/* Of words with N numbers each, which split(word, numbers) makes of them: a has N columns for each of four
 * lanes, twice, and b as many rows. */
template <int N, class Split>
void multiply_words(Exchange& e, Split&& split) {
  constexpr int kHalf = 4 * N;
  float a[16][2 * kHalf], b[2 * kHalf][8];
  for (int lane = 0; lane < kLanes; lane++) {
    const int g = lane / 4, k = lane % 4 * N;
    const uint32_t* word = e.word[lane];
    for (int part = 0; part < 4; part++) split(word[part], a[g + part % 2 * 8] + k + part / 2 * kHalf);
    for (int part = 0; part < 2; part++) {
      float numbers[N];
      split(word[4 + part], numbers);
      for (int i = 0; i < N; i++) b[k + i + part * kHalf][g] = numbers[i];
    }
  }
  multiply(a, b, e.product);
}

float bf16_number(uint32_t bits) { return __uint_as_float(bits << 16); }

ek::cuda::SharedTile tile_of(const uint32_t* words, int stride) {
  const uintptr_t address = static_cast<uintptr_t>(words[1]) << 32 | words[0];
  return {reinterpret_cast<const uint8_t*>(address), stride};
}

}  // namespace

template <int N>
void multiply_tiles(Exchange& e) {
  const ek::cuda::SharedTile left = tile_of(e.word[0], 0), right = tile_of(e.word[0] + 2, 0);
  float a[16][16], b[16][8 * N];
  for (int k = 0; k < 16; k += 8) {
    for (int row = 0; row < 16; row++) left.eight(row, k, a[row] + k);
    for (int n = 0; n < 8 * N; n++) {
      float column[8];
      right.eight(n, k, column);
      for (int i = 0; i < 8; i++) b[k + i][n] = column[i];
    }
  }
  multiply(a, b, e.group_product);
}
template void multiply_tiles<8>(Exchange& e);
template void multiply_tiles<16>(Exchange& e);

template <int N>
void multiply_by_tile(Exchange& e) {
  const ek::cuda::SharedTile right = tile_of(e.word[0] + 4, static_cast<int>(e.word[0][6]));
  float a[16][16], b[16][8 * N];
  for (int lane = 0; lane < kLanes; lane++) {
    for (int part = 0; part < 4; part++) {
      float* to = a[lane / 4 + part % 2 * 8] + lane % 4 * 2 + part / 2 * 8;
      to[0] = bf16_number(e.word[lane][part] & 0xffff);
      to[1] = bf16_number(e.word[lane][part] >> 16);
    }
  }
  for (int k = 0; k < 16; k++) {
    for (int n = 0; n < 8 * N; n += 8) right.eight(k, n, b[k] + n);
  }
  multiply(a, b, e.group_product);
}
template void multiply_by_tile<2>(Exchange& e);
template void multiply_by_tile<16>(Exchange& e);

/* Sums of bytes are below 2^24, so floats hold them. */
void multiply_bytes(Exchange& e) {
  multiply_words<4>(e, [](uint32_t word, float* out) {
    for (int i = 0; i < 4; i++) out[i] = static_cast<int8_t>(word >> 8 * i & 0xff);
  });
}

void multiply_tile(Exchange& e) {
  multiply_words<2>(e, [](uint32_t word, float* out) {
    out[0] = __uint_as_float(word << 16);
    out[1] = __uint_as_float(word & 0xffff0000u);
  });
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
