/* Absorbed attention of one token over tiles of 64 rows: the 16 heads are the rows of one tensor-core tile, a
 * tile of rows serves as keys, and its first 512 columns as values. Every byte of a tile is read from shared
 * memory once for scores and once for values: four warps share the rows and two the columns of a score. */
#ifndef EK_CUDA_NSA_ROWS_CUH
#define EK_CUDA_NSA_ROWS_CUH
#include "../decode/scores.cuh"
#include "../prefill/tile.cuh"

namespace ek::cuda {

constexpr int kWeightPitch = kTileTokens + 8; /* bf16 */
constexpr int kHalf = kRow / 2, kHalfSteps = kHalf / 16;
constexpr int kWarpDims = kLatent / kWarps; /* latent columns per warp */

struct RowsShared {
  __nv_bfloat16 query[kHeads * kPitch];
  float score[2][kHeads * kSPitch]; /* of both halves of the columns */
  __nv_bfloat16 weight[kHeads * kWeightPitch];
  float scale[kHeads]; /* of what was summed before this tile */
};

constexpr size_t kRowsShared = (sizeof(RowsShared) + 15) / 16 * 16;
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

/* Begins to copy the queries (heads, row) of a token; the next tile ends the group of copies. */
__device__ inline void load_rows_query(uint4* memory, const __nv_bfloat16* query) {
  RowsShared& s = *reinterpret_cast<RowsShared*>(memory);
  constexpr int kChunks = kRow / 8;
  for (int i = threadIdx.x; i < kHeads * kChunks; i += kThreads)
    copy_async_16(s.query + i / kChunks * kPitch + i % kChunks * 8, query + i * 8, true);
}

/* Begins to copy a tile but its row `left_out`; rows that do not count become zeros. A warp has 8 rows, and
 * asks for all of their places at once. */
template <class Source>
__device__ void load_rows_of(__nv_bfloat16* tile, const Source& source, int32_t entry,
                             int32_t left_out = -1) {
  constexpr int kWarpRows = kTileTokens / kWarps;
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kWarpRows;
  const Bounds bounds = source.bounds(entry);
  const auto is_valid = [&](int row) { return row >= bounds.begin && row < bounds.end; };
  const __nv_bfloat16* from[kWarpRows];
#pragma unroll
  for (int i = 0; i < kWarpRows; i++)
    from[i] = source.row(entry, is_valid(first + i) ? first + i : bounds.begin) + lane * 8;
  __nv_bfloat16* to = tile + first * kPitch + lane * 8;
#pragma unroll
  for (int i = 0; i < kWarpRows; i++) {
    for (int chunk = 0; chunk < kRow / 8; chunk += kWarp) {
      if (chunk + lane < kRow / 8 && first + i != left_out)
        copy_async_16(to + i * kPitch + chunk * 8, from[i] + chunk * 8, is_valid(first + i));
    }
  }
  copy_async_commit();
}

/* The warp's half of the queries as left matrices. */
__device__ inline void load_query_half(uint32_t (&q)[kHalfSteps][4], const RowsShared& s) {
  const int lane = threadIdx.x % kWarp, half = static_cast<int>(threadIdx.x) / kWarp / 4;
#pragma unroll
  for (int k = 0; k < kHalfSteps; k++) load_left<kPitch>(q[k], s.query, 0, half * kHalf + k * 16, lane);
}

/* Scores of 16 rows over half of the columns. */
__device__ inline void score_half(RowsShared& s, const uint32_t (&q)[kHalfSteps][4],
                                  const __nv_bfloat16* tile) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, first = warp % 4 * 16, half = warp / 4;
  float c[2][2][4] = {};
#pragma unroll
  for (int k = 0; k < kHalfSteps; k++) {
    uint32_t b[4];
    load_right<kPitch>(b, tile, first, half * kHalf + k * 16, lane);
    for (int n = 0; n < 2; n++)
      mma_bf16(c[k % 2][n], q[k][0], q[k][1], q[k][2], q[k][3], b[2 * n], b[2 * n + 1]);
  }
  float* to = s.score[half] + lane / 4 * kSPitch + first + lane % 4 * 2;
  for (int n = 0; n < 2; n++) {
    *reinterpret_cast<float2*>(to + n * 8) = {c[0][n][0] + c[1][n][0], c[0][n][1] + c[1][n][1]};
    *reinterpret_cast<float2*>(to + n * 8 + 8 * kSPitch) = {c[0][n][2] + c[1][n][2], c[0][n][3] + c[1][n][3]};
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
__device__ inline void weigh_rows(RowsShared& s, const Bounds& bounds, RowSums& sums, float (&v)[4]) {
  const int h = threadIdx.x / 16, i = threadIdx.x % 16;
  const float4 a = *reinterpret_cast<const float4*>(s.score[0] + h * kSPitch + i * 4);
  const float4 b = *reinterpret_cast<const float4*>(s.score[1] + h * kSPitch + i * 4);
  const float both[4] = {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
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

/* out += weights times the first kLatent columns of the tile. */
__device__ inline void add_rows(const RowsShared& s, const __nv_bfloat16* tile, RowSums& sums) {
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kWarpDims, g = lane / 4;
  const float upper = s.scale[g], lower = s.scale[g + 8];
  for (int n = 0; n < kWarpDims / 8; n++) {
    for (int i = 0; i < 4; i++) sums.out[n][i] *= i < 2 ? upper : lower;
  }
#pragma unroll
  for (int k = 0; k < kTileTokens; k += 16) {
    uint32_t a[4];
    load_left<kWeightPitch>(a, s.weight, 0, k, lane);
#pragma unroll
    for (int n = 0; n < kWarpDims / 8; n += 2) {
      uint32_t b[4];
      load_right_transposed<kPitch>(b, tile, first + n * 8, k, lane);
      mma_bf16(sums.out[n], a[0], a[1], a[2], a[3], b[0], b[1]);
      mma_bf16(sums.out[n + 1], a[0], a[1], a[2], a[3], b[2], b[3]);
    }
  }
}

/* Goes through tiles [begin, end) of the source, begin < end. memory: kRowsShared bytes and `stages` tiles, 1
 * or 2. The first tile but its newest row is read before ready(), behind which the rest is there; ready has
 * begun to copy the queries. All threads call scored(entry, v) with the scores of each tile, as of
 * weigh_rows, and added(entry) when it is summed. */
template <class Source, class Ready, class Scored, class Added>
__device__ void attend_rows(uint4* memory, int stages, int32_t begin, int32_t end, const Source& source,
                            RowSums& sums, Ready&& ready, Scored&& scored, Added&& added) {
  RowsShared& s = *reinterpret_cast<RowsShared*>(memory);
  __nv_bfloat16* tiles = reinterpret_cast<__nv_bfloat16*>(memory) + kRowsShared / sizeof(__nv_bfloat16);
  const auto tile_of = [&](int32_t entry) {
    return tiles + (entry - begin) % stages * (kTileTokens * kPitch);
  };
  const int32_t newest = source.newest(begin);
  load_rows_of(tile_of(begin), source, begin, newest);
  ready();
  if (newest >= 0 && threadIdx.x < kRow / 8)
    copy_async_16(tiles + newest * kPitch + threadIdx.x * 8, source.row(begin, newest) + threadIdx.x * 8,
                  true);
  copy_async_commit();
  uint32_t q[kHalfSteps][4];
  for (int32_t entry = begin; entry < end; entry++) {
    copy_async_wait<0>();
    __syncthreads(); /* the tile is here, and nobody needs the one before */
    if (stages == 2 && entry + 1 < end) load_rows_of(tile_of(entry + 1), source, entry + 1);
    if (entry == begin) load_query_half(q, s);
    score_half(s, q, tile_of(entry));
    __syncthreads();
    float v[4];
    weigh_rows(s, source.bounds(entry), sums, v);
    __syncthreads();
    scored(entry, v); /* behind the barrier, so that other warps multiply meanwhile */
    add_rows(s, tile_of(entry), sums);
    added(entry);
    if (stages == 2 || entry + 1 == end) continue;
    __syncthreads();
    load_rows_of(tile_of(entry + 1), source, entry + 1);
  }
}

}  // namespace ek::cuda
#endif
