/* Absorbed attention of one token over tiles of rows that may lie anywhere: ../decode/attend_tile.cuh, with
 * the queries in registers and one or two tiles in shared memory. */
#ifndef EK_CUDA_NSA_ROWS_CUH
#define EK_CUDA_NSA_ROWS_CUH
#include "../decode/attend_tile.cuh"

namespace ek::cuda {

using RowsShared = AttendShared<2>;
constexpr size_t kRowsShared = kAttendShared<2>;

/* Begins to copy the queries (heads, row) of a token; the next tile ends the group of copies. */
__device__ inline void load_rows_query(uint4* memory, const __nv_bfloat16* query) {
  RowsShared& s = *reinterpret_cast<RowsShared*>(memory);
  constexpr int kChunks = kRow / 8;
  for (int i = threadIdx.x; i < kHeads * kChunks; i += kThreads)
    copy_async_16(s.query + i / kChunks * kPitch + i % kChunks * 8, query + i * 8, true);
}

constexpr int kWarpRows = kTileTokens / kWarps;
/* A warp copies so many rows of a tile, from this one on. */
__device__ inline int first_warp_row() { return static_cast<int>(threadIdx.x) / kWarp * kWarpRows; }

/* A row of a tile that the kernel before may have stored, and where it lies; row -1: there is none. */
struct NewestRow {
  int32_t row = -1;
  const __nv_bfloat16* from = nullptr;
};

/* Begins to copy a tile but its row `left_out`; rows that do not count become zeros. asked: what the source
 * has loaded of the block table for the warp's rows. */
template <class Source>
__device__ void load_rows_of(__nv_bfloat16* tile, const Source& source, int32_t entry,
                             const typename Source::Asked& asked, int32_t left_out = -1) {
  const int lane = threadIdx.x % kWarp, first = first_warp_row();
  const Bounds bounds = source.bounds(entry);
  __nv_bfloat16* to = tile + first * kPitch + lane * 8;
#pragma unroll
  for (int i = 0; i < kWarpRows; i++) {
    const __nv_bfloat16* from = source.rows(asked, entry, i) + lane * 8;
    const bool counts = first + i >= bounds.begin && first + i < bounds.end;
    for (int chunk = 0; chunk < kRow / 8; chunk += kWarp) {
      if (chunk + lane < kRow / 8 && first + i != left_out)
        copy_async_16(to + i * kPitch + chunk * 8, from + chunk * 8, counts);
    }
  }
  copy_async_commit();
}

/* The warp's half of the queries as left matrices. */
__device__ inline void load_query_half(uint32_t (&q)[kHalfSteps][4], const RowsShared& s) {
  const int lane = threadIdx.x % kWarp, first = warp_part().half * kHalf;
#pragma unroll
  for (int k = 0; k < kHalfSteps; k++) load_left<kPitch>(q[k], s.query, 0, first + k * 16, lane);
}

/* Scores of 16 rows over half of the columns. */
__device__ inline void score_half(RowsShared& s, const uint32_t (&q)[kHalfSteps][4],
                                  const __nv_bfloat16* tile) {
  const int lane = threadIdx.x % kWarp;
  const WarpPart part = warp_part();
  PartScores c = {};
#pragma unroll
  for (int k = 0; k < kHalfSteps; k++) add_scores(c, q[k], tile, part, k, lane);
  store_part_scores<false>(s.score[part.half], c, part, lane);
}

/* The columns of the latents that a block sums and stores: one of Pieces even pieces. */
template <int Pieces>
struct LatentPiece {
  static constexpr int kDims = kWarpDims / Pieces; /* of a warp */
  int32_t piece;

  __device__ int first() const {
    return static_cast<int>(piece) * (kLatent / Pieces) + static_cast<int>(threadIdx.x) / kWarp * kDims;
  }
  __device__ void add(const RowsShared& s, const __nv_bfloat16* tile, RowSums& sums) const {
    add_rows<kDims>(s, tile, first(), sums);
  }
  __device__ void store(float* part, const RowSums& sums) const { store_latents<kDims>(part, first(), sums); }
};
using AllLatents = LatentPiece<1>;

/* Whether the queries are in shared memory behind ready(), which then ends with a barrier; or ready() has
 * only stored them, or begun to copy them. */
enum class Queries { kBefore, kBehindReady };

/* Goes through tiles [begin, end) of the source, begin < end. memory: kRowsShared bytes and `stages` tiles, 1
 * or 2. The first `known` tiles may be asked for before ready(): kBefore does so as far as there is room,
 * kBehindReady for one, but for its newest row. Behind ready() the rest is there. What a later tile needs of
 * the block table is asked for a tile earlier, so that no copy waits for it. All threads call scored(entry,
 * v) with the scores of each tile, as of weigh_rows, and added(entry) when it is summed. */
template <Queries Q, class Piece, class Source, class Ready, class Scored, class Added>
__device__ void attend_rows(uint4* memory, int stages, int32_t begin, int32_t end, int32_t known,
                            const Piece& piece, const Source& source, RowSums& sums, Ready&& ready,
                            Scored&& scored, Added&& added) {
  RowsShared& s = *reinterpret_cast<RowsShared*>(memory);
  __nv_bfloat16* tiles = reinterpret_cast<__nv_bfloat16*>(memory) + kRowsShared / sizeof(__nv_bfloat16);
  const auto tile_of = [&](int32_t entry) {
    return tiles + (entry - begin) % stages * (kTileTokens * kPitch);
  };
  const bool two_at_once = stages == 2 && begin + 1 < end;
  typename Source::Asked next{};
  const auto load_next = [&](int32_t entry) {
    load_rows_of(tile_of(entry), source, entry, next);
    next = source.ask(min(entry + 1, end - 1));
  };
  if (Q == Queries::kBehindReady) {
    const NewestRow newest = source.newest(begin);
    load_rows_of(tile_of(begin), source, begin, source.ask(begin), newest.row);
    next = source.ask(min(begin + 1, end - 1));
    ready();
    if (newest.row >= 0 && threadIdx.x < kRow / 8)
      copy_async_16(tiles + newest.row * kPitch + threadIdx.x * 8, newest.from + threadIdx.x * 8, true);
    copy_async_commit();
    if (two_at_once) load_next(begin + 1);
  } else {
    if (known > 0) load_rows_of(tile_of(begin), source, begin, source.ask(begin));
    if (known > 1 && two_at_once) load_rows_of(tile_of(begin + 1), source, begin + 1, source.ask(begin + 1));
    ready();
    if (known < 1) load_rows_of(tile_of(begin), source, begin, source.ask(begin));
    if (known < 2 && two_at_once) load_rows_of(tile_of(begin + 1), source, begin + 1, source.ask(begin + 1));
    next = source.ask(min(begin + stages, end - 1));
  }
  uint32_t q[kHalfSteps][4];
  if (Q == Queries::kBefore) load_query_half(q, s);
  for (int32_t entry = begin; entry < end; entry++) {
    if (entry == begin && two_at_once) {
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads(); /* the tile is here, and nobody needs the one before */
    if (stages == 2 && entry > begin && entry + 1 < end) load_next(entry + 1);
    if (Q == Queries::kBehindReady && entry == begin) load_query_half(q, s);
    score_half(s, q, tile_of(entry));
    __syncthreads();
    float v[4];
    weigh_rows(s, source.bounds(entry), sums, v);
    __syncthreads();
    scored(entry, v); /* behind the barrier, so that other warps multiply meanwhile */
    piece.add(s, tile_of(entry), sums);
    added(entry);
    if (stages == 2 || entry + 1 == end) continue;
    __syncthreads();
    load_next(entry + 1);
  }
}

}  // namespace ek::cuda
#endif
