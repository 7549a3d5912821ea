/* Products of 16 rows of a weight with one vector on tensor cores, 128 columns at a time.
 *
 * Integers of a weight meet the vector in 16-bit fixed point: a high and a low byte of each number, two of
 * the eight columns of m16n8k32. The four parts of a group take two columns each, so that one tile holds the
 * sums of all parts and lane t of a quad has those of part t, which then meet that part's scales: nothing of
 * the weight is rounded, and of the vector 15 bits are kept below the largest number of each 32. A weight of
 * bf16 meets the vector split into two bf16 parts (16 bits of mantissa). */
#ifndef EK_CUDA_DECODE_PRODUCT_CUH
#define EK_CUDA_DECODE_PRODUCT_CUH
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

/* The scale of the lane's part; half: which 16 columns, for Q6_K. */
template <ek_type F>
__device__ float byte_scale(const Fragment<F>& f, int r, int t, int half) {
  const uint32_t word = t < 2 ? f.scale[r].x : f.scale[r].y;
  if constexpr (F == EK_Q4_K) {
    return half_value(static_cast<uint16_t>(f.super[r] & 0xffff)) *
           static_cast<float>(f.scale[r].x >> 8 * t & 0xff);
  } else if constexpr (F == EK_Q6_K) {
    const int8_t byte = static_cast<int8_t>(word >> (t % 2 * 16 + half * 8) & 0xff);
    return 0.25f * half_value(static_cast<uint16_t>(f.super[r])) * static_cast<float>(byte);
  } else {
    const float d = half_value(static_cast<uint16_t>(word >> t % 2 * 16 & 0xffff));
    return F == EK_Q5_0 ? 0.125f * d : d;
  }
}

/* y[r] += the lane's share of row g + 8 r times columns [128 group, 128 group + 128) of x. A row's product is
 * the sum over its four lanes: quad_sum. */
template <ek_type F>
__device__ void multiply(const Fragment<F>& f, const Digits& x, int32_t group, int lane, float (&y)[2]) {
  const int g = lane / 4, t = lane % 4;
  const int32_t unit = group * kUnitsPerGroup + g / 2 * 4 + t;
  const uint2 own = x.bytes[unit / 8 * 16 + g % 2 * 8 + unit % 8];
  constexpr int kHalves = F == EK_Q6_K ? 2 : 1; /* its scales span 16 columns */
  int32_t c[kHalves][4] = {};
#pragma unroll
  for (int part = 0; part < 4; part++) {
    uint32_t a[2][2];
    unpack_bytes<F>(f, 0, part, a[0]);
    unpack_bytes<F>(f, 1, part, a[1]);
    for (int half = 0; half < kHalves; half++) {
      const bool used = g / 2 == part && (kHalves == 1 || t / 2 == half);
      mma_s8(c[half], a[0][0], a[1][0], a[0][1], a[1][1], used ? own.x : 0, used ? own.y : 0);
    }
  }
  const float2 scale = x.scale[group * 4 + t];
  for (int r = 0; r < 2; r++) {
    for (int half = 0; half < kHalves; half++) {
      const float sum = static_cast<float>(c[half][2 * r] * 256 + c[half][2 * r + 1]);
      y[r] = fmaf(byte_scale<F>(f, r, t, half), sum * scale.x, y[r]);
    }
    if constexpr (F == EK_Q4_K) {
      const float dmin = half_value(static_cast<uint16_t>(f.super[r] >> 16));
      const float min = dmin * static_cast<float>(f.scale[r].y >> 8 * t & 0xff);
      y[r] = fmaf(-min, scale.y, y[r]);
    }
  }
}
template <ek_type F>
__device__ void multiply(const Fragment<F>& f, const Parts& x, int32_t group, int lane, float (&y)[2]) {
  const int g = lane / 4, t = lane % 4;
  float even[4] = {}, odd[4] = {};
#pragma unroll
  for (int part = 0; part < 4; part++) {
    uint32_t a[4], b[4];
    unpack_pairs<F>(f, 0, part, a);
    unpack_pairs<F>(f, 1, part, b);
    uint4 v{0, 0, 0, 0};
    if (g < 2) v = (g == 0 ? x.high : x.low)[group * kUnitsPerGroup + part * 4 + t];
    mma_bf16(even, a[0], b[0], a[1], b[1], v.x, v.y);
    mma_bf16(odd, a[2], b[2], a[3], b[3], v.z, v.w);
  }
  for (int r = 0; r < 2; r++) {
    const float sum = (even[2 * r] + even[2 * r + 1]) + (odd[2 * r] + odd[2 * r + 1]);
    if constexpr (F == EK_BF16) {
      y[r] += sum;
    } else {
      y[r] = fmaf(pair_affine<F>(f, r, 0, 0).scale, sum, y[r]);
    }
  }
}

/* y += the share of the lane in a turn's product: group 0 of x is the weight's. */
template <ek_type F>
__device__ void multiply_turn(const uint8_t* slot, const Staged<F>& x, int32_t turn, bool whole, int lane,
                              float (&y)[2]) {
#pragma unroll
  for (int i = 0; i < kTurnGroups<F>; i++) {
    if (i == 1 && !whole) break;
    multiply(read_slot<F>(slot, i, lane), x, turn * kTurnGroups<F> + i, lane, y);
  }
}

/* A warp's turns on their way through kSlots slots of shared memory. */
template <int kSlots>
struct TurnStream {
  int32_t n_turns;
  int32_t asked = 0; /* turns whose copies have begun */

  /* copy(slot) begins the copies of the next turn. Begins those of the first turns, up to `end`. */
  template <class Copy>
  __device__ void prefetch(Copy&& copy, int32_t end) {
    for (; asked < min(end, min(n_turns, kSlots)); asked++) {
      copy(asked);
      copy_async_commit();
    }
  }
  /* use(slot) for every turn in order, its copies done. */
  template <class Copy, class Use>
  __device__ void take_turns(Copy&& copy, Use&& use) {
    prefetch(copy, kSlots);
    for (; asked < kSlots; asked++)
      copy_async_commit(); /* so that a turn's group is always the kSlots-th last */
    int slot = 0;
    for (int32_t turn = 0; turn < n_turns; turn++) {
      copy_async_wait<kSlots - 1>();
      __syncwarp();
      use(slot);
      if (turn + kSlots < n_turns) {
        __syncwarp();
        copy(slot);
      }
      copy_async_commit();
      slot = slot + 1 == kSlots ? 0 : slot + 1;
    }
  }
};

/* Slots per warp so that a block's take no more than 72 KB: any GPU has that. */
constexpr int slots_for(int slot_bytes, int n_warps, int most) {
  const int n = 72 * 1024 / (slot_bytes * n_warps);
  return n < 1 ? 1 : n > most ? most : n;
}

/* Turns of a warp that has turns first, first + step, … of n. */
__device__ inline int32_t share_of(int32_t n, int32_t first, int32_t step) {
  return first < n ? (n - first + step - 1) / step : 0;
}

/* Turns first, first + step, … of 16 rows of a weight, through a warp's slots (kSlots * kTurnBytes<F>). */
template <ek_type F, int kSlots>
struct RowStream {
  int32_t n_groups, first, step;
  uint8_t* slots;
  const uint8_t* next; /* the turn to copy next */
  int32_t next_turn;
  TurnStream<kSlots> stream;

  __device__ RowStream(const WeightView& w, size_t row, int32_t first_turn, int32_t step_turns,
                       uint8_t* of_warp)
      : n_groups(w.n_groups), first(first_turn), step(step_turns), slots(of_warp), next_turn(first_turn) {
    stream.n_turns = share_of(turns_of<F>(n_groups), first_turn, step_turns);
    set_row(w, row);
  }
  __device__ void set_row(const WeightView& w, size_t row) {
    next = tile_at<F>(w, row) + first * kTurnBytes<F>;
  }
  __device__ void copy(int slot) {
    copy_turn<F>(slots + slot * kTurnBytes<F>, next, is_whole<F>(next_turn, n_groups), threadIdx.x % kWarp);
    next += step * kTurnBytes<F>;
    next_turn += step;
  }
  __device__ void prefetch() {
    stream.prefetch([&](int slot) { copy(slot); }, kSlots);
  }
  __device__ void multiply_all(const Staged<F>& x, float (&y)[2]) {
    const int lane = threadIdx.x % kWarp;
    int32_t turn = first;
    stream.take_turns([&](int slot) { copy(slot); },
                      [&](int slot) {
                        multiply_turn<F>(slots + slot * kTurnBytes<F>, x, turn, is_whole<F>(turn, n_groups),
                                         lane, y);
                        turn += step;
                      });
  }
};

}  // namespace ek::cuda
#endif
