/* 16 rows and 128 columns of a weight in the registers of a warp, and what is made of them for tensor cores.
 * Which lane holds what: weights/planes.h; lane = 4 g + t has rows g and g + 8. */
#ifndef EK_CUDA_DECODE_FRAGMENT_CUH
#define EK_CUDA_DECODE_FRAGMENT_CUH
#include <cuda_bf16.h>

#include "../../core/check.h"
#include "../device/e4m3.cuh"
#include "../device/ptx.cuh"
#include "../ops/reduce.cuh"
#include "../weights/planes.h"

namespace ek::cuda {

__device__ inline uint32_t pack_bf16(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

constexpr bool has_high_bit(ek_type f) { return f == EK_Q5_0 || f == EK_Q5_K; }
constexpr bool has_min(ek_type f) { return f == EK_Q4_K || f == EK_Q5_K; }
constexpr int n_loads(ek_type f) { return f == EK_BF16 ? 4 : f == EK_Q8_0 || f == EK_FP8_E4M3 ? 2 : 1; }
/* Types that meet a vector as bf16, not as bytes. */
constexpr bool is_float8_or_16(ek_type f) { return f == EK_BF16 || f == EK_FP8_E4M3; }
/* Types whose values are not a multiple of their numbers. */
constexpr bool has_offset(ek_type f) { return f != EK_Q8_0 && f != EK_FP8_E4M3; }

/* A lane's share of one group of 16 rows. */
template <ek_type F>
struct Fragment {
  uint4 low[2][n_loads(F)];
  uint2 high[2];
  uint2 scale[2];
  uint32_t super[2];
};

/* Row i of a chunk as row r of the fragment. chunk, super: where they lie, in device or shared memory. */
template <ek_type F, class Load>
__device__ void read_row(Fragment<F>& f, int r, const uint8_t* chunk, const uint8_t* super, int i, int t,
                         Load&& load16) {
  for (int piece = 0; piece < n_loads(F); piece++)
    f.low[r][piece] = load16(chunk + low_offset(F, i, piece, t));
  if constexpr (has_high_bit(F)) f.high[r].x = plane_at<uint32_t>(chunk + high_offset(F, i), t);
  if constexpr (F == EK_Q6_K) f.high[r] = plane_at<uint2>(chunk + high_offset(F, i), t);
  if constexpr (F == EK_FP8_E4M3) f.scale[r].x = plane_at<uint32_t>(chunk + scale_offset(F, 0), 0);
  if constexpr (!is_float8_or_16(F)) f.scale[r] = plane_at<uint2>(chunk + scale_offset(F, i), 0);
  if constexpr (has_min(F)) f.super[r] = plane_at<uint32_t>(super, i);
  if constexpr (F == EK_Q6_K) f.super[r] = plane_at<uint16_t>(super, i);
}

template <ek_type F, class Load>
__device__ Fragment<F> read_fragment(const uint8_t* chunk, const uint8_t* super, int lane, Load&& load16) {
  Fragment<F> f;
  for (int r = 0; r < 2; r++) read_row<F>(f, r, chunk, super, lane / 4 + 8 * r, lane % 4, load16);
  return f;
}
/* Of the 16 rows from `row` on, a multiple of 16. */
template <ek_type F>
__device__ Fragment<F> load_fragment(const WeightView& w, size_t row, int32_t group, int lane) {
  const uint8_t* tile = tile_at<F>(w, row);
  return read_fragment<F>(tile + chunk_offset(F, group), tile + super_offset(F, group), lane,
                          [](const uint8_t* p) { return stream16(p); });
}
/* The same of one of a lane's two rows, the upper or the lower one: row 0 of the fragment. */
template <ek_type F>
__device__ Fragment<F> load_half_fragment(const WeightView& w, size_t row, int lower, int32_t group,
                                          int lane) {
  const uint8_t* tile = tile_at<F>(w, row);
  Fragment<F> f;
  read_row<F>(f, 0, tile + chunk_offset(F, group), tile + super_offset(F, group), lane / 4 + 8 * lower,
              lane % 4, [](const uint8_t* p) { return stream16(p); });
  return f;
}

/* What a warp copies and multiplies at once: two chunks, whose super-scales follow them; one of bf16. */
template <ek_type F>
constexpr int kTurnGroups = F == EK_BF16 ? 1 : 2;
template <ek_type F>
constexpr int kTurnBytes = kTurnGroups<F>* chunk_bytes(F) + super_bytes(F);

/* Turns of 16 rows. */
template <ek_type F>
EK_HD constexpr int32_t turns_of(int32_t n_groups) {
  return (n_groups + kTurnGroups<F> - 1) / kTurnGroups<F>;
}
/* Whether a turn has all its chunks: the last of an odd number has not. Weights with super-scales have even
 * numbers. */
template <ek_type F>
EK_HD constexpr bool is_whole(int32_t turn, int32_t n_groups) {
  return kTurnGroups<F> == 1 || super_bytes(F) > 0 || turn * 2 + 1 < n_groups;
}

/* Begins to copy a turn into a slot of shared memory; a warp calls. */
template <ek_type F>
__device__ void copy_turn(uint8_t* slot, const uint8_t* from, bool whole, int lane) {
  constexpr int kPieces = kTurnBytes<F> / 16, kOne = chunk_bytes(F) / 16;
  static_assert(chunk_bytes(F) % 16 == 0 && super_bytes(F) % 16 == 0, "whole pieces");
  const int n = whole ? kPieces : kOne;
#pragma unroll
  for (int i = 0; i < (kPieces + kWarp - 1) / kWarp; i++) {
    const int piece = i * kWarp + lane;
    if (piece < n) copy_async_16(slot + piece * 16, from + piece * 16, true);
  }
}
/* A fragment of a slot whose copies have arrived. */
template <ek_type F>
__device__ Fragment<F> read_slot(const uint8_t* slot, int chunk, int lane) {
  return read_fragment<F>(slot + chunk * chunk_bytes(F), slot + kTurnGroups<F> * chunk_bytes(F), lane,
                          [](const uint8_t* p) { return *reinterpret_cast<const uint4*>(p); });
}

/* Bits moved up by n, down by -n. */
__device__ constexpr uint32_t shifted(uint32_t bits, int n) { return n >= 0 ? bits << n : bits >> -n; }
__device__ constexpr uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

constexpr uint32_t kSignBits = 0x80808080u; /* of four bytes */

/* Added to the integers of pairs, so that they are bf16 by their bits alone. */
constexpr float pair_base(ek_type f) {
  return f == EK_Q4_0 || f == EK_Q4_K ? 16 : f == EK_Q5_0 || f == EK_Q5_K ? 32 : f == EK_Q6_K ? 64 : 0;
}

/* The four pairs (columns p and p + 4) of part `part` as bf16: the integer plus pair_base(F). */
template <ek_type F>
__device__ void unpack_pairs(const Fragment<F>& f, int r, int part, uint32_t (&pair)[4]) {
  if constexpr (F == EK_BF16) {
    for (int p = 0; p < 4; p++) pair[p] = word_of(f.low[r][part], p);
  } else if constexpr (F == EK_FP8_E4M3) {
    constexpr uint32_t kFactor = 0x7b807b80u; /* e4m3_factor(1) */
    for (int p = 0; p < 4; p++)
      pair[p] = e4m3_pair(word_of(f.low[r][part / 2], part % 2 * 2 + p / 2), p % 2, kFactor);
  } else if constexpr (F == EK_Q8_0) {
    /* Signed bytes as 2^23 + 128 + b; minus 2^23 + 128 it is a small integer, whose upper half is its bf16.
     */
    const uint32_t even = word_of(f.low[r][part / 2], part % 2 * 2) ^ kSignBits;
    const uint32_t odd = word_of(f.low[r][part / 2], part % 2 * 2 + 1) ^ kSignBits;
    for (int p = 0; p < 4; p++) {
      const uint32_t word = p % 2 == 0 ? even : odd;
      const float a = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440 + p / 2)) - 8388736.0f;
      const float b = __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7442 + p / 2)) - 8388736.0f;
      pair[p] = __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x7632);
    }
  } else {
    const uint32_t word = word_of(f.low[r][0], part);
    for (int p = 0; p < 4; p++) {
      if constexpr (has_high_bit(F)) {
        pair[p] = (shifted(word, 2 - 4 * p) & 0x003c003cu) | in_register(0x42004200u) |
                  (shifted(f.high[r].x, 6 - (p / 2 * 8 + 2 * part + p % 2)) & 0x00400040u);
      } else if constexpr (F == EK_Q6_K) {
        const uint32_t high = part < 2 ? f.high[r].x : f.high[r].y;
        pair[p] = (shifted(word, 1 - 4 * p) & 0x001e001eu) | in_register(0x42804280u) |
                  (shifted(high, 5 - (p / 2 * 8 + 4 * (part % 2) + p % 2 * 2)) & 0x00600060u);
      } else {
        pair[p] = (shifted(word, 3 - 4 * p) & 0x00780078u) | in_register(0x41804180u);
      }
    }
  }
}

/* Columns 0 2 4 6 and 1 3 5 7 of part `part` as signed bytes: the value's integer times byte_factor<F>. */
template <ek_type F>
__device__ void unpack_bytes(const Fragment<F>& f, int r, int part, uint32_t (&a)[2]) {
  if constexpr (F == EK_Q8_0) {
    for (int odd = 0; odd < 2; odd++) a[odd] = word_of(f.low[r][part / 2], part % 2 * 2 + odd);
    return;
  }
  const uint32_t word = word_of(f.low[r][0], part);
  for (int odd = 0; odd < 2; odd++) {
    if constexpr (F == EK_Q5_0) {
      const uint32_t high = shifted(f.high[r].x, 7 - 2 * part - odd);
      a[odd] = (shifted(word, 3 - 4 * odd) & 0x78787878u) | (~high & kSignBits);
    } else if constexpr (F == EK_Q6_K) {
      const uint32_t high = shifted(part < 2 ? f.high[r].x : f.high[r].y, 6 - 4 * (part % 2) - 2 * odd);
      a[odd] = (shifted(word, 2 - 4 * odd) & 0x3c3c3c3cu) | ((high & 0xc0c0c0c0u) ^ kSignBits);
    } else {
      static_assert(F == EK_Q8_0 || F == EK_Q4_K, "signed types need the offset in their bytes");
      a[odd] = shifted(word, -4 * odd) & 0x0f0f0f0fu;
    }
  }
}

/* Columns 0 2 4 6 and 1 3 5 7 of part `part` as bytes, less than 128: the integers as the file has them. */
template <ek_type F>
__device__ void unpack_integers(const Fragment<F>& f, int r, int part, uint32_t (&a)[2]) {
  static_assert(F == EK_Q4_0 || F == EK_Q4_K || F == EK_Q5_0 || F == EK_Q5_K || F == EK_Q6_K,
                "small integers");
  const uint32_t word = word_of(f.low[r][0], part);
  for (int odd = 0; odd < 2; odd++) {
    a[odd] = shifted(word, -4 * odd) & 0x0f0f0f0fu;
    if constexpr (has_high_bit(F)) a[odd] |= shifted(f.high[r].x, 4 - 2 * part - odd) & 0x10101010u;
    if constexpr (F == EK_Q6_K)
      a[odd] |= shifted(part < 2 ? f.high[r].x : f.high[r].y, 4 - 4 * (part % 2) - 2 * odd) & 0x30303030u;
  }
}

/* value = scale * (integer + base) + offset, where columns 16 half to 16 half + 15 of a part have their own
 * scales (Q6_K); `offset` meets the sum of the vector. */
template <ek_type F>
__device__ Affine pair_affine(const Fragment<F>& f, int r, int part, int half, float base = pair_base(F)) {
  if constexpr (F == EK_FP8_E4M3) return {__uint_as_float(f.scale[r].x), 0.0f};
  if constexpr (has_min(F)) {
    const float d = half_value(static_cast<uint16_t>(f.super[r] & 0xffff));
    const float dmin = half_value(static_cast<uint16_t>(f.super[r] >> 16));
    const float scale = d * static_cast<float>(f.scale[r].x >> 8 * part & 0xff);
    return {scale, -fmaf(dmin, static_cast<float>(f.scale[r].y >> 8 * part & 0xff), base * scale)};
  } else if constexpr (F == EK_Q6_K) {
    const uint32_t word = part < 2 ? f.scale[r].x : f.scale[r].y;
    const int8_t byte = static_cast<int8_t>(word >> (part % 2 * 16 + half * 8) & 0xff);
    const float scale = half_value(static_cast<uint16_t>(f.super[r])) * static_cast<float>(byte);
    return {scale, -(base + 32) * scale};
  } else {
    const uint32_t word = part < 2 ? f.scale[r].x : f.scale[r].y;
    const float d = half_value(static_cast<uint16_t>(part % 2 == 0 ? word & 0xffff : word >> 16));
    return {d, F == EK_Q4_0 ? -(base + 8) * d : F == EK_Q5_0 ? -(base + 16) * d : 0.0f};
  }
}

__device__ inline float quad_sum(float y) {
  y += __shfl_xor_sync(0xffffffffu, y, 1);
  return y + __shfl_xor_sync(0xffffffffu, y, 2);
}

constexpr const char* kFusedTypes = "Q4_K, Q5_0, Q6_K, Q8_0, FP8 and BF16";

/* Calls body with one of the types that the fused kernels are compiled for. */
template <class Body>
void for_decode_type(ek_type type, Body&& body) {
  switch (type) {
    case EK_Q4_K:
      return body.template operator()<EK_Q4_K>();
    case EK_Q5_0:
      return body.template operator()<EK_Q5_0>();
    case EK_Q6_K:
      return body.template operator()<EK_Q6_K>();
    case EK_Q8_0:
      return body.template operator()<EK_Q8_0>();
    case EK_BF16:
      return body.template operator()<EK_BF16>();
    case EK_FP8_E4M3:
      return body.template operator()<EK_FP8_E4M3>();
    default:
      refuse("the fused kernels take %s, got type %d", kFusedTypes, static_cast<int>(type));
  }
}

/* Calls body with the types of down weights as constants, where a kernel is compiled for them:
 * check_lite_types. */
template <class Body>
void for_down_types(ek_type routed, ek_type shared, Body&& body) {
  const auto are = [&](ek_type r, ek_type s) { return routed == r && shared == s; };
  if (are(EK_Q5_0, EK_Q4_K)) body.template operator()<EK_Q5_0, EK_Q4_K>();
  if (are(EK_Q8_0, EK_Q6_K)) body.template operator()<EK_Q8_0, EK_Q6_K>();
  if (are(EK_Q5_0, EK_Q5_0)) body.template operator()<EK_Q5_0, EK_Q5_0>();
  if (are(EK_Q8_0, EK_Q8_0)) body.template operator()<EK_Q8_0, EK_Q8_0>();
  if (are(EK_FP8_E4M3, EK_FP8_E4M3)) body.template operator()<EK_FP8_E4M3, EK_FP8_E4M3>();
  if (are(EK_BF16, EK_BF16)) body.template operator()<EK_BF16, EK_BF16>();
}

}  // namespace ek::cuda
#endif
