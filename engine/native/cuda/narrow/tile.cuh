/* Attention of one token to a tile of 32 rows of f16 in shared memory, all heads at once, f32 arithmetic. A
 * thread has one score: row threadIdx / 8, head threadIdx % 8. */
#ifndef EK_CUDA_NARROW_TILE_CUH
#define EK_CUDA_NARROW_TILE_CUH
#include "../ops/cache.cuh"
#include "rows.cuh"

namespace ek::cuda::narrow {

static_assert(kTileRows * kMostHeads == kThreads, "a thread per score");

/* Distances of rows, so that neighbouring rows' 16 bytes lie in other banks. */
constexpr int kKeyPitch = kWidth + 8, kValuePitch = kLatent + 8;
constexpr int kValueGroups = 4, kGroupRows = kTileRows / kValueGroups;

/* Shared memory of a block. Values of cached rows are the first columns of their keys. */
struct Tile {
  __half keys[kTileRows * kKeyPitch];
  __half values[kTileRows * kValuePitch];
  float query[kWidth * kMostHeads];
  float part[kValueGroups * kMostHeads * kLatent]; /* shares of a sum */
  float weight[2][kTileRows * kMostHeads];
  float top[2][kWarps * kMostHeads], sum[2][kWarps * kMostHeads];
};

/* Begins to copy `n` halves, a multiple of 8, of row r; the threads of a block share the pieces of all rows.
 * from(r): where the row lies, or null for zeros; `skip`: a row that is left alone. */
template <class From>
__device__ void copy_rows(__half* to, int pitch, int n, int32_t skip, From&& from) {
  const int pieces = n / 8;
  for (int i = threadIdx.x; i < kTileRows * pieces; i += kThreads) {
    const int r = i / pieces, at = i % pieces * 8;
    if (r == skip) continue;
    const __half* row = from(r);
    copy_async_16(to + r * pitch + at, row == nullptr ? static_cast<const void*>(to) : row + at,
                  row != nullptr);
  }
}

__device__ inline void load_query(Tile& tile, const float* query) {
  for (int i = threadIdx.x; i < kWidth * kMostHeads / 4; i += kThreads)
    reinterpret_cast<float4*>(tile.query)[i] = reinterpret_cast<const float4*>(query)[i];
}

/* This thread's score. The warps share the columns; a lane has a row. Keys and query must be there. */
__device__ inline float score_of(Tile& tile) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  float sum[kMostHeads] = {};
  for (int unit = warp; unit < kWidth / 8; unit += kWarps) {
    const uint4 eight = *reinterpret_cast<const uint4*>(tile.keys + lane * kKeyPitch + unit * 8);
    const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
    for (int i = 0; i < 8; i++) {
      const float k = half_value(static_cast<uint16_t>(words[i / 2] >> 16 * (i % 2)));
      const float4* q = reinterpret_cast<const float4*>(tile.query + (unit * 8 + i) * kMostHeads);
      const float4 low = q[0], high = q[1];
      const float by[kMostHeads] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      for (int h = 0; h < kMostHeads; h++) sum[h] = fmaf(by[h], k, sum[h]);
    }
  }
  float4* to = reinterpret_cast<float4*>(tile.part + (warp * kTileRows + lane) * kMostHeads);
  to[0] = {sum[0], sum[1], sum[2], sum[3]};
  to[1] = {sum[4], sum[5], sum[6], sum[7]};
  __syncthreads();
  float score = 0;
  for (int w = 0; w < kWarps; w++) score += tile.part[w * kThreads + threadIdx.x];
  return score;
}

/* Weights relative to the tile's maximum, for each branch that the row belongs to, and their sums by head.
 * maxima, sums: (kMostHeads) of this tile, in device memory. */
template <int Branches>
__device__ void weigh(Tile& tile, float score, const bool (&in)[Branches], float* const (&maxima)[Branches],
                      float* const (&sums)[Branches]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, h = threadIdx.x % kMostHeads;
  for (int b = 0; b < Branches; b++) {
    float top = in[b] ? score : -INFINITY;
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 8));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 16));
    if (lane < kMostHeads) tile.top[b][warp * kMostHeads + lane] = top;
  }
  __syncthreads();
  for (int b = 0; b < Branches; b++) {
    float top = tile.top[b][h];
    for (int w = 1; w < kWarps; w++) top = fmaxf(top, tile.top[b][w * kMostHeads + h]);
    const float weight = in[b] ? expf(score - top) : 0.0f;
    tile.weight[b][threadIdx.x] = weight;
    float sum = weight + __shfl_xor_sync(0xffffffffu, weight, 8);
    sum += __shfl_xor_sync(0xffffffffu, sum, 16);
    if (lane < kMostHeads) tile.sum[b][warp * kMostHeads + lane] = sum;
    if (threadIdx.x < kMostHeads) maxima[b][h] = top;
  }
  __syncthreads();
  if (threadIdx.x >= kMostHeads) return;
  for (int b = 0; b < Branches; b++) {
    float sum = 0;
    for (int w = 0; w < kWarps; w++) sum += tile.sum[b][w * kMostHeads + h];
    sums[b][h] = sum;
  }
}

/* Adds a column pair of a row, weighted, to the sums of all heads. */
__device__ inline void add_row(float (&sum)[kMostHeads][2], const float* weight, float even, float odd) {
  const float4* w = reinterpret_cast<const float4*>(weight);
  const float4 low = w[0], high = w[1];
  const float by[kMostHeads] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
  for (int h = 0; h < kMostHeads; h++) {
    sum[h][0] = fmaf(by[h], even, sum[h][0]);
    sum[h][1] = fmaf(by[h], odd, sum[h][1]);
  }
}

/* Weighted sums of the values, (n_heads, latent) per branch; a branch without rows is left out. A thread has
 * a pair of columns of a quarter of the rows. */
template <int Branches>
__device__ void sum_values(Tile& tile, const __half* values, int pitch, const bool (&present)[Branches],
                           float* const (&out)[Branches], int32_t n_heads) {
  const int pair = threadIdx.x % (kLatent / 2), group = threadIdx.x / (kLatent / 2);
  float sum[Branches][kMostHeads][2] = {};
  for (int i = 0; i < kGroupRows; i++) {
    const int r = group * kGroupRows + i;
    const uint32_t two = *reinterpret_cast<const uint32_t*>(values + r * pitch + pair * 2);
    const float even = half_value(static_cast<uint16_t>(two & 0xffff)),
                odd = half_value(static_cast<uint16_t>(two >> 16));
    for (int b = 0; b < Branches; b++) {
      if (present[b]) add_row(sum[b], tile.weight[b] + r * kMostHeads, even, odd);
    }
  }
  for (int b = 0; b < Branches; b++) {
    if (!present[b]) continue;
    for (int h = 0; h < kMostHeads; h++) {
      float* to = tile.part + (group * kMostHeads + h) * kLatent + pair * 2;
      to[0] = sum[b][h][0];
      to[1] = sum[b][h][1];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n_heads * kLatent; i += kThreads) {
      float total = 0;
      for (int g = 0; g < kValueGroups; g++) total += tile.part[g * kMostHeads * kLatent + i];
      out[b][i] = total;
    }
    __syncthreads();
  }
}

}  // namespace ek::cuda::narrow
#endif
