/* Absorbed latent attention of a token over the paged cache, split over the whole device (attend_tile.cuh).
 */
#include "attend_tile.cuh"
#include "kernels.h"
#include "tile_rows.cuh"

namespace ek::cuda {

namespace {

using Shared = AttendShared<1>;

/* A warp copies the part of a tile that it scores, in groups of columns, and scores a group as soon as it is
 * there: no warp waits for another one before its scores are made. */
constexpr int kGroups = 3, kGroupSteps = kHalfSteps / kGroups, kGroupChunks = kGroupSteps * 2;
static_assert(kGroups * kGroupSteps == kHalfSteps, "whole groups");

/* Begins to copy rows [first, end) of cache block `from` that are the warp's, one group of its columns; rows
 * from `behind` on become zeros: their weights are 0, and so must be the products. */
__device__ void copy_group(__nv_bfloat16* tile, const uint8_t* from, int group, int32_t first, int32_t end,
                           int32_t behind) {
  const WarpPart part = warp_part();
  const int column = part.half * kHalf + group * kGroupSteps * 16;
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < 16 * kGroupChunks; i += kWarp) {
    const int row = part.row + i / kGroupChunks, at = column + i % kGroupChunks * 8;
    const bool has = row >= first && row < end;
    if (has || row >= behind)
      copy_async_16(tile + row * kPitch + at, from + (row * kRow + at) * sizeof(__nv_bfloat16), has);
  }
}

/* Rows from `first` on become zeros. */
__device__ void clear_rows(__nv_bfloat16* tile, int32_t first) {
  constexpr int kChunks = kRow / 8;
  for (int i = first * kChunks + static_cast<int>(threadIdx.x); i < kTileTokens * kChunks; i += kThreads)
    *reinterpret_cast<uint4*>(tile + i / kChunks * kPitch + i % kChunks * 8) = {0, 0, 0, 0};
}

/* A tile on its way into shared memory. Its copies are kGroups groups and one of late rows, which may be
 * empty. */
template <RowFormat R>
struct TileLoad {
  __nv_bfloat16* tile;
  int32_t n_rows = 0;  /* that count; the others become zeros */
  int32_t n_begun = 0; /* that were there when it began; the others come late */

  __device__ void begin(const uint8_t* from, int32_t begun, int32_t rows) {
    n_begun = begun;
    n_rows = rows;
    if constexpr (R == RowFormat::kFp8) {
      store_fp8_rows(tile, load_fp8_rows<false>(tile, from, 0, begun), 0, begun);
      clear_rows(tile, rows);
    } else {
      for (int group = 0; group < kGroups; group++) {
        copy_group(tile, from, group, 0, begun, rows);
        copy_async_commit();
      }
    }
  }
  /* Goes on with the late rows. */
  __device__ void go_on(const uint8_t* from) const {
    if (n_begun < n_rows) {
      if constexpr (R == RowFormat::kFp8) {
        store_fp8_rows(tile, load_fp8_rows<false>(tile, from, n_begun, n_rows), n_begun, n_rows);
      } else {
        for (int group = 0; group < kGroups; group++)
          copy_group(tile, from, group, n_begun, n_rows, kTileTokens);
      }
    }
    copy_async_commit();
  }
  /* Behind it the warp may score the group's columns. */
  __device__ void wait(int group) const {
    if constexpr (R == RowFormat::kFp8) {
      if (group > 0) return;
      copy_async_wait<0>();
      __syncthreads(); /* other threads made the rows */
    } else {
      static_assert(kGroups == 3, "a case for each group");
      if (n_begun < n_rows) copy_async_wait<0>();
      if (group == 0) copy_async_wait<3>();
      if (group == 1) copy_async_wait<2>();
      if (group == 2) copy_async_wait<1>();
      __syncwarp();
    }
  }
};

/* Scores of the tile, for all threads of the block. */
template <RowFormat R>
__device__ void score_rows(Shared& s, const TileLoad<R>& load) {
  const int lane = threadIdx.x % kWarp;
  const WarpPart part = warp_part();
  PartScores c = {};
#pragma unroll
  for (int k = 0; k < kHalfSteps; k++) {
    if (k % kGroupSteps == 0) load.wait(k / kGroupSteps);
    uint32_t q[4];
    load_left<kPitch>(q, s.query, 0, part.half * kHalf + k * 16, lane);
    add_scores(c, q, load.tile, part, k, lane);
  }
  if (part.half == 1) store_part_scores<false>(s.score[0], c, part, lane);
  __syncthreads();
  if (part.half == 0) store_part_scores<true>(s.score[0], c, part, lane);
  __syncthreads();
}

__device__ void store_sums(const TokenBuffers& b, const RowSums& sums) {
  store_latents(b.part + static_cast<size_t>(blockIdx.x) * kHeads * kLatent, own_latents(), sums);
  if (threadIdx.x % 16 != 0) return;
  b.part_max[threadIdx.x / 16 * kSplits + blockIdx.x] = sums.top;
  b.part_sum[threadIdx.x / 16 * kSplits + blockIdx.x] = sums.sum;
}

/* Block (i, j) of the grid has the i-th even share of token j's blocks: those listed for it from position
 * sparse_from on, before it all. One tile is in shared memory, so that two
 * blocks fit into a multiprocessor: one loads while the other computes. */
template <RowFormat R>
__global__ void __launch_bounds__(kThreads, 2)
    attend_kernel(StepBuffers all, int32_t n_blocks, int32_t layer, int32_t sparse_from) {
  const TokenBuffers b = all.of_token(blockIdx.y);
  uint4* memory = dynamic_shared<uint4>();
  Shared& s = *reinterpret_cast<Shared*>(memory);
  TileLoad<R> load{reinterpret_cast<__nv_bfloat16*>(memory + kAttendShared<1> / sizeof(uint4))};
  allow_next_kernel();
  /* absorb, or select, has begun, so the kernels before it are done: the step's state is there, and what
   * earlier steps stored; with a list also the query. */
  const int32_t t = b.state->position, first = b.state->first; /* rows before it were there before the step */
  const bool sparse = t >= sparse_from;
  const auto rows_of = [&](int32_t block) {
    return all.cache.data + (static_cast<size_t>(layer) * n_blocks + block) * (64 * cache_row_bytes(R));
  };
  int32_t n = t / 64 + 1, share = 0, begin = 0, end = 0;
  const auto divide = [&] {
    share = (n + kSplits - 1) / kSplits;
    begin = min(n, static_cast<int32_t>(blockIdx.x) * share);
    end = min(n, begin + share);
  };
  divide();
  /* The last entry is the token's own block. */
  const auto rows_in = [&](int32_t entry) { return entry == n - 1 ? t % 64 + 1 : kTileTokens; };
  if (sparse) {
    load_query(s.query, b.query);
  } else if (begin < end) {
    const int32_t rows = rows_in(begin);
    load.begin(rows_of(b.blocks[begin]), min(max(first - begin * kTileTokens, 0), rows), rows);
  }
  wait_for_kernel_before();
  const int32_t* blocks = sparse ? b.listed + static_cast<size_t>(layer) * n_blocks : b.blocks;
  const int32_t split = blockIdx.x;
  int32_t of_split = 0; /* where each split has one block: loaded beside their number, not behind it */
  if (sparse) {
    of_split = blocks[min(split, n_blocks - 1)];
    n = b.n_listed[layer];
    divide();
  }
  const auto block_of = [&](int32_t entry) { return sparse && entry == split ? of_split : blocks[entry]; };
  if (begin == end) {
    if (threadIdx.x < kHeads) b.part_sum[threadIdx.x * kSplits + blockIdx.x] = 0;
    return;
  }
  RowSums sums;
  for (int32_t entry = begin; entry < end; entry++) {
    const uint8_t* from = rows_of(block_of(entry));
    if (sparse || entry > begin) load.begin(from, rows_in(entry), rows_in(entry));
    load.go_on(from);
    if (!sparse && entry == begin) load_query(s.query, b.query);
    if (entry == begin) __syncthreads(); /* the queries are there */
    score_rows(s, load);
    float v[4];
    weigh_rows(s, {0, load.n_rows}, sums, v);
    __syncthreads();
    add_rows(s, load.tile, own_latents(), sums);
    __syncthreads(); /* nobody needs the tile */
  }
  store_sums(b, sums);
}

}  // namespace

void launch_attend(const Step& s, int32_t layer_index, bool sparse) {
  for_row_format(s.shape.rows, [&]<RowFormat R>() {
    launch_overlapped(s, sparse ? "attend_sparse" : "attend_dense", attend_kernel<R>, {kSplits, s.n_tokens},
                      kThreads, kAttendShared<1> + kRowsTile, s.b, s.shape.n_blocks, layer_index,
                      sparse ? s.shape.dense_len : INT32_MAX);
  });
}

}  // namespace ek::cuda
