/* The queries of a block of the grid, and which rows they see. */
#ifndef EK_CUDA_PREFILL_QUERY_TILE_CUH
#define EK_CUDA_PREFILL_QUERY_TILE_CUH
#include "../decode/shape.h"
#include "expanded.h"
#include "tile.cuh"

namespace ek::cuda {

/* Which of the teams, warps that multiply together, the thread's is. That it is the same for a warp shows
 * only by the shuffle: without it what depends on it takes registers of every lane. */
template <class P>
__device__ int team_of_warp() {
  return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / (P::kTeamWarps * kWarp), 0);
}

/* The tile of a block: positions from `at` on, of which those of the run [first, end) are there. Each of
 * P::kWarps warps has as many of them. */
template <class P>
struct QueryTile {
  static constexpr int kThreads = P::kWarps * kWarp, kWarpQueries = kTileQueries / P::kWarps;
  static constexpr int kRows = kWarpQueries / 8; /* of a lane */
  static constexpr int kTeamQueries = P::kTeamWarps * kWarpQueries;
  int32_t at, head, first, end;

  /* Of the warps that multiply together. */
  __device__ int32_t team_at() const { return at + team_of_warp<P>() * kTeamQueries; }
  /* Position of row r of the lane: rows 2 m and 2 m + 1 are of tensor-core tile m. */
  __device__ int32_t position(int r) const {
    const int thread = thread_now();
    return at + thread / kWarp * kWarpQueries + r * 8 + thread % kWarp / 4;
  }
  __device__ bool is_new(int32_t position) const { return position >= first && position < end; }
  /* The last query of the run in the tile. */
  __device__ int32_t last() const { return min(end, at + kTileQueries) - 1; }
  /* The lane's query r among rows (n, heads) that begin with the run's first query. */
  __device__ size_t row(int r) const { return static_cast<size_t>(position(r) - first) * kHeads + head; }
};

/* Of a grid (tiles, heads): tiles of a head are neighbours, so that its keys and values stay in L2; the last
 * ones have the most rows and come first. */
template <class P>
__device__ QueryTile<P> tile_of_block(int32_t first, int32_t end) {
  const int32_t from_end = blockIdx.x;
  return {((end - 1) / kTileQueries - from_end) * kTileQueries, static_cast<int32_t>(blockIdx.y), first, end};
}

inline int32_t n_tiles_of(int32_t first, int32_t end) {
  return (end - 1) / kTileQueries - first / kTileQueries + 1;
}

/* Which rows the query at a position sees: [begin, end), both of which only grow. */
struct RowsBefore {
  __device__ int32_t begin(int32_t) const { return 0; }
  __device__ int32_t end(int32_t position) const { return position + 1; }
};

/* The rows of warps that multiply together: no query sees one outside of [first, last), all see those in
 * [from, to). Positions outside of the run see nothing. */
struct TeamSeen {
  int32_t first, last, from, to;
};

template <class Range, class P>
__device__ TeamSeen team_seen(const Range& range, const QueryTile<P>& tile) {
  constexpr int kQueries = QueryTile<P>::kTeamQueries;
  const int32_t at = tile.team_at(), begin = max(at, tile.first), end = min(at + kQueries, tile.end);
  if (begin >= end) return {0, 0, 0, 0};
  const bool all_new = end - begin == kQueries;
  return {range.begin(begin), range.end(end - 1), range.begin(end - 1), all_new ? range.end(begin) : 0};
}

}  // namespace ek::cuda
#endif
