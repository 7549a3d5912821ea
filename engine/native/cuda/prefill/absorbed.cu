/* Attention of a short run in absorbed form: queries go into the latent space, and cached rows serve as keys
 * and values of all heads, so nothing of the past is expanded. Here the way of GPUs without products of
 * groups of warps, and of rows of fp8: two tokens' 16 heads are the rows of a block; their past is split
 * among blocks of the grid, at places that depend on positions alone. */
#include "../decode/tile_rows.cuh"
#include "absorbed.cuh"
#include "tile.cuh"

namespace ek::cuda {

namespace {

constexpr int kPair = 2, kRows = kPair * kHeads, kWidth = kNope + kRope;
constexpr int kPPitch = kTileTokens + 8; /* bf16, weights */
constexpr int kDims = kLatent / kWarps;  /* latent columns per warp */
constexpr int kThreadsPerRow = kThreads / kRows, kKeysEach = kTileTokens / kThreadsPerRow;
static_assert(kWarps == 8 && kRows == 32 && kTileTokens == 64, "a warp has 16 x 16 scores of a tile");

struct AbsorbedShared {
  __nv_bfloat16 query[kRows * kPitch];
  __nv_bfloat16 weight[kRows * kPPitch];
  float score[kRows * kSPitch];
  float scale[kRows]; /* of what was summed before this tile */
};
constexpr size_t kSharedBegin = (sizeof(AbsorbedShared) + 15) / 16 * 16;
constexpr size_t kTileElements = static_cast<size_t>(kTileTokens) * kPitch;
constexpr size_t kAbsorbedShared = kSharedBegin + 2 * kTileElements * sizeof(__nv_bfloat16);

/* What is under way of a tile while the one before is computed: copies, or latents of e4m3 in registers. */
template <RowFormat R>
struct LoadingRows {
  Fp8Rows fp8;
};
template <>
struct LoadingRows<RowFormat::kBf16> {};

/* Begins to load the 64 rows of a block; those behind the last query become zeros. */
template <RowFormat R>
__device__ LoadingRows<R> load_rows(__nv_bfloat16* tile, const AbsorbedOp& op, int32_t block) {
  const uint8_t* from = op.rows(block);
  const int32_t end = min(op.end - block * 64, kTileTokens);
  if constexpr (R == RowFormat::kFp8) {
    return {load_fp8_rows<true>(tile, from, 0, end)};
  } else {
    copy_bf16_rows(tile, from, end);
    return {};
  }
}
/* Writes what is not written by copies; the tile is there behind the next barrier. */
template <RowFormat R>
__device__ void finish_rows(__nv_bfloat16* tile, const LoadingRows<R>& rows) {
  if constexpr (R == RowFormat::kFp8) store_fp8_rows(tile, rows.fp8, 0, kTileTokens);
}

/* Rows 16 i + h: token `position` + i, head h. Tokens outside of the chunk are computed and not stored. */
__device__ void load_queries(__nv_bfloat16* to, const AbsorbedOp& op, int32_t position) {
  constexpr int kPieces = kRow / 8;
  for (int i = threadIdx.x; i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    *reinterpret_cast<uint4*>(to + row * kPitch + piece * 8) =
        op.query(position + row / kHeads, row % kHeads, piece);
  }
}

/* Warp w has rows 16 (w % 2) and keys 16 (w / 2) on. */
__device__ void score_rows(float* score, const __nv_bfloat16* query, const __nv_bfloat16* tile) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, row = warp % 2 * 16, key = warp / 2 * 16;
  float s[2][2][4] = {}; /* two sums each, so that a product need not wait for the one before */
#pragma unroll 6
  for (int k = 0; k < kRow; k += 32) {
    for (int half = 0; half < 2; half++) {
      uint32_t a[4], b[4];
      load_left<kPitch>(a, query, row, k + half * 16, lane);
      load_right<kPitch>(b, tile, key, k + half * 16, lane);
      mma_bf16(s[half][0], a[0], a[1], a[2], a[3], b[0], b[1]);
      mma_bf16(s[half][1], a[0], a[1], a[2], a[3], b[2], b[3]);
    }
  }
  for (int n = 0; n < 2; n++) {
    for (int i = 0; i < 4; i++)
      score[(row + lane / 4 + i / 2 * 8) * kSPitch + key + n * 8 + lane % 4 * 2 + i % 2] =
          s[0][n][i] + s[1][n][i];
  }
}

/* Running maximum and sum of a row, held by its threads. */
struct Running {
  float top, sum;
};

/* Weights of a tile's keys, from position `at` on; thread 8 r + i has keys i, i + 8, … of row r. */
__device__ void weigh_rows(AbsorbedShared& s, int32_t position, int32_t at, Running& run) {
  const int row = threadIdx.x / kThreadsPerRow, i = threadIdx.x % kThreadsPerRow;
  const int32_t n_seen = position + row / kHeads + 1 - at;
  float v[kKeysEach], top = run.top;
  for (int j = 0; j < kKeysEach; j++) {
    const int key = j * kThreadsPerRow + i;
    v[j] = key < n_seen ? s.score[row * kSPitch + key] : -INFINITY;
    top = fmaxf(top, v[j]);
  }
  for (int d = kThreadsPerRow / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
  float sum = 0;
  for (int j = 0; j < kKeysEach; j++) {
    const int key = j * kThreadsPerRow + i;
    const __nv_bfloat16 p = __float2bfloat16_rn(key < n_seen ? expf(v[j] - top) : 0.0f);
    s.weight[row * kPPitch + key] = p;
    sum += __bfloat162float(p);
  }
  for (int d = kThreadsPerRow / 2; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  const float scale = run.top == -INFINITY ? 0.0f : expf(run.top - top);
  run = {top, run.sum * scale + sum};
  if (i == 0) s.scale[row] = scale;
}

using RowSums = float[2][kDims / 8][4]; /* of 32 rows and the warp's kDims columns, as mma_bf16 */

/* out += weights times the first kLatent columns of the tile. */
__device__ void add_latents(const AbsorbedShared& s, const __nv_bfloat16* tile, RowSums& out) {
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kDims;
  for (int m = 0; m < 2; m++) {
    for (int i = 0; i < 4; i++) {
      const float scale = s.scale[m * 16 + lane / 4 + i / 2 * 8];
#pragma unroll
      for (int n = 0; n < kDims / 8; n++) out[m][n][i] *= scale;
    }
  }
#pragma unroll
  for (int k = 0; k < kTileTokens; k += 16) {
    uint32_t a[2][4];
    for (int m = 0; m < 2; m++) load_left<kPPitch>(a[m], s.weight, m * 16, k, lane);
#pragma unroll
    for (int n = 0; n < kDims / 8; n += 2) {
      uint32_t b[4];
      load_right_transposed<kPitch>(b, tile, first + n * 8, k, lane);
      for (int m = 0; m < 2; m++) {
        mma_bf16(out[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
        mma_bf16(out[m][n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
      }
    }
  }
}

/* A split without a visible key has the sum 0, and its weighted latents are not read. */
__device__ void store_part(const AbsorbedOp& op, const RowSums& out, const Running& run, int32_t position) {
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kDims;
  const auto place = [&](int row) { return op.part(position + row / kHeads, blockIdx.y, row % kHeads); };
  const auto exists = [&](int row) { return op.has(position + row / kHeads); };
  for (int m = 0; m < 2; m++) {
    for (int r = 0; r < 2; r++) {
      const int row = m * 16 + lane / 4 + 8 * r;
      if (!exists(row)) continue;
      float* to = op.b.part + place(row) * kLatent + first + lane % 4 * 2;
      for (int n = 0; n < kDims / 8; n++)
        *reinterpret_cast<float2*>(to + n * 8) = {out[m][n][2 * r], out[m][n][2 * r + 1]};
    }
  }
  const int row = threadIdx.x / kThreadsPerRow;
  if (threadIdx.x % kThreadsPerRow != 0 || !exists(row)) return;
  op.b.part_top[place(row)] = run.top;
  op.b.part_sum[place(row)] = run.sum;
}

/* grid (pairs of tokens, kAbsorbedSplits) */
template <RowFormat R>
__global__ void __launch_bounds__(kThreads, 1) attend_absorbed_kernel(AbsorbedOp op) {
  uint4* memory = dynamic_shared<uint4>();
  AbsorbedShared& s = *reinterpret_cast<AbsorbedShared*>(memory);
  __nv_bfloat16* tiles = reinterpret_cast<__nv_bfloat16*>(memory + kSharedBegin / sizeof(uint4));
  const int32_t position = (op.first / kPair + static_cast<int32_t>(blockIdx.x)) * kPair;
  const AbsorbedBlocks p = absorbed_blocks(op, position, kPair, blockIdx.y);
  Running run{-INFINITY, 0};
  RowSums out = {};
  LoadingRows<R> loading{};
  if (p.begin < p.end) loading = load_rows<R>(tiles, op, p.at(p.begin));
  wait_for_kernel_before(); /* which absorbed the queries; rows were stored before it */
  allow_next_kernel();
  if (p.begin < p.end) load_queries(s.query, op, position);
  copy_async_commit();
  for (int32_t i = p.begin; i < p.end; i++) {
    const int stage = (i - p.begin) % 2;
    finish_rows<R>(tiles + stage * kTileElements, loading);
    if (i + 1 < p.end) loading = load_rows<R>(tiles + (stage ^ 1) * kTileElements, op, p.at(i + 1));
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    const __nv_bfloat16* tile = tiles + stage * kTileElements;
    score_rows(s.score, s.query, tile);
    __syncthreads();
    weigh_rows(s, position, p.at(i) * 64, run);
    __syncthreads();
    add_latents(s, tile, out);
    __syncthreads();
  }
  store_part(op, out, run, position);
}

/* The splits of a token and head as one latent: grid (tokens, heads / 2). */
__global__ void __launch_bounds__(kThreads) combine_absorbed_kernel(ChunkBuffers b) {
  static_assert(kThreads == 2 * kLatent / 4, "four columns per thread");
  wait_for_kernel_before();
  allow_next_kernel();
  const int h = blockIdx.y * 2 + threadIdx.x / (kLatent / 4), column = threadIdx.x % (kLatent / 4) * 4;
  const size_t token = blockIdx.x;
  const auto place = [&](int split) { return (token * kAbsorbedSplits + split) * kHeads + h; };
  float top = -INFINITY, total = 0, v[4] = {};
  for (int i = 0; i < kAbsorbedSplits; i++)
    if (b.part_sum[place(i)] != 0.0f) top = fmaxf(top, b.part_top[place(i)]);
  for (int i = 0; i < kAbsorbedSplits; i++) {
    const float sum = b.part_sum[place(i)];
    if (sum == 0.0f) continue;
    const float weight = expf(b.part_top[place(i)] - top);
    const float4 part = *reinterpret_cast<const float4*>(b.part + place(i) * kLatent + column);
    total = fmaf(weight, sum, total);
    v[0] = fmaf(weight, part.x, v[0]);
    v[1] = fmaf(weight, part.y, v[1]);
    v[2] = fmaf(weight, part.z, v[2]);
    v[3] = fmaf(weight, part.w, v[3]);
  }
  __nv_bfloat16* to = b.absorbed + (token * kHeads + h) * kLatent + column;
  *reinterpret_cast<uint2*>(to) = {pack_bf16(v[0] / total, v[1] / total),
                                   pack_bf16(v[2] / total, v[3] / total)};
}

void launch_absorbed_pairs(cudaStream_t stream, const AbsorbedOp& op) {
  const int32_t n_pairs = (op.end - 1) / kPair - op.first / kPair + 1;
  for_row_format(op.cache.cache.format, [&]<RowFormat R>() {
    launch(stream, "attend_absorbed", {{n_pairs, kAbsorbedSplits}, kThreads, kAbsorbedShared, true},
           attend_absorbed_kernel<R>, op);
  });
}

}  // namespace

bool can_absorb() { return most_block_memory() >= kAbsorbedShared; }

void launch_absorbed_attention(const Chunk& c, const LiteLayer& layer, int32_t index) {
  const int32_t end = c.first + c.n;
  const bool by_list = selects(c, index);
  if (by_list) launch_select_tiles(c, layer, index);
  const GemmRows queries{c.b.query, kHeads * kWidth, nullptr, nullptr, 0};
  if (is_transposed(layer.k_b)) {
    launch_gemm(c.stream, "absorb_queries",
                {queries,
                 {},
                 layer.k_b,
                 {},
                 c.n,
                 GemmOut::kBf16,
                 c.b.absorbed,
                 {kHeads, kWidth, kLatent, kHeads * kLatent}});
  } else {
    launch_multiply_down(c.stream, "absorb_queries", queries, kWidth, layer.k_b, c.n, c.b.absorbed);
  }
  c.mark("absorb");
  const AbsorbedOp op{c.b, c.cache, c.shape, index, c.first, end, by_list};
  if (c.cache.cache.format == RowFormat::kBf16 && multiplies_in_groups()) {
    launch_absorbed_groups(c.stream, op);
  } else {
    launch_absorbed_pairs(c.stream, op);
  }
  c.mark("attend_absorb");
  launch(c.stream, "combine_absorbed", {{c.n, kHeads / 2}, kThreads, 0, true}, combine_absorbed_kernel, c.b);
  launch_gemm(c.stream, "values",
              {{c.b.absorbed, kHeads * kLatent, nullptr, nullptr, 0},
               {},
               layer.v_b,
               {},
               c.n,
               GemmOut::kBf16,
               c.b.heads,
               {kHeads, kLatent, kValue, kHeads * kValue}});
  c.mark("values");
}

}  // namespace ek::cuda
