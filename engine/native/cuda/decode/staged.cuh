/* Vectors in shared memory as products with weights take them (product.cuh): in fixed point or in two parts
 * of bf16. */
#ifndef EK_CUDA_DECODE_STAGED_CUH
#define EK_CUDA_DECODE_STAGED_CUH
#include <type_traits>

#include "fragment.cuh"

namespace ek::cuda {

constexpr int kUnitsPerGroup = kGroup / 8;

/* A vector as the sum of two bf16, 8 columns per uint4 in the order 0 4 1 5 2 6 3 7. */
struct Parts {
  uint4 *high, *low; /* (n_units) */

  /* The same from a later group on. */
  __device__ Parts from(int32_t group) const {
    return {high + group * kUnitsPerGroup, low + group * kUnitsPerGroup};
  }
};

/* A vector in fixed point: scale * (256 * high + low) of each 32 columns. */
struct Digits {
  /* (n_units / 8, 2, 8): the high bytes of 8 units, then the low ones; a unit's columns in the order 0 2 4 6
   * 1 3 5 7. So the lanes of a warp meet all banks. */
  uint2* bytes;
  float2* scale; /* (n_units / 4): of 32 columns, and their sum */

  __device__ Digits from(int32_t group) const {
    return {bytes + group * (2 * kUnitsPerGroup), scale + group * (kUnitsPerGroup / 4)};
  }
};

/* How a vector is staged for weights of type F. */
template <ek_type F>
using Staged = std::conditional_t<is_float8_or_16(F), Parts, Digits>;

/* Bytes of a staged vector in shared memory, and the vector in them. The low parts begin 64 bytes off, so
 * that both load at once. */
template <class To>
EK_HD size_t staged_bytes(int32_t n_groups) {
  constexpr size_t kGroupBytes =
      std::is_same_v<To, Parts> ? kUnitsPerGroup * 32 : kUnitsPerGroup * 16 + kUnitsPerGroup / 4 * 8;
  return (static_cast<size_t>(n_groups) * kGroupBytes + 64 + 15) / 16 * 16;
}
__device__ inline void place_staged(void* memory, int32_t n_groups, Parts& out) {
  out.high = static_cast<uint4*>(memory);
  out.low = out.high + n_groups * kUnitsPerGroup + 4;
}
__device__ inline void place_staged(void* memory, int32_t n_groups, Digits& out) {
  out.bytes = static_cast<uint2*>(memory);
  out.scale = reinterpret_cast<float2*>(out.bytes + n_groups * 2 * kUnitsPerGroup);
}
template <class To>
__device__ To staged_in(void* memory, int32_t n_groups) {
  To out;
  place_staged(memory, n_groups, out);
  return out;
}

/* Stages 8 consecutive values as unit `unit`, unless it is not `valid`. All lanes of a warp call, for
 * consecutive units from a multiple of 4 on. */
__device__ inline void store_unit(const Parts& to, int32_t unit, const float (&v)[8], bool valid) {
  uint32_t high[4], low[4];
  for (int p = 0; p < 4; p++) {
    high[p] = pack_bf16(v[p], v[p + 4]);
    low[p] = pack_bf16(v[p] - bf16_value(high[p] & 0xffff), v[p + 4] - bf16_value(high[p] >> 16));
  }
  if (!valid) return;
  to.high[unit] = {high[0], high[1], high[2], high[3]};
  to.low[unit] = {low[0], low[1], low[2], low[3]};
}
__device__ inline void store_unit(const Digits& to, int32_t unit, const float (&v)[8], bool valid) {
  constexpr float kMost = 127 * 256 + 127; /* the high byte rounds, so it must not reach 128 */
  uint32_t most = 0;                       /* as bits, so that NaN is the largest and spreads */
  for (float x : v) most = max(most, __float_as_uint(x) & 0x7fffffffu);
  for (int d = 1; d < 4; d *= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, d));
  const float top = __uint_as_float(most), scale = top / kMost;
  const float factor = scale > 0 && top <= 3e38f ? 1 / scale : 0.0f;
  uint32_t q[8], rounded[8];
  int32_t sum = 0;
  for (int i = 0; i < 8; i++) {
    const int32_t x = __float2int_rn(v[i] * factor);
    q[i] = static_cast<uint32_t>(x);
    rounded[i] = static_cast<uint32_t>(x + 128);
    sum += x;
  }
  for (int d = 1; d < 4; d *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  if (!valid) return;
  const auto bytes = [](const uint32_t(&x)[8], int odd, uint32_t selector) {
    return __byte_perm(__byte_perm(x[odd], x[odd + 2], selector),
                       __byte_perm(x[odd + 4], x[odd + 6], selector), 0x5410);
  };
  uint2* at = to.bytes + unit / 8 * 16 + unit % 8;
  at[0] = {bytes(rounded, 0, 0x0051), bytes(rounded, 1, 0x0051)};
  at[8] = {bytes(q, 0, 0x0040), bytes(q, 1, 0x0040)};
  if (unit % 4 == 0) to.scale[unit / 4] = {scale, scale * static_cast<float>(sum)};
}

/* Copies n_groups of a staged vector from device to shared memory; all threads of the block call. */
__device__ inline void copy_pieces(void* to, const void* from, int32_t n) {
#pragma unroll 4
  for (int32_t i = threadIdx.x; i < n; i += blockDim.x)
    static_cast<uint4*>(to)[i] = static_cast<const uint4*>(from)[i];
}
__device__ inline void copy_staged(const Parts& to, const Parts& from, int32_t n_groups) {
  copy_pieces(to.high, from.high, n_groups * kUnitsPerGroup);
  copy_pieces(to.low, from.low, n_groups * kUnitsPerGroup);
}
__device__ inline void copy_staged(const Digits& to, const Digits& from, int32_t n_groups) {
  copy_pieces(to.bytes, from.bytes, n_groups * kUnitsPerGroup);
  copy_pieces(to.scale, from.scale, n_groups * (kUnitsPerGroup / 8));
}

/* 8 consecutive floats; p is a multiple of 16 bytes. */
struct Eight {
  float4 first, second;
};
__device__ inline Eight load_eight(const float* p) {
  return {*reinterpret_cast<const float4*>(p), *reinterpret_cast<const float4*>(p + 4)};
}
__device__ inline void take_eight(const Eight& e, float (&v)[8]) {
  v[0] = e.first.x, v[1] = e.first.y, v[2] = e.first.z, v[3] = e.first.w;
  v[4] = e.second.x, v[5] = e.second.y, v[6] = e.second.z, v[7] = e.second.w;
}

/* What a thread loads of a norm's weights before it waits for the residual. */
__device__ inline Eight load_norm(const float* norm, int32_t dim) {
  const int32_t at = static_cast<int32_t>(threadIdx.x) * 8;
  return at < dim ? load_eight(norm + at) : Eight{};
}

/* Stages x * norm, padded with zeros to n_groups, and leaves the sum of squares of x in `squares`, a float
 * per warp. All threads of the block call, and use both behind a barrier. own: load_norm. */
template <int Threads, class To>
__device__ void stage_normed(const To& to, const float* x, const float* norm, const Eight& own, int32_t dim,
                             int32_t n_groups, float* squares) {
  const int32_t lane = threadIdx.x % kWarp, n_units = n_groups * kUnitsPerGroup;
  float square = 0;
  for (int32_t first = threadIdx.x - lane; first < n_units; first += Threads) {
    const int32_t unit = first + lane;
    float v[8] = {}, weight[8];
    if (unit * 8 < dim) {
      take_eight(load_eight(x + unit * 8), v);
      take_eight(unit == static_cast<int32_t>(threadIdx.x) ? own : load_eight(norm + unit * 8), weight);
      for (int i = 0; i < 8; i++) {
        square = fmaf(v[i], v[i], square);
        v[i] *= weight[i];
      }
    }
    store_unit(to, unit, v, unit < n_units);
  }
  square = warp_sum(square);
  if (lane == 0) squares[threadIdx.x / kWarp] = square;
}

/* Stages the 128 columns of one group. The block's first warp does it; all threads may call. */
template <class To>
__device__ void stage_group(const To& to, const float* from, float factor) {
  if (threadIdx.x >= kWarp) return;
  const int32_t unit = threadIdx.x;
  float v[8] = {};
  for (int i = 0; i < 8 && unit < kUnitsPerGroup; i++) v[i] = from[unit * 8 + i] * factor;
  store_unit(to, unit, v, unit < kUnitsPerGroup);
}
constexpr int kStagedGroup = (kUnitsPerGroup * 32 + 64) / 16; /* uint4 that hold it, whatever the type */

/* 1 / rms of what stage_normed read. */
template <int Threads>
__device__ float rms_factor(const float* squares, int32_t dim, float eps) {
  float sum = 0;
  for (int i = 0; i < Threads / kWarp; i++) sum += squares[i];
  return rsqrtf(sum / static_cast<float>(dim) + eps);
}

}  // namespace ek::cuda
#endif
