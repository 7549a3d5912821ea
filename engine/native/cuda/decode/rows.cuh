/* Rows of the cache: how one is made of what the projection gives, and how a pair of its numbers is read. */
#ifndef EK_CUDA_DECODE_ROWS_CUH
#define EK_CUDA_DECODE_ROWS_CUH
#include "../device/e4m3.h"
#include "kernels.h"

namespace ek::cuda {

constexpr int kRowThreads = kLatent / 2; /* that make a row: a pair of latents each */

/* Two numbers turned by an angle of cosine turn.x and sine turn.y. Sums are written as they are rounded, so
 * that decode and prefill give the same bits. */
__device__ inline __nv_bfloat162 turned(float2 v, float2 turn, float scale) {
  return __floats2bfloat162_rn(fmaf(v.x, turn.x, -(v.y * turn.y)) * scale,
                               fmaf(v.x, turn.y, v.y * turn.x) * scale);
}

__device__ inline float2 floats_of(__nv_bfloat162 pair) {
  return {__bfloat162float(pair.x), __bfloat162float(pair.y)};
}

/* Numbers 2 pair and 2 pair + 1 of a row, exactly; zeros where there is no row, of which nothing is read
 * then. Loads are single expressions, so that they are predicated, and those of several rows are under way at
 * once. */
template <RowFormat R>
__device__ float2 cached_pair(const uint8_t* row, int pair, bool exists = true) {
  if (R == RowFormat::kFp8 && pair < kLatent / 2) {
    const uint16_t bytes = exists ? reinterpret_cast<const uint16_t*>(row)[pair] : uint16_t{0};
    const float scale =
        exists ? reinterpret_cast<const float*>(row + kLatent)[pair / (kScaledLatents / 2)] : 0.0f;
    return {e4m3_value(static_cast<uint8_t>(bytes & 0xff)) * scale,
            e4m3_value(static_cast<uint8_t>(bytes >> 8)) * scale};
  }
  constexpr int kBefore = rope_offset(R) - kLatent * 2; /* bytes by which the rotated part lies elsewhere */
  const __nv_bfloat162* pairs = reinterpret_cast<const __nv_bfloat162*>(row + kBefore);
  return floats_of(exists ? pairs[pair] : __nv_bfloat162{});
}

/* A thread's numbers of a row before and after: pair threadIdx.x of the latents, and of the first kRope / 2
 * threads that of the rotated part. */
struct RowPairs {
  float2 latent, rope;
};

__device__ inline RowPairs sum_of(const RowPairs& a, const RowPairs& b) {
  return {{a.latent.x + b.latent.x, a.latent.y + b.latent.y}, {a.rope.x + b.rope.x, a.rope.y + b.rope.y}};
}

/* Pair `pair` of the n rows before `index`, added from the first on; n < Most. */
template <int Most, RowFormat R>
__device__ float2 sum_pairs_before(const CachedRows& rows, size_t index, int32_t n, int pair) {
  constexpr int kBytes = cache_row_bytes(R);
  const uint8_t* row = rows.data + index * kBytes;
  float2 sum{0, 0};
#pragma unroll
  for (int back = Most - 1; back > 0; back--) {
    const float2 v = cached_pair<R>(row - back * kBytes, pair, back <= n);
    sum = {sum.x + v.x, sum.y + v.y};
  }
  return sum;
}

/* The same of the thread's pairs. */
template <int Most, RowFormat R>
__device__ RowPairs sum_rows_before(const CachedRows& rows, size_t index, int32_t n) {
  const int i = static_cast<int>(threadIdx.x);
  RowPairs sum{};
  sum.latent = sum_pairs_before<Most, R>(rows, index, n, i);
  if (i < kRope / 2) sum.rope = sum_pairs_before<Most, R>(rows, index, n, kLatent / 2 + i);
  return sum;
}

/* kv (latent + rope): the projection's output. */
__device__ inline RowPairs load_row_pairs(const float* kv) {
  const int i = static_cast<int>(threadIdx.x);
  const float2* pairs = reinterpret_cast<const float2*>(kv);
  return {pairs[i], i < kRope / 2 ? pairs[kLatent / 2 + i] : float2{0, 0}};
}

/* Stores a thread's pair of latents as e4m3; returns what it stored. The scale is that of the kScaledLatents
 * that two warps have. most: shared, a word per warp. */
__device__ inline float2 store_fp8_pair(uint8_t* row, float2 v, uint32_t* most) {
  static_assert(kScaledLatents == 4 * kWarp, "two warps share a scale");
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  /* As bits, so that NaN is the largest. */
  uint32_t top = max(__float_as_uint(v.x) & 0x7fffffffu, __float_as_uint(v.y) & 0x7fffffffu);
  top = __reduce_max_sync(0xffffffffu, top);
  if (threadIdx.x % kWarp == 0) most[warp] = top;
  __syncthreads();
  const float scale = e4m3_scale(__uint_as_float(max(most[warp & ~1], most[warp | 1])));
  const float factor = 1.0f / scale;
  const uint32_t low = e4m3_of(v.x * factor), high = e4m3_of(v.y * factor);
  reinterpret_cast<uint16_t*>(row)[threadIdx.x] = static_cast<uint16_t>(low | high << 8);
  if (threadIdx.x % (2 * kWarp) == 0) reinterpret_cast<float*>(row + kLatent)[warp / 2] = scale;
  return {e4m3_value(static_cast<uint8_t>(low)) * scale, e4m3_value(static_cast<uint8_t>(high)) * scale};
}

/* Makes and stores a row: RMSNorm of the latents, the rotated part turned. norm: the thread's pair; turn: of
 * its rotated pair. Returns the pairs as they are stored. All threads of a block of kRowThreads call. */
__device__ inline RowPairs store_row_pairs(const CachedRows& rows, size_t index, const RowPairs& kv,
                                           float2 norm, float2 turn, float eps) {
  __shared__ float sums[kRowThreads / kWarp];
  __shared__ uint32_t most[kRowThreads / kWarp];
  const int i = static_cast<int>(threadIdx.x);
  uint8_t* row = rows.row(index);
  const float square =
      block_sum<kRowThreads>(fmaf(kv.latent.x, kv.latent.x, kv.latent.y * kv.latent.y), sums);
  const float scale = rsqrtf(square / kLatent + eps);
  RowPairs out{{kv.latent.x * scale * norm.x, kv.latent.y * scale * norm.y}, {0, 0}};
  if (rows.format == RowFormat::kFp8) {
    out.latent = store_fp8_pair(row, out.latent, most);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(out.latent.x, out.latent.y);
    reinterpret_cast<__nv_bfloat162*>(row)[i] = pair;
    out.latent = floats_of(pair);
  }
  if (i < kRope / 2) {
    const __nv_bfloat162 pair = turned(kv.rope, turn, 1.0f);
    reinterpret_cast<__nv_bfloat162*>(row + rope_offset(rows.format))[i] = pair;
    out.rope = floats_of(pair);
  }
  return out;
}

}  // namespace ek::cuda
#endif
