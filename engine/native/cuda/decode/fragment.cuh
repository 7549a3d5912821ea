/* Mat-vec on tensor cores: 16 rows of a weight times one vector, 128 columns at a time.
 *
 * The weight's integers become bf16 exactly and are the matrix of m16n8k16; the vector is split into two bf16
 * parts (16 bits of mantissa) that fill two of the eight columns. Scales are applied to the sums of 32
 * columns, so the weight's values are never rounded. Which lane holds what: weights/planes.h; lane = 4 g + t
 * has rows g and g + 8. */
#ifndef EK_CUDA_DECODE_FRAGMENT_CUH
#define EK_CUDA_DECODE_FRAGMENT_CUH
#include <cuda_bf16.h>

#include "../../core/check.h"
#include "../device/ptx.cuh"
#include "../ops/reduce.cuh"
#include "../weights/planes.h"

namespace ek::cuda {

/* A vector in two parts, 8 columns per uint4 in the order 0 4 1 5 2 6 3 7, and the sum of each 8 columns. */
struct Parts {
  uint4 *high, *low; /* (n_units) */
  float* sums;       /* (n_units) */

  /* The same from a later unit on. */
  EK_HD Parts from(int32_t unit) const { return {high + unit, low + unit, sums + unit}; }
};

constexpr int kUnitsPerGroup = kGroup / 8;

/* Bytes of the parts of a vector in shared memory. The low parts begin 64 bytes off, so that both load at
 * once. */
EK_HD inline size_t parts_bytes(int32_t n_units) { return static_cast<size_t>(n_units) * 36 + 64; }
__device__ inline Parts parts_in(void* memory, int32_t n_units) {
  uint4* high = static_cast<uint4*>(memory);
  uint4* low = high + n_units + 4;
  return {high, low, reinterpret_cast<float*>(low + n_units)};
}

__device__ inline uint32_t pack_bf16(float first, float second) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

/* Splits 8 consecutive values into unit `unit`. */
__device__ inline void store_unit(const Parts& to, int32_t unit, const float* v) {
  uint32_t high[4], low[4];
  float sum = 0;
  for (int p = 0; p < 4; p++) {
    high[p] = pack_bf16(v[p], v[p + 4]);
    const float a = v[p] - bf16_value(high[p] & 0xffff), b = v[p + 4] - bf16_value(high[p] >> 16);
    low[p] = pack_bf16(a, b);
    sum += bf16_value(high[p] & 0xffff) + bf16_value(low[p] & 0xffff);
    sum += bf16_value(high[p] >> 16) + bf16_value(low[p] >> 16);
  }
  to.high[unit] = {high[0], high[1], high[2], high[3]};
  to.low[unit] = {low[0], low[1], low[2], low[3]};
  to.sums[unit] = sum;
}

/* Copies parts from device to shared memory; all threads of the block call. */
__device__ inline void copy_parts(const Parts& to, const Parts& from, int32_t n_units) {
  for (int32_t i = threadIdx.x; i < n_units; i += blockDim.x) {
    to.high[i] = from.high[i];
    to.low[i] = from.low[i];
    to.sums[i] = from.sums[i];
  }
}

/* Parts of x / rms(x) * norm, padded with zeros to n_units. All threads of the block call; shared: a float
 * per warp. */
template <int Threads>
__device__ void stage_normed(const Parts& to, const float* x, const float* norm, int32_t dim, int32_t n_units,
                             float eps, float* shared) {
  float sum = 0;
  for (int32_t c = threadIdx.x; c < dim; c += Threads) sum += x[c] * x[c];
  const float scale = rsqrtf(block_sum<Threads>(sum, shared) / static_cast<float>(dim) + eps);
  for (int32_t unit = threadIdx.x; unit < n_units; unit += Threads) {
    float v[8];
    for (int i = 0; i < 8; i++) {
      const int32_t c = unit * 8 + i;
      v[i] = c < dim ? x[c] * scale * norm[c] : 0.0f;
    }
    store_unit(to, unit, v);
  }
}

constexpr bool has_high_bit(ek_type f) { return f == EK_Q5_0 || f == EK_Q5_K; }
constexpr bool has_min(ek_type f) { return f == EK_Q4_K || f == EK_Q5_K; }
constexpr int n_loads(ek_type f) { return f == EK_BF16 ? 4 : f == EK_Q8_0 ? 2 : 1; }

/* A lane's share of one group of 16 rows. */
template <ek_type F>
struct Fragment {
  uint4 low[2][n_loads(F)];
  uint2 high[2];
  uint2 scale[2];
  uint32_t super[2];
};

/* Rows row + g and row + g + 8. */
template <ek_type F>
__device__ Fragment<F> load_fragment(const WeightView& w, size_t row, int32_t group, int lane) {
  Fragment<F> f;
  const int g = lane / 4, t = lane % 4;
  for (int r = 0; r < 2; r++) {
    const size_t line = row + g + 8 * r, at = line * w.n_groups + group;
    const uint8_t* low = w.low + at * plane_sizes(F).low + t * 16;
    for (int i = 0; i < n_loads(F); i++) f.low[r][i] = stream16(low + i * 64);
    if constexpr (has_high_bit(F)) f.high[r].x = plane_at<uint32_t>(w.high, at * 4 + t);
    if constexpr (F == EK_Q6_K) f.high[r] = plane_at<uint2>(w.high, at * 4 + t);
    if constexpr (F != EK_BF16) f.scale[r] = plane_at<uint2>(w.scale, at);
    if constexpr (has_min(F))
      f.super[r] = plane_at<uint32_t>(w.super, line * ((w.n_groups + 1) / 2) + group / 2);
    if constexpr (F == EK_Q6_K)
      f.super[r] = plane_at<uint16_t>(w.super, line * ((w.n_groups + 1) / 2) + group / 2);
  }
  return f;
}

/* Bits moved up by n, down by -n. */
__device__ constexpr uint32_t shifted(uint32_t bits, int n) { return n >= 0 ? bits << n : bits >> -n; }
__device__ constexpr uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* The four pairs (columns p and p + 4) of part `part` as bf16: the integer plus quant_base<F>. */
template <ek_type F>
__device__ void unpack_pairs(const Fragment<F>& f, int r, int part, uint32_t (&pair)[4]) {
  if constexpr (F == EK_BF16) {
    for (int p = 0; p < 4; p++) pair[p] = word_of(f.low[r][part], p);
  } else if constexpr (F == EK_Q8_0) {
    const uint32_t first = word_of(f.low[r][part / 2], part % 2 * 2);
    const uint32_t second = word_of(f.low[r][part / 2], part % 2 * 2 + 1);
    for (int p = 0; p < 4; p++) {
      /* The bytes of 2^23 + b; minus 2^23 + 128 it is a small integer, whose upper half is its bf16. */
      const float a = __uint_as_float(__byte_perm(first, 0x4b000000u, 0x7440 + p)) - 8388736.0f;
      const float b = __uint_as_float(__byte_perm(second, 0x4b000000u, 0x7440 + p)) - 8388736.0f;
      pair[p] = __byte_perm(__float_as_uint(a), __float_as_uint(b), 0x7632);
    }
  } else {
    const uint32_t word = word_of(f.low[r][0], part);
    for (int p = 0; p < 4; p++) {
      if constexpr (has_high_bit(F)) {
        pair[p] = (shifted(word, 2 - 4 * p) & 0x003c003cu) | 0x42004200u |
                  (shifted(f.high[r].x, 6 - (4 * part + p)) & 0x00400040u);
      } else if constexpr (F == EK_Q6_K) {
        const uint32_t high = part < 2 ? f.high[r].x : f.high[r].y;
        pair[p] = (shifted(word, 1 - 4 * p) & 0x001e001eu) | 0x42804280u |
                  (shifted(high, 5 - 2 * (4 * (part % 2) + p)) & 0x00600060u);
      } else {
        pair[p] = (shifted(word, 3 - 4 * p) & 0x00780078u) | 0x41804180u;
      }
    }
  }
}

/* value = scale * (number that unpack_pairs gives) + offset; `offset` meets the sum of the vector. half: for
 * Q6_K. */
template <ek_type F>
__device__ Affine pair_affine(const Fragment<F>& f, int r, int part, int half) {
  if constexpr (has_min(F)) {
    const float d = half_value(static_cast<uint16_t>(f.super[r] & 0xffff));
    const float dmin = half_value(static_cast<uint16_t>(f.super[r] >> 16));
    const float scale = d * static_cast<float>(f.scale[r].x >> 8 * part & 0xff);
    const float base = F == EK_Q4_K ? 16.0f : 32.0f;
    return {scale, -fmaf(dmin, static_cast<float>(f.scale[r].y >> 8 * part & 0xff), base * scale)};
  } else if constexpr (F == EK_Q6_K) {
    const uint32_t word = part < 2 ? f.scale[r].x : f.scale[r].y;
    const int8_t byte = static_cast<int8_t>(word >> (part % 2 * 16 + half * 8) & 0xff);
    const float scale = half_value(static_cast<uint16_t>(f.super[r])) * static_cast<float>(byte);
    return {scale, -96.0f * scale};
  } else {
    const uint32_t word = part < 2 ? f.scale[r].x : f.scale[r].y;
    const float d = half_value(static_cast<uint16_t>(part % 2 == 0 ? word & 0xffff : word >> 16));
    return {d, F == EK_Q4_0 ? -24.0f * d : F == EK_Q5_0 ? -48.0f * d : 0.0f};
  }
}

/* The lane's column of the vector for one part: high parts in column 0, low ones in column 1; for Q6_K, whose
 * scales span 16 columns, the second half of the part in columns 2 and 3. */
template <ek_type F>
__device__ uint4 vector_column(const Parts& x, int32_t unit, int lane) {
  const int g = lane / 4, t = lane % 4;
  const bool used = F == EK_Q6_K ? g < 4 && t / 2 == g / 2 : g < 2;
  if (!used) return {0, 0, 0, 0};
  return (g % 2 == 0 ? x.high : x.low)[unit + t];
}

/* The sum that meets the lane's offset: lanes whose columns of the result are empty have none. */
template <ek_type F>
__device__ float vector_sum(const Parts& x, int32_t unit, int lane) {
  const int t = lane % 4;
  if constexpr (F == EK_Q6_K) return t < 2 ? x.sums[unit + 2 * t] + x.sums[unit + 2 * t + 1] : 0.0f;
  if (t > 0) return 0.0f;
  return (x.sums[unit] + x.sums[unit + 1]) + (x.sums[unit + 2] + x.sums[unit + 3]);
}

/* y[r] += the lane's part of row g + 8 r times columns [128 group, 128 group + 128) of x, whose unit 0 is
 * column 0. The row's product is the sum over its four lanes: quad_sum. */
template <ek_type F>
__device__ void multiply_fragment(const Fragment<F>& f, const Parts& x, int32_t group, int lane,
                                  float (&y)[2]) {
#pragma unroll
  for (int part = 0; part < 4; part++) {
    const int32_t unit = group * kUnitsPerGroup + part * 4;
    uint32_t a[2][4];
    unpack_pairs<F>(f, 0, part, a[0]);
    unpack_pairs<F>(f, 1, part, a[1]);
    const uint4 b = vector_column<F>(x, unit, lane);
    float c[4] = {};
    mma_bf16(c, a[0][0], a[1][0], a[0][1], a[1][1], b.x, b.y);
    mma_bf16(c, a[0][2], a[1][2], a[0][3], a[1][3], b.z, b.w);
    if constexpr (F == EK_BF16) {
      y[0] += c[0] + c[1];
      y[1] += c[2] + c[3];
    } else {
      const float sum = F == EK_Q8_0 ? 0.0f : vector_sum<F>(x, unit, lane);
      for (int r = 0; r < 2; r++) {
        const Affine s = pair_affine<F>(f, r, part, lane % 2);
        y[r] = fmaf(s.scale, c[2 * r] + c[2 * r + 1], y[r]);
        if constexpr (F != EK_Q8_0) y[r] = fmaf(s.offset, sum, y[r]);
      }
    }
  }
}

__device__ inline float quad_sum(float y) {
  y += __shfl_xor_sync(0xffffffffu, y, 1);
  return y + __shfl_xor_sync(0xffffffffu, y, 2);
}

constexpr const char* kFusedTypes = "Q4_K, Q5_0, Q6_K, Q8_0 and BF16";

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
    default:
      throw ArgError(format("the fused kernels take %s, got type %d", kFusedTypes, static_cast<int>(type)));
  }
}

}  // namespace ek::cuda
#endif
