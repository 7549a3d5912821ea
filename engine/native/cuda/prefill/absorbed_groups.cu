/* Attention of a short run in absorbed form by products of groups of four warps (wgmma), which read queries,
 * keys and values from shared memory. Four tokens' 16 heads are the 64 rows of a block; their past is split
 * as in absorbed.cu. The first group makes scores and weights of a tile of 64 cached rows, and hands the
 * weights to the second, which meanwhile asks for the next tile; then each adds half of the latents, of which
 * the tile's first 512 columns are the values. */
#include "absorbed.cuh"
#include "tile.cuh"

namespace ek::cuda {

namespace {

constexpr int kTokens = 4, kTileRows = 64, kGroupThreads = 4 * kWarp, kThreads = 2 * kGroupThreads;
static_assert(kTokens * kHeads == kTileRows, "a warp of a group has the heads of a token");
using Rows = PermutedRows<kTileRows>;
constexpr int kTileSize = kRow / 64 * Rows::kColumns, kPieces = kRow / 8; /* bf16; of 16 bytes in a row */
constexpr int kOwnLatents = kLatent / 2, kHalves = kOwnLatents / 128;

struct GroupShared {
  __nv_bfloat16 query[kTileSize];
  __nv_bfloat16 tile[2][kTileSize];
  uint4 weights[kTileRows / 16][kGroupThreads]; /* of each thread: 16 keys as a left matrix */
  float2 scale[kGroupThreads];                  /* of what a thread's two rows had before this tile */
};

using Scores = float[kTileRows / 8][4];
using Weights = uint4[kTileRows / 16];
using Latents = float[kHalves][16][4]; /* of 128 columns each, as mma_bf16 */

/* Running maximum and sum of a thread's two rows. */
struct RunningPair {
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
};

__device__ void load_queries(__nv_bfloat16* to, const AbsorbedOp& op, int32_t position) {
#pragma unroll 6
  for (int i = threadIdx.x; i < kTileRows * kPieces; i += kThreads) {
    const int row = i / kPieces, piece = i % kPieces;
    *reinterpret_cast<uint4*>(to + Rows::at(row, piece)) =
        op.query(position + row / kHeads, row % kHeads, piece);
  }
}

/* Begins to copy the 64 rows of a block; those behind the last query become zeros. A group of warps calls: a
 * thread has a piece of each 64 columns of every 16th row, so that all its addresses are one and a constant.
 */
__device__ void load_tile(__nv_bfloat16* tile, const AbsorbedOp& op, int32_t block) {
  constexpr int kAtOnce = kGroupThreads / 8; /* rows */
  static_assert(kAtOnce % 8 == 0, "rows that far apart are permuted alike");
  const int row = static_cast<int>(threadIdx.x) % kGroupThreads / 8, piece = threadIdx.x % 8;
  const uint8_t* from = op.rows(block) + row * (kRow * 2) + piece * 16;
  __nv_bfloat16* to = tile + Rows::at(row, piece);
  const int32_t end = min(op.end - block * kTileRows, kTileRows) - row;
#pragma unroll
  for (int r = 0; r < kTileRows; r += kAtOnce) {
#pragma unroll
    for (int column = 0; column < kRow / 64; column++)
      copy_async_16(to + column * Rows::kColumns + r * Rows::kPitch, from + r * (kRow * 2) + column * 128,
                    r < end);
  }
}

__device__ void score_tile(Scores& scores, const __nv_bfloat16* query, const __nv_bfloat16* tile) {
  const SharedTile queries = shared_tile(query), keys = shared_tile(tile);
  begin_group_products();
  multiply_group_first(scores, queries, keys);
#pragma unroll
  for (int k = 16; k < kRow; k += 16) {
    const int at = k / 64 * Rows::kColumns * 2 + k % 64 * 2;
    multiply_group(scores, queries.behind(at), keys.behind(at));
  }
  commit_group_products();
  wait_for_group_products<0>();
}

constexpr float kLog2E = 1.4426950408889634f;

/* Weights of a tile's keys from their scores; returns what the rows' sums before are worth. n_seen: how many
 * keys the token sees. */
__device__ float2 weigh_tile(Weights& weights, Scores& scores, RunningPair& run, int32_t n_seen) {
  const int t = threadIdx.x % 4;
  if (n_seen < kTileRows) {
#pragma unroll
    for (int n = 0; n < kTileRows / 8; n++) {
      for (int i = 0; i < 4; i++) {
        if (n * 8 + 2 * t + i % 2 >= n_seen) scores[n][i] = -INFINITY;
      }
    }
  }
  float scale[2];
  uint32_t pair[kTileRows / 8][2];
  for (int r = 0; r < 2; r++) {
    float top = run.top[r], sum = 0;
#pragma unroll
    for (int n = 0; n < kTileRows / 8; n++) top = fmaxf(top, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
    for (int d = 1; d < 4; d *= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
    /* Where no key was seen yet, all weights become 0, and not NaN. */
    const float base = top == -INFINITY ? 0.0f : top * kLog2E;
    scale[r] = exp2_approx(fmaf(run.top[r], kLog2E, -base));
#pragma unroll
    for (int n = 0; n < kTileRows / 8; n++) {
      pair[n][r] = pack_bf16(exp2_approx(fmaf(scores[n][2 * r], kLog2E, -base)),
                             exp2_approx(fmaf(scores[n][2 * r + 1], kLog2E, -base)));
      sum += bf16_value(pair[n][r] & 0xffff) + bf16_value(pair[n][r] >> 16);
    }
    for (int d = 1; d < 4; d *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    run.top[r] = top;
    run.sum[r] = fmaf(run.sum[r], scale[r], sum);
  }
#pragma unroll
  for (int k = 0; k < kTileRows / 16; k++)
    weights[k] = {pair[2 * k][0], pair[2 * k][1], pair[2 * k + 1][0], pair[2 * k + 1][1]};
  return {scale[0], scale[1]};
}

/* out = out * scale + weights times the group's latents of the tile. */
__device__ void add_latents(Latents& out, const Weights& weights, const float2& scale,
                            const __nv_bfloat16* latents) {
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
    for (int n = 0; n < 16; n++) {
      for (int i = 0; i < 4; i++) out[half][n][i] *= i < 2 ? scale.x : scale.y;
    }
  }
  begin_group_products();
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
    const SharedTile values = shared_tile(latents + half * 2 * Rows::kColumns, Rows::kColumns * 2);
#pragma unroll
    for (int k = 0; k < kTileRows / 16; k++) {
      const uint32_t a[4] = {weights[k].x, weights[k].y, weights[k].z, weights[k].w};
      multiply_group(out[half], a, values.behind(k * 16 * Rows::kPitch * 2));
    }
  }
  commit_group_products();
  wait_for_group_products<0>();
}

/* A split without a visible key has the sum 0, and its weighted latents are not read. */
__device__ void store_latents(const AbsorbedOp& op, const Latents& out, int32_t t, int first) {
  if (!op.has(t)) return;
  const int lane = threadIdx.x % kWarp;
  for (int r = 0; r < 2; r++) {
    float* to = op.b.part + op.part(t, blockIdx.y, lane / 4 + 8 * r) * kLatent + first + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < kHalves; half++) {
#pragma unroll
      for (int n = 0; n < 16; n++)
        *reinterpret_cast<float2*>(to + half * 128 + n * 8) = {out[half][n][2 * r], out[half][n][2 * r + 1]};
    }
  }
}
__device__ void store_sums(const AbsorbedOp& op, const RunningPair& run, int32_t t) {
  const int lane = threadIdx.x % kWarp;
  if (!op.has(t) || lane % 4 != 0) return;
  for (int r = 0; r < 2; r++) {
    const size_t at = op.part(t, blockIdx.y, lane / 4 + 8 * r);
    op.b.part_top[at] = run.top[r];
    op.b.part_sum[at] = run.sum[r];
  }
}

/* grid (groups of four tokens, kAbsorbedSplits) */
__global__ void __launch_bounds__(kThreads, 1) attend_absorbed_groups_kernel(AbsorbedOp op) {
  GroupShared& s = *aligned_shared<GroupShared>();
  const int32_t position = (op.first / kTokens + static_cast<int32_t>(blockIdx.x)) * kTokens;
  const AbsorbedBlocks p = absorbed_blocks(op, position, kTokens, blockIdx.y);
  /* Of the warp: products are begun where whole warps go, as the compiler sees. */
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / kWarp, 0), group = warp / 4,
            own = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int32_t t = position + warp % 4;
  if (group == 1 && p.begin < p.end) load_tile(s.tile[0], op, p.at(p.begin));
  copy_async_commit();
  wait_for_kernel_before(); /* which absorbed the queries; rows were stored before it */
  allow_next_kernel();
  if (p.begin < p.end) load_queries(s.query, op, position);
  RunningPair run;
  Latents out = {};
  for (int32_t i = p.begin; i < p.end; i++) {
    const __nv_bfloat16* tile = s.tile[(i - p.begin) % 2];
    copy_async_wait<0>();
    publish_shared();
    __syncthreads(); /* the tile is here, and nobody needs the one before */
    if (group == 1 && i + 1 < p.end) load_tile(s.tile[(i + 1 - p.begin) % 2], op, p.at(i + 1));
    copy_async_commit();
    Weights weights;
    float2 scale;
    if (group == 0) {
      Scores scores;
      score_tile(scores, s.query, tile);
      scale = weigh_tile(weights, scores, run, t + 1 - p.at(i) * kTileRows);
#pragma unroll
      for (int k = 0; k < kTileRows / 16; k++) s.weights[k][own] = weights[k];
      s.scale[own] = scale;
    }
    __syncthreads();
    if (group == 1) {
#pragma unroll
      for (int k = 0; k < kTileRows / 16; k++) weights[k] = s.weights[k][own];
      scale = s.scale[own];
    }
    add_latents(out, weights, scale, tile + group * (kOwnLatents / 64) * Rows::kColumns);
  }
  store_latents(op, out, t, group * kOwnLatents);
  if (group == 0) store_sums(op, run, t);
}

}  // namespace

void launch_absorbed_groups(cudaStream_t stream, const AbsorbedOp& op) {
  launch(stream, "attend_absorbed",
         {{(op.end - 1) / kTokens - op.first / kTokens + 1, kAbsorbedSplits},
          kThreads,
          sizeof(GroupShared),
          true},
         attend_absorbed_groups_kernel, op);
}

}  // namespace ek::cuda
