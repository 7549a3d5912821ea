/* Weighted values of a part of a query's rows, as kernels hand them to each other: 10 bits a number. A part
 * is written once and read once, at the speed of memory, and as bf16 its values were most of the bytes of a
 * prompt.
 *
 * A number v is stored as 512 + round(v u), u = 511 / m for the largest m of the part: on average as far off
 * as in bf16. Weights of the part become relative to 2^top / u as well, so that u need not be stored.
 * Infinities and what is no number are not kept: values of a part are finite. */
#ifndef EK_CUDA_NSA_PART_VALUES_CUH
#define EK_CUDA_NSA_PART_VALUES_CUH
#include "../decode/shape.h"
#include "../device/ptx.cuh"

namespace ek::cuda {

/* What one of the four lanes of a query has of a part: words of three numbers, whose two lowest bits are
 * those of two more. A part has kPartWords words: two pieces of 16 bytes of each lane, then one of 8. */
constexpr int kLaneValues = kValue / 4, kLaneWords = kLaneValues * 10 / 32, kPartWords = 4 * kLaneWords;
static_assert(kLaneWords == 10 && kLaneValues == 32,
              "three numbers a word, and two in the rest of the words");

/* What a part's numbers are relative to: log2 of the unit of its weights, and their sum. */
struct PartSums {
  float top, total;
};

/* scale: 511 / 1024 over the largest of the numbers. */
__device__ inline void pack_values(uint32_t (&word)[kLaneWords], const float (&v)[kLaneValues], float scale) {
  /* In [8192, 16384) the last bit of a float is 1 / 1024, so the lowest ten bits are what is stored. */
  const auto bits = [&](int i) { return __float_as_uint(fmaf(v[i], scale, 12288.5f)); };
  const uint32_t rest[2] = {bits(3 * kLaneWords), bits(3 * kLaneWords + 1)};
#pragma unroll
  for (int w = 0; w < kLaneWords; w++) {
    word[w] = bits(3 * w) << 22 | (bits(3 * w + 1) << 12 & 0x3ff000u) | (bits(3 * w + 2) << 2 & 0xffcu) |
              (rest[w / 5] >> w % 5 * 2 & 3);
  }
}

/* sum += weight times 1 + n / 1024 for the lane's numbers n. */
__device__ inline void add_values(float (&sum)[kLaneValues], const uint32_t (&word)[kLaneWords],
                                  float weight) {
  const auto add = [&](int i, uint32_t bits) {
    sum[i] = fmaf(weight, __uint_as_float((bits & 0x007fe000u) | 0x3f800000u), sum[i]);
  };
  uint32_t rest[2] = {};
#pragma unroll
  for (int w = 0; w < kLaneWords; w++) {
    add(3 * w, word[w] >> 9);
    add(3 * w + 1, word[w] << 1);
    add(3 * w + 2, word[w] << 11);
    rest[w / 5] |= (word[w] & 3) << (13 + w % 5 * 2);
  }
  add(3 * kLaneWords, rest[0]);
  add(3 * kLaneWords + 1, rest[1]);
}

/* Stores the lane's numbers v of a part whose weights sum up to `total`, relative to 2^top. All lanes of a
 * warp call; exists: the same in the four lanes of a query. */
__device__ inline void store_part(PartSums* sums, uint32_t* part, const float (&v)[kLaneValues], float top,
                                  float total, bool exists) {
  float most = 0;
#pragma unroll
  for (int i = 0; i < kLaneValues; i++) most = fmaxf(most, fabsf(v[i]));
  for (int lanes = 1; lanes < 4; lanes *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, lanes));
  if (!exists) return;
  const float scale = most > 0 ? 511.0f / 1024 / most : 1.0f;
  uint32_t word[kLaneWords];
  pack_values(word, v, scale);
  const int t = threadIdx.x % 4;
  *reinterpret_cast<uint4*>(part + t * 4) = {word[0], word[1], word[2], word[3]};
  *reinterpret_cast<uint4*>(part + 16 + t * 4) = {word[4], word[5], word[6], word[7]};
  *reinterpret_cast<uint2*>(part + 32 + t * 2) = {word[8], word[9]};
  if (t == 0) *sums = {top - log2f(scale), total * scale};
}

__device__ inline void load_part(uint32_t (&word)[kLaneWords], const uint32_t* part) {
  const int t = threadIdx.x % 4;
  const uint4 a = *reinterpret_cast<const uint4*>(part + t * 4),
              b = *reinterpret_cast<const uint4*>(part + 16 + t * 4);
  const uint2 c = *reinterpret_cast<const uint2*>(part + 32 + t * 2);
  const uint32_t all[kLaneWords] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w, c.x, c.y};
  for (int w = 0; w < kLaneWords; w++) word[w] = all[w];
}

}  // namespace ek::cuda
#endif
