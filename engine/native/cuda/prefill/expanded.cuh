/* Attention of a tile of 128 queries of one head over blocks of 64 rows with expanded keys and values (192
 * and 128 numbers). Two blocks of the grid share a multiprocessor. There is one buffer of keys and one of
 * values: values arrive while scores are computed, and the next keys while values are summed.
 *
 * Every query has a range of rows that count. Warps that multiply together leave out
 * the blocks that none of their queries sees.
 * Rows that do not count have weight 0 exactly and leave the rest as it is, so a query's result does not
 * depend on the other ones of its tile. */
#ifndef EK_CUDA_PREFILL_EXPANDED_CUH
#define EK_CUDA_PREFILL_EXPANDED_CUH
#include "lane_rows.cuh"
#include "products.cuh"

namespace ek::cuda {

constexpr float kLog2e = 1.44269504f;

/* A lane's queries, two of each tensor-core tile: running maximum (times log2 e), sum of weights (of the
 * lane's rows until join_totals), and weighted values as mma_bf16. */
template <class P>
struct QuerySums {
  float top[P::kTiles][2], total[P::kTiles][2];
  WeightedValues<P> out;
};

template <class P>
__device__ void clear(QuerySums<P>& sums) {
  for (int m = 0; m < P::kTiles; m++) {
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

/* Eight threads copy a query: each every eighth of its pieces of 16 bytes. */
constexpr int kQueryCopiers = 8;
static_assert(kKeyWidth % (8 * kQueryCopiers) == 0, "as many pieces for each thread");

/* Begins to copy the thread's pieces of a query's numbers for a head to a row, or zeros. */
template <class Rows>
__device__ void load_query(__nv_bfloat16* to, int row, const __nv_bfloat16* query, size_t index, int head,
                           bool exists) {
  const int first = threadIdx.x % kQueryCopiers;
  const __nv_bfloat16* from = query + (index * kHeads + head) * kKeyWidth + first * 8;
#pragma unroll
  for (int i = 0; i < kKeyWidth / 8; i += kQueryCopiers)
    copy_async_16(to + Rows::at(row, first + i), from + i * 8, exists);
}

/* Begins to copy the tile's queries (n, heads, nope + rope) of its head; those outside of the run become
 * zeros. */
template <class P>
__device__ void load_queries(const ExpandedShared& s, const __nv_bfloat16* query, const QueryTile<P>& tile) {
  constexpr int kRowsAtOnce = QueryTile<P>::kThreads / kQueryCopiers;
  const int first = static_cast<int>(threadIdx.x) / kQueryCopiers;
#pragma unroll 4
  for (int row = first; row < kTileQueries; row += kRowsAtOnce) {
    const int32_t position = tile.at + row;
    const bool is_new = tile.is_new(position);
    load_query<typename P::Queries>(s.query, row, query, is_new ? position - tile.first : 0, tile.head,
                                    is_new);
  }
}

/* Begins to copy 64 rows of Pieces times 8 numbers from row `at` of `from` on, to the pieces from `first` on
 * of a tile's rows; those from `end` on become zeros and are not read. */
template <class Rows, int Threads, int Pieces>
__device__ void load_block(__nv_bfloat16* to, int first, const __nv_bfloat16* from, size_t stride, int32_t at,
                           int32_t end) {
  constexpr int kRowsAtOnce = Threads / Pieces;
  static_assert(kRowsAtOnce % 8 == 0, "a thread's rows have the same place among eight");
  const int thread = thread_now(), own = thread / Pieces, piece = thread % Pieces;
  const __nv_bfloat16* source = from + static_cast<size_t>(at + own) * stride + piece * 8;
  __nv_bfloat16* place = to + Rows::at(own, first + piece);
#pragma unroll
  for (int row = 0; row < kBlockRows; row += kRowsAtOnce)
    copy_async_16(place + row * Rows::kPitch, source + row * stride, at + own + row < end);
}

/* Where the 64 rows of a block begin among the expanded ones, and among those with the rotary halves. */
struct BlockPlace {
  int32_t expanded, rotary;
};

/* Begins to copy the first n rows of a block; the others become zeros. */
template <class P>
__device__ void load_keys(const ExpandedShared& s, const ExpandedRows& rows, const BlockPlace& place,
                          int32_t n, int head) {
  constexpr int kThreads = QueryTile<P>::kThreads, kPieces = kNope / 8;
  load_block<typename P::Keys, kThreads, kPieces>(s.key, 0, rows.keys + head * kNope, kHeads * kNope,
                                                  place.expanded, place.expanded + n);
  load_block<typename P::Keys, kThreads, kRope / 8>(s.key, kPieces, rows.rotary, rows.rotary_stride,
                                                    place.rotary, place.rotary + n);
  copy_async_commit();
}

template <class P>
__device__ void load_values(const ExpandedShared& s, const ExpandedRows& rows, const BlockPlace& place,
                            int32_t n, int head) {
  load_block<typename P::Values, QueryTile<P>::kThreads, kValue / 8>(
      s.value, 0, rows.values + head * kValue, kHeads * kValue, place.expanded, place.expanded + n);
  copy_async_commit();
}

/* Removes scores of rows that do not count. */
template <class P, class Range>
__device__ void hide_rows(BlockScores<P>& scores, const Range& range, const QueryTile<P>& tile, int32_t at) {
  const int lane = thread_now() % kWarp;
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
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
 * was summed before; returns whether one is not 1. The lane's queries take turns: with few warps a scheduler
 * the latency of a chain of maxima or sums is seen. */
template <class P, int WeightLog2 = 0>
__device__ bool weigh_block(BlockScores<P>& s, QuerySums<P>& sums, float (&scale)[P::kTiles][2]) {
  constexpr int kQueries = 2 * P::kTiles; /* m * 2 + r */
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
template <class P>
__device__ void rescale(QuerySums<P>& sums, bool changes, const float (&scale)[P::kTiles][2]) {
  if (!__any_sync(0xffffffffu, changes)) return;
#pragma unroll
  for (int m = 0; m < P::kTiles; m++) {
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
template <class P>
__device__ void join_totals(QuerySums<P>& sums) {
  for (int m = 0; m < P::kTiles; m++) {
    for (int r = 0; r < 2; r++) sums.total[m][r] = joined_total(sums.total[m][r]);
  }
}

template <class P>
__device__ void pack_weights(PackedWeights<P>& p, const BlockScores<P>& weights) {
#pragma unroll
  for (int k = 0; k < kBlockRows / 16; k++) {
    for (int m = 0; m < P::kTiles; m++) {
      for (int i = 0; i < 4; i++)
        p[k][m][i] =
            pack_bf16(weights[m][2 * k + i / 2][i % 2 * 2], weights[m][2 * k + i / 2][i % 2 * 2 + 1]);
    }
  }
}

/* Stores factor times the weighted values of the lane's query r in its row, in the order of the lanes that
 * have them: column 32 i + 8 n + 2 t + u at 32 i + 8 t + 2 n + u (n and t from 0 to 3). */
template <class P>
__device__ void store_by_lanes(__nv_bfloat16* row, const QuerySums<P>& sums, int r, float factor) {
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

/* Multiplies the weighted values of the lane's query r. */
template <class P>
__device__ void scale_query(QuerySums<P>& sums, int r, float factor) {
#pragma unroll
  for (int i = 0; i < kValue / 8; i++) {
    float(&v)[4] = sums.out[r / 2][i];
    v[r % 2 * 2] *= factor;
    v[r % 2 * 2 + 1] *= factor;
  }
}

/* Adds factor times what store_by_lanes stored in a row to the weighted values of the lane's query r. */
template <class P>
__device__ void add_by_lanes(QuerySums<P>& sums, int r, const __nv_bfloat16* row, float factor) {
  visit_by_lanes(row, [&](int i, float x) {
    float& v = sums.out[r / 2][i / 2][r % 2 * 2 + i % 2];
    v = fmaf(factor, x, v);
  });
}

/* Stores the weighted values of the tile's queries over their sums, joined, in rows (n, heads, value). */
template <class P>
__device__ void store_values(__nv_bfloat16* out, const QuerySums<P>& sums, const QueryTile<P>& tile) {
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
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

/* How attend_blocks adds values, and what it calls behind that, where nobody asks for the weights. */
struct IgnoreWeights {
  static constexpr int kWeightLog2 = 0;
  template <class P>
  __device__ void add_values(int32_t, QuerySums<P>& sums, const PackedWeights<P>& weights,
                             const ExpandedShared& s) const {
    P::add_values(sums.out, weights, s);
  }
};
struct IgnoreEntry {
  __device__ void operator()(int32_t) const {}
};

/* Entries [begin, end) of the n of a tile's blocks. The last one asks for the keys of the entry behind it, if
 * there is one, with which another call goes on. */
struct Entries {
  int32_t begin, end, n;

  __device__ Entries(int32_t all) : Entries(0, all, all) {}
  __device__ Entries(int32_t from, int32_t to, int32_t all) : begin(from), end(to), n(all) {}
};

/* Goes through entries of the tile's blocks, of rows before `end`, which adds to what `sums` has of others.
 * The queries are under way or there. weighed.add_values(entry, sums, weights, s) adds the values of a block
 * that is not left out; the largest weight is 2^Weighed::kWeightLog2. added(entry): called behind each block.
 */
template <class P, class Blocks, class Range, class Weighed = IgnoreWeights, class Added = IgnoreEntry>
__device__ void attend_blocks(const ExpandedShared& s, const ExpandedRows& rows, const Blocks& blocks,
                              const Entries& entries, int32_t end, const QueryTile<P>& tile,
                              const Range& range, QuerySums<P>& sums, const Weighed& weighed = {},
                              const Added& added = {}) {
  const TeamSeen seen = team_seen(range, tile);
  const int32_t own = tile.team_at() / kBlockRows;
  if (entries.begin == 0 && entries.n > 0)
    load_keys<P>(s, rows, blocks.place(0), end - blocks.at(0), tile.head);
  for (int32_t entry = entries.begin; entry < entries.end; entry++) {
    const int32_t at = blocks.at(entry);
    const bool counts = blocks.counts(entry, own) && at < seen.last && at + kBlockRows > seen.first;
    copy_async_wait<0>();
    P::publish();
    __syncthreads(); /* keys are here, and nobody needs the values before */
    load_values<P>(s, rows, blocks.place(entry), end - at, tile.head);
    PackedWeights<P> weights;
    if (counts) {
      BlockScores<P> scores;
      P::score(scores, s);
      if (at < seen.from || at + kBlockRows > seen.to) hide_rows<P>(scores, range, tile, at);
      float scale[P::kTiles][2];
      rescale(sums, weigh_block<P, Weighed::kWeightLog2>(scores, sums, scale), scale);
      pack_weights<P>(weights, scores);
    }
    copy_async_wait<0>();
    P::publish();
    __syncthreads(); /* values are here, and nobody needs the keys */
    if (entry + 1 < entries.n)
      load_keys<P>(s, rows, blocks.place(entry + 1), end - blocks.at(entry + 1), tile.head);
    if (counts) weighed.template add_values<P>(entry, sums, weights, s);
    added(entry);
  }
}

}  // namespace ek::cuda
#endif
