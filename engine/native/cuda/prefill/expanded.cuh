/* Attention of a tile of 128 queries of one head over blocks of 64 rows with expanded keys and values (192
 * and 128 numbers). A warp has 32 queries, so that what it loads of keys and values from shared memory serves
 * two tensor-core tiles: with 16 the loads take longer than the products. Two blocks of four warps share a
 * multiprocessor. There is one buffer of keys and one of values: values arrive while scores are computed, and
 * the next keys while values are summed.
 *
 * Every query has a range of rows that count. A warp leaves out the blocks that none of its queries sees.
 * Rows that do not count have weight 0 exactly and leave the rest as it is, so a query's result does not
 * depend on the other ones of its tile. */
#ifndef EK_CUDA_PREFILL_EXPANDED_CUH
#define EK_CUDA_PREFILL_EXPANDED_CUH
#include "query_tile.cuh"

namespace ek::cuda {

constexpr int kKeyWidth = kNope + kRope, kExpandedPitch = kKeyWidth + 8, kValuesPitch = kValue + 8; /* bf16 */
constexpr int kBlockRows = 64;
constexpr size_t kExpandedShared =
    sizeof(__nv_bfloat16) * ((kTileQueries + kBlockRows) * kExpandedPitch + kBlockRows * kValuesPitch);
constexpr float kLog2e = 1.44269504f;

struct ExpandedShared {
  __nv_bfloat16 *query, *key, *value;
};

__device__ inline ExpandedShared expanded_shared() {
  __nv_bfloat16* at = dynamic_shared<__nv_bfloat16>();
  return {at, at + kTileQueries * kExpandedPitch, at + (kTileQueries + kBlockRows) * kExpandedPitch};
}

/* A lane's four queries: running maximum (times log2 e), sum of weights (of the lane's rows until
 * join_totals), and weighted values as mma_bf16. */
struct QuerySums {
  float top[2][2], total[2][2];
  float out[2][kValue / 8][4];
};

__device__ inline void clear(QuerySums& sums) {
  for (int m = 0; m < 2; m++) {
    for (int r = 0; r < 2; r++) {
      sums.top[m][r] = -INFINITY;
      sums.total[m][r] = 0;
    }
#pragma unroll
    for (int n = 0; n < kValue / 8; n++) {
      for (int i = 0; i < 4; i++) sums.out[m][n][i] = 0;
    }
  }
}

/* Scores of 64 rows, then their weights: [tensor-core tile of queries][8 rows][as mma_bf16]. */
using BlockScores = float[2][kBlockRows / 8][4];

/* Eight threads copy a query: each every eighth of its pieces of 16 bytes. */
constexpr int kQueryCopiers = 8;
static_assert(kKeyWidth % (8 * kQueryCopiers) == 0, "as many pieces for each thread");

/* Begins to copy the thread's pieces of a query's numbers for a head, or zeros. */
__device__ inline void load_query(__nv_bfloat16* to, const __nv_bfloat16* query, size_t index, int head,
                                  bool exists) {
  const int first = threadIdx.x % kQueryCopiers * 8;
  const __nv_bfloat16* from = query + (index * kHeads + head) * kKeyWidth + first;
#pragma unroll
  for (int i = 0; i < kKeyWidth; i += 8 * kQueryCopiers) copy_async_16(to + first + i, from + i, exists);
}

/* Begins to copy the tile's queries (n, heads, nope + rope) of its head; those outside of the run become
 * zeros. */
__device__ inline void load_queries(const ExpandedShared& s, const __nv_bfloat16* query,
                                    const QueryTile& tile) {
  constexpr int kRowsAtOnce = kQueryThreads / kQueryCopiers;
  const int first = static_cast<int>(threadIdx.x) / kQueryCopiers;
#pragma unroll 4
  for (int row = first; row < kTileQueries; row += kRowsAtOnce) {
    const int32_t position = tile.at + row;
    const bool is_new = tile.is_new(position);
    load_query(s.query + row * kExpandedPitch, query, is_new ? position - tile.first : 0, tile.head, is_new);
  }
}

/* Begins to copy 64 rows of Chunks times 8 numbers from row `at` of `from` on; those from `end` on become
 * zeros and are not read. */
template <int Chunks, int Pitch>
__device__ void load_block(__nv_bfloat16* to, const __nv_bfloat16* from, size_t stride, int32_t at,
                           int32_t end) {
  constexpr int kRowsAtOnce = kQueryThreads / Chunks;
  const int first = static_cast<int>(threadIdx.x) / Chunks, chunk = static_cast<int>(threadIdx.x) % Chunks;
  const __nv_bfloat16* source = from + static_cast<size_t>(at + first) * stride + chunk * 8;
  __nv_bfloat16* place = to + first * Pitch + chunk * 8;
#pragma unroll
  for (int row = 0; row < kBlockRows; row += kRowsAtOnce)
    copy_async_16(place + row * Pitch, source + row * stride, at + first + row < end);
}

/* Where the 64 rows of a block begin among the expanded ones, and among those with the rotary halves. */
struct BlockPlace {
  int32_t expanded, rotary;
};

/* The first n rows of a block; the others become zeros. */
__device__ inline void load_keys(const ExpandedShared& s, const ExpandedRows& rows, const BlockPlace& place,
                                 int32_t n, int head) {
  load_block<kNope / 8, kExpandedPitch>(s.key, rows.keys + head * kNope, kHeads * kNope, place.expanded,
                                        place.expanded + n);
  load_block<kRope / 8, kExpandedPitch>(s.key + kNope, rows.rotary, rows.rotary_stride, place.rotary,
                                        place.rotary + n);
  copy_async_commit();
}

__device__ inline void load_values(const ExpandedShared& s, const ExpandedRows& rows, const BlockPlace& place,
                                   int32_t n, int head) {
  load_block<kValue / 8, kValuesPitch>(s.value, rows.values + head * kValue, kHeads * kValue, place.expanded,
                                       place.expanded + n);
  copy_async_commit();
}

__device__ inline void score_block(BlockScores& scores, const ExpandedShared& s) {
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kWarpQueries;
#pragma unroll
  for (int m = 0; m < 2; m++) {
    for (int n = 0; n < kBlockRows / 8; n++) {
      for (int i = 0; i < 4; i++) scores[m][n][i] = 0;
    }
  }
#pragma unroll 2
  for (int k = 0; k < kKeyWidth; k += 16) {
    uint32_t a[2][4];
    load_left<kExpandedPitch>(a[0], s.query, first, k, lane);
    load_left<kExpandedPitch>(a[1], s.query, first + 16, k, lane);
#pragma unroll
    for (int n = 0; n < kBlockRows / 8; n += 2) {
      uint32_t b[4];
      load_right<kExpandedPitch>(b, s.key, n * 8, k, lane);
      for (int m = 0; m < 2; m++) {
        mma_bf16(scores[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
        mma_bf16(scores[m][n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
      }
    }
  }
}

/* Removes scores of rows that do not count. */
template <class Range>
__device__ void hide_rows(BlockScores& scores, const Range& range, const QueryTile& tile, int32_t at) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < 4; r++) {
    const int32_t position = tile.position(r);
    const int32_t begin = tile.is_new(position) ? range.begin(position) - at : kBlockRows,
                  end = range.end(position) - at;
#pragma unroll
    for (int n = 0; n < kBlockRows / 8; n++) {
      for (int i = 0; i < 2; i++) {
        const int row = n * 8 + lane % 4 * 2 + i;
        if (row < begin || row >= end) scores[r / 2][n][r % 2 * 2 + i] = -INFINITY;
      }
    }
  }
}

/* Scores become weights, 2^WeightLog2 at most, and maximum and sum grow by them. scale[m][r]: of what
 * was summed before; returns whether one is not 1. The lane's four queries take turns: with two warps a
 * scheduler the latency of a chain of maxima or sums is seen. */
template <int WeightLog2 = 0>
__device__ bool weigh_block(BlockScores& s, QuerySums& sums, float (&scale)[2][2]) {
  constexpr int kQueries = 4; /* m * 2 + r */
  float top[kQueries], base[kQueries], sum[kQueries] = {};
#pragma unroll
  for (int q = 0; q < kQueries; q++) top[q] = fmaxf(s[q / 2][0][q % 2 * 2], s[q / 2][0][q % 2 * 2 + 1]);
#pragma unroll
  for (int n = 1; n < kBlockRows / 8; n++) {
    for (int q = 0; q < kQueries; q++)
      top[q] = fmaxf(top[q], fmaxf(s[q / 2][n][q % 2 * 2], s[q / 2][n][q % 2 * 2 + 1]));
  }
#pragma unroll
  for (int lanes = 1; lanes < 4; lanes *= 2) {
    for (int q = 0; q < kQueries; q++) top[q] = fmaxf(top[q], __shfl_xor_sync(0xffffffffu, top[q], lanes));
  }
  bool changes = false;
#pragma unroll
  for (int q = 0; q < kQueries; q++) {
    float& before = sums.top[q / 2][q % 2];
    top[q] = fmaxf(before, top[q] * kLog2e);
    base[q] = top[q] == -INFINITY ? 0.0f : top[q];
    scale[q / 2][q % 2] = exp2_approx(before - base[q]);
    changes |= scale[q / 2][q % 2] != 1.0f;
    before = top[q];
    base[q] = WeightLog2 - base[q];
  }
#pragma unroll
  for (int n = 0; n < kBlockRows / 8; n++) {
    for (int q = 0; q < kQueries; q++) {
      float(&pair)[4] = s[q / 2][n];
      const int i = q % 2 * 2;
      pair[i] = exp2_approx(fmaf(pair[i], kLog2e, base[q]));
      pair[i + 1] = exp2_approx(fmaf(pair[i + 1], kLog2e, base[q]));
      sum[q] += pair[i] + pair[i + 1];
    }
  }
#pragma unroll
  for (int q = 0; q < kQueries; q++) {
    float& total = sums.total[q / 2][q % 2];
    total = fmaf(total, scale[q / 2][q % 2], sum[q]);
  }
  return changes;
}

/* Applies the scale of what was summed before. Once a query has seen much, its maximum rarely changes. */
__device__ inline void rescale(QuerySums& sums, bool changes, const float (&scale)[2][2]) {
  if (!__any_sync(0xffffffffu, changes)) return;
#pragma unroll
  for (int m = 0; m < 2; m++) {
#pragma unroll
    for (int n = 0; n < kValue / 8; n++) {
      for (int i = 0; i < 4; i++) sums.out[m][n][i] *= scale[m][i / 2];
    }
  }
}

/* The sum of a query's rows from those of its four lanes. */
__device__ inline float joined_total(float total) {
  total += __shfl_xor_sync(0xffffffffu, total, 1);
  return total + __shfl_xor_sync(0xffffffffu, total, 2);
}
__device__ inline void join_totals(QuerySums& sums) {
  for (int m = 0; m < 2; m++) {
    for (int r = 0; r < 2; r++) sums.total[m][r] = joined_total(sums.total[m][r]);
  }
}

/* Weights in bf16, of 16 rows each as left matrices: half of the registers while the next keys are asked for.
 */
using PackedWeights = uint32_t[kBlockRows / 16][2][4];

__device__ inline void pack_weights(PackedWeights& p, const BlockScores& weights) {
#pragma unroll
  for (int k = 0; k < kBlockRows / 16; k++) {
    for (int m = 0; m < 2; m++) {
      for (int i = 0; i < 4; i++)
        p[k][m][i] =
            pack_bf16(weights[m][2 * k + i / 2][i % 2 * 2], weights[m][2 * k + i / 2][i % 2 * 2 + 1]);
    }
  }
}

__device__ inline void add_values(QuerySums& sums, const PackedWeights& p, const ExpandedShared& s) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int k = 0; k < kBlockRows / 16; k++) {
#pragma unroll
    for (int n = 0; n < kValue / 8; n += 2) {
      uint32_t b[4];
      load_right_transposed<kValuesPitch>(b, s.value, n * 8, k * 16, lane);
      for (int m = 0; m < 2; m++) {
        mma_bf16(sums.out[m][n], p[k][m][0], p[k][m][1], p[k][m][2], p[k][m][3], b[0], b[1]);
        mma_bf16(sums.out[m][n + 1], p[k][m][0], p[k][m][1], p[k][m][2], p[k][m][3], b[2], b[3]);
      }
    }
  }
}

/* Stores factor times the weighted values of the lane's query r in its row, in the order of the lanes that
 * have them: column 32 i + 8 n + 2 t + u at 32 i + 8 t + 2 n + u (n and t from 0 to 3). */
__device__ inline void store_by_lanes(__nv_bfloat16* row, const QuerySums& sums, int r, float factor) {
  uint4* to = reinterpret_cast<uint4*>(row) + threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < kValue / 32; i++) {
    uint32_t word[4];
    for (int n = 0; n < 4; n++) {
      const float(&v)[4] = sums.out[r / 2][i * 4 + n];
      word[n] = pack_bf16(factor * v[r % 2 * 2], factor * v[r % 2 * 2 + 1]);
    }
    to[i * 4] = {word[0], word[1], word[2], word[3]};
  }
}

/* Stores the weighted values of the tile's queries over their sums, joined, in rows (n, heads, value). */
__device__ inline void store_values(__nv_bfloat16* out, const QuerySums& sums, const QueryTile& tile) {
#pragma unroll
  for (int r = 0; r < 4; r++) {
    if (!tile.is_new(tile.position(r))) continue;
    const float factor = 1.0f / sums.total[r / 2][r % 2];
    __nv_bfloat16* to = out + tile.row(r) * kValue + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < kValue / 8; i++) {
      const float(&v)[4] = sums.out[r / 2][i];
      *reinterpret_cast<uint32_t*>(to + i * 8) = pack_bf16(factor * v[r % 2 * 2], factor * v[r % 2 * 2 + 1]);
    }
  }
}

/* Blocks from `first` on in order, of expanded rows that begin with position 0. */
struct BlocksInOrder {
  int32_t first;

  /* Position of the first row of a block. */
  __device__ int32_t at(int32_t entry) const { return (first + entry) * kBlockRows; }
  __device__ BlockPlace place(int32_t entry) const { return {at(entry), at(entry)}; }
  /* Whether queries of the block `own` may see it. */
  __device__ bool counts(int32_t, int32_t) const { return true; }
};

/* What attend_blocks calls where nobody asks for the weights, or when a block's values are added. */
struct IgnoreWeights {
  static constexpr int kWeightLog2 = 0;
  __device__ void operator()(int32_t, const BlockScores&, const float (&)[2][2]) const {}
};
struct IgnoreEntry {
  __device__ void operator()(int32_t) const {}
};

/* Goes through n entries of the tile's blocks, of rows before `end`, which adds to what `sums` has of others.
 * The queries are under way or there. weighed(entry, weights, scale): called for each block that the warp
 * does not leave out, before the values are added; the largest weight is 2^Weighed::kWeightLog2.
 * added(entry): called behind each block. */
template <class Blocks, class Range, class Weighed = IgnoreWeights, class Added = IgnoreEntry>
__device__ void attend_blocks(const ExpandedShared& s, const ExpandedRows& rows, const Blocks& blocks,
                              int32_t n, int32_t end, const QueryTile& tile, const Range& range,
                              QuerySums& sums, const Weighed& weighed = {}, const Added& added = {}) {
  const WarpSeen warp = warp_seen(range, tile);
  if (n > 0) load_keys(s, rows, blocks.place(0), end - blocks.at(0), tile.head);
  for (int32_t entry = 0; entry < n; entry++) {
    const int32_t at = blocks.at(entry);
    const bool counts =
        blocks.counts(entry, tile.warp_at() / kBlockRows) && at < warp.last && at + kBlockRows > warp.first;
    copy_async_wait<0>();
    __syncthreads(); /* keys are here, and nobody needs the values before */
    load_values(s, rows, blocks.place(entry), end - at, tile.head);
    PackedWeights weights;
    if (counts) {
      BlockScores scores;
      score_block(scores, s);
      if (at < warp.from || at + kBlockRows > warp.to) hide_rows(scores, range, tile, at);
      float scale[2][2];
      rescale(sums, weigh_block<Weighed::kWeightLog2>(scores, sums, scale), scale);
      weighed(entry, scores, scale);
      pack_weights(weights, scores);
    }
    copy_async_wait<0>();
    __syncthreads(); /* values are here, and nobody needs the keys */
    if (entry + 1 < n) load_keys(s, rows, blocks.place(entry + 1), end - blocks.at(entry + 1), tile.head);
    if (counts) add_values(sums, weights, s);
    added(entry);
  }
}

}  // namespace ek::cuda
#endif
