/* Products of 16 rows of a weight with one vector on tensor cores, 128 columns at a time.
 *
 * Integers of a weight meet the vector in 16-bit fixed point: a high and a low byte of each number, two of
 * the eight columns of m16n8k32. The four parts of a group take two columns each, so that one tile holds the
 * sums of all parts and lane t of a quad has those of part t, which then meet that part's scales: nothing of
 * the weight is rounded, and of the vector 15 bits are kept below the largest number of each 32. A weight of
 * bf16 meets the vector split into two bf16 parts (16 bits of mantissa). */
#ifndef EK_CUDA_DECODE_PRODUCT_CUH
#define EK_CUDA_DECODE_PRODUCT_CUH
#include "staged.cuh"

namespace ek::cuda {

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

/* A fragment as signed bytes, and the scales of the lane's part of each of its two rows. */
template <ek_type F>
struct Unpacked {
  static constexpr int kHalves = F == EK_Q6_K ? 2 : 1; /* its scales span 16 columns */
  uint32_t bytes[4][2][2];                             /* part, row, columns 0 2 4 6 and 1 3 5 7 */
  float scale[2][kHalves], min[2];
};

template <ek_type F>
__device__ Unpacked<F> unpack(const Fragment<F>& f, int t) {
  Unpacked<F> out;
#pragma unroll
  for (int part = 0; part < 4; part++) {
    for (int r = 0; r < 2; r++) unpack_bytes<F>(f, r, part, out.bytes[part][r]);
  }
  for (int r = 0; r < 2; r++) {
    for (int half = 0; half < Unpacked<F>::kHalves; half++) out.scale[r][half] = byte_scale<F>(f, r, t, half);
    if constexpr (F == EK_Q4_K) {
      const float dmin = half_value(static_cast<uint16_t>(f.super[r] >> 16));
      out.min[r] = dmin * static_cast<float>(f.scale[r].y >> 8 * t & 0xff);
    }
  }
  return out;
}

/* y[r] += the lane's share of row g + 8 r times columns [128 group, 128 group + 128) of x. A row's product is
 * the sum over its four lanes: quad_sum. */
template <ek_type F>
__device__ void multiply(const Unpacked<F>& w, const Digits& x, int32_t group, int lane, float (&y)[2]) {
  constexpr int kHalves = Unpacked<F>::kHalves;
  const int g = lane / 4, t = lane % 4;
  const int32_t unit = group * kUnitsPerGroup + g / 2 * 4 + t;
  const uint2 own = x.bytes[unit / 8 * 16 + g % 2 * 8 + unit % 8];
  int32_t c[kHalves][4] = {};
#pragma unroll
  for (int part = 0; part < 4; part++) {
    const uint32_t(&a)[2][2] = w.bytes[part];
    for (int half = 0; half < kHalves; half++) {
      const bool used = g / 2 == part && (kHalves == 1 || t / 2 == half);
      mma_s8(c[half], a[0][0], a[1][0], a[0][1], a[1][1], used ? own.x : 0, used ? own.y : 0);
    }
  }
  const float2 scale = x.scale[group * 4 + t];
  for (int r = 0; r < 2; r++) {
    for (int half = 0; half < kHalves; half++) {
      const float sum = static_cast<float>(c[half][2 * r] * 256 + c[half][2 * r + 1]);
      y[r] = fmaf(w.scale[r][half], sum * scale.x, y[r]);
    }
    if constexpr (F == EK_Q4_K) y[r] = fmaf(-w.min[r], scale.y, y[r]);
  }
}
template <ek_type F>
__device__ void multiply(const Fragment<F>& f, const Digits& x, int32_t group, int lane, float (&y)[2]) {
  multiply(unpack<F>(f, lane % 4), x, group, lane, y);
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

/* Up to kMany vectors that a block has staged, of which those with a bit in `mask` count. */
template <ek_type F, int kMany>
struct StagedMany {
  uint8_t* memory;
  int32_t n_groups;
  uint32_t mask;

  __device__ Staged<F> at(int i) const {
    return staged_in<Staged<F>>(memory + i * staged_bytes<Staged<F>>(n_groups), n_groups);
  }
  __device__ bool has(int i) const { return mask >> i & 1; }
};

/* The same for several vectors: a fragment is unpacked once. */
template <ek_type F, int kMany>
__device__ void multiply_turn(const uint8_t* slot, const StagedMany<F, kMany>& x, int32_t turn, bool whole,
                              int lane, float (&y)[kMany][2]) {
#pragma unroll
  for (int i = 0; i < kTurnGroups<F>; i++) {
    if (i == 1 && !whole) break;
    const Fragment<F> f = read_slot<F>(slot, i, lane);
    const auto multiply_all = [&](const auto& w) {
#pragma unroll
      for (int v = 0; v < kMany; v++) {
        if (kMany == 1 || x.has(v)) multiply(w, x.at(v), turn * kTurnGroups<F> + i, lane, y[v]);
      }
    };
    if constexpr (is_float8_or_16(F)) {
      multiply_all(f);
    } else {
      multiply_all(unpack<F>(f, lane % 4));
    }
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
  /* x, y: a vector and its sums, or several. */
  template <class X, class Y>
  __device__ void multiply_all(const X& x, Y& y) {
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
