/* Absorbed attention of one token over a tile of 64 rows: the 16 heads are the rows of one tensor-core tile,
 * a tile of rows serves as keys, and its first 512 columns as values. Every byte of a tile is read from
 * shared memory once for scores and once for values: four warps share the rows and two the columns of a
 * score. */
#ifndef EK_CUDA_DECODE_ATTEND_TILE_CUH
#define EK_CUDA_DECODE_ATTEND_TILE_CUH
#include "../prefill/tile.cuh"
#include "scores.cuh"

namespace ek::cuda {

constexpr int kWeightPitch = kTileTokens + 8; /* bf16 */
constexpr int kHalf = kRow / 2, kHalfSteps = kHalf / 16;
constexpr int kWarpDims = kLatent / kWarps; /* latent columns per warp */

/* ScoreBuffers: 2 for the sums of both halves of the columns, or 1 where they are added in place, which takes
 * a barrier more and fits into 99 KB beside a tile. */
template <int ScoreBuffers>
struct AttendShared {
  __nv_bfloat16 query[kHeads * kPitch];
  float score[ScoreBuffers][kHeads * kSPitch];
  __nv_bfloat16 weight[kHeads * kWeightPitch];
  float scale[kHeads]; /* of what was summed before this tile */
};

template <int ScoreBuffers>
constexpr size_t kAttendShared = (sizeof(AttendShared<ScoreBuffers>) + 15) / 16 * 16;
constexpr size_t kRowsTile = sizeof(__nv_bfloat16) * kTileTokens * kPitch;

/* Which rows of a tile count: [begin, end). */
struct Bounds {
  int32_t begin, end;
};

/* What a block has summed of its tiles. Running maximum and sum of a head are held by its 16 threads, the
 * weighted latents as mma_bf16: a warp has kWarpDims columns. */
struct RowSums {
  float top = -INFINITY, sum = 0;
  float out[kWarpDims / 8][4] = {};
};

/* The part of a tile that a warp scores. */
struct WarpPart {
  int row, half; /* 16 rows from `row` on, one half of the columns */
};
__device__ inline WarpPart warp_part() {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  return {warp % 4 * 16, warp / 4};
}

/* Scores of a warp's rows over its columns: of the steps with even and odd numbers, of 8 rows each. */
using PartScores = float[2][2][4];

/* Adds step k, 16 columns of the warp's half; q: the queries there. */
__device__ inline void add_scores(PartScores& c, const uint32_t (&q)[4], const __nv_bfloat16* tile,
                                  const WarpPart& part, int k, int lane) {
  uint32_t b[4];
  load_right<kPitch>(b, tile, part.row, part.half * kHalf + k * 16, lane);
  for (int n = 0; n < 2; n++) mma_bf16(c[k % 2][n], q[0], q[1], q[2], q[3], b[2 * n], b[2 * n + 1]);
}

/* score (heads, kSPitch) = the warp's scores, or += them. */
template <bool Add>
__device__ void store_part_scores(float* score, const PartScores& c, const WarpPart& part, int lane) {
  float* to = score + lane / 4 * kSPitch + part.row + lane % 4 * 2;
  for (int n = 0; n < 2; n++) {
    for (int low = 0; low < 2; low++) {
      float2* pair = reinterpret_cast<float2*>(to + n * 8 + low * 8 * kSPitch);
      float2 sum = {c[0][n][low * 2] + c[1][n][low * 2], c[0][n][low * 2 + 1] + c[1][n][low * 2 + 1]};
      if constexpr (Add) sum = {pair->x + sum.x, pair->y + sum.y};
      *pair = sum;
    }
  }
}

/* The largest of a head's 16 threads, and their sum. */
__device__ inline float head_max(float x) {
  for (int d = 8; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}
__device__ inline float head_sum(float x) {
  for (int d = 8; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

/* Weights of a tile's rows from their scores v, which it returns: thread 16 h + i has rows 4 i to 4 i + 3 of
 * head h, those that do not count at -INFINITY. */
template <int ScoreBuffers>
__device__ void weigh_rows(AttendShared<ScoreBuffers>& s, const Bounds& bounds, RowSums& sums,
                           float (&v)[4]) {
  const int h = threadIdx.x / 16, i = threadIdx.x % 16;
  const float4 a = *reinterpret_cast<const float4*>(s.score[0] + h * kSPitch + i * 4);
  float both[4] = {a.x, a.y, a.z, a.w};
  if constexpr (ScoreBuffers == 2) {
    const float4 b = *reinterpret_cast<const float4*>(s.score[1] + h * kSPitch + i * 4);
    both[0] += b.x, both[1] += b.y, both[2] += b.z, both[3] += b.w;
  }
  float top = sums.top, sum = 0, p[4];
  for (int j = 0; j < 4; j++) {
    v[j] = i * 4 + j >= bounds.begin && i * 4 + j < bounds.end ? both[j] : -INFINITY;
    top = fmaxf(top, v[j]);
  }
  top = head_max(top);
  for (int j = 0; j < 4; j++) {
    p[j] = __bfloat162float(__float2bfloat16_rn(v[j] == -INFINITY ? 0.0f : expf(v[j] - top)));
    sum += p[j];
  }
  *reinterpret_cast<uint2*>(s.weight + h * kWeightPitch + i * 4) = {pack_bf16(p[0], p[1]),
                                                                    pack_bf16(p[2], p[3])};
  const float scale = sums.top == -INFINITY ? 0.0f : expf(sums.top - top);
  sums.sum = sums.sum * scale + head_sum(sum);
  sums.top = top;
  if (i == 0) s.scale[h] = scale;
}

/* out += weights times the tile's columns [first, first + Dims). */
template <int Dims = kWarpDims, int ScoreBuffers>
__device__ void add_rows(const AttendShared<ScoreBuffers>& s, const __nv_bfloat16* tile, int first,
                         RowSums& sums) {
  const int lane = threadIdx.x % kWarp, g = lane / 4;
  const float upper = s.scale[g], lower = s.scale[g + 8];
#pragma unroll
  for (int n = 0; n < Dims / 8; n++) {
    for (int i = 0; i < 4; i++) sums.out[n][i] *= i < 2 ? upper : lower;
  }
#pragma unroll
  for (int k = 0; k < kTileTokens; k += 16) {
    uint32_t a[4];
    load_left<kWeightPitch>(a, s.weight, 0, k, lane);
#pragma unroll
    for (int n = 0; n < Dims / 8; n += 2) {
      uint32_t b[4];
      load_right_transposed<kPitch>(b, tile, first + n * 8, k, lane);
      mma_bf16(sums.out[n], a[0], a[1], a[2], a[3], b[0], b[1]);
      mma_bf16(sums.out[n + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
    }
  }
}

/* Columns [first, first + Dims) of part (heads, kLatent) = the weighted latents. */
template <int Dims = kWarpDims>
__device__ void store_latents(float* part, int first, const RowSums& sums) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  float* to = part + first;
#pragma unroll
  for (int n = 0; n < Dims / 8; n++) {
    *reinterpret_cast<float2*>(to + g * kLatent + n * 8 + 2 * t) = {sums.out[n][0], sums.out[n][1]};
    *reinterpret_cast<float2*>(to + (g + 8) * kLatent + n * 8 + 2 * t) = {sums.out[n][2], sums.out[n][3]};
  }
}

/* The first of the latents that a warp sums, where a block sums all. */
__device__ inline int own_latents() { return threadIdx.x / kWarp * kWarpDims; }

}  // namespace ek::cuda
#endif
