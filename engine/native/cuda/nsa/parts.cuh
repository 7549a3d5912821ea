/* Parts of sequences in decode: who has which, and how a block leaves its own. */
#ifndef EK_CUDA_NSA_PARTS_CUH
#define EK_CUDA_NSA_PARTS_CUH
#include "decode.h"
#include "rows.cuh"

namespace ek::cuda {

/* One sequence of the batch. */
struct Place {
  int32_t sequence, t;
  const int32_t* blocks;
  const __nv_bfloat16* query;
};

__device__ inline Place place_of(const DecodeBatch& b, int32_t i) {
  return {i, b.positions[i], b.blocks + static_cast<size_t>(i) * b.most_blocks,
          b.query + static_cast<size_t>(i) * kHeads * kRow};
}

/* A range of tiles, or of parts. */
struct Share {
  int32_t begin, end;
};

/* The share of part `part` of n_parts in n tiles. */
__device__ inline Share even_share(int32_t part, int32_t n_parts, int32_t n) {
  const int32_t each = (n + n_parts - 1) / n_parts, begin = min(n, part * each);
  return {begin, min(n, begin + each)};
}

/* What the token at t attends to whatever it selects, in one row of tiles: the pooled rows, the window, and
 * the forced blocks. A block of the grid that has tiles of two branches leaves a part for each. */
struct NearTiles {
  int32_t pooled, window, all; /* ends of the branches */

  __device__ NearTiles(const NsaRule& rule, int32_t t) {
    const int32_t own = t / 64;
    pooled = (pooled_visible(t) + kTileTokens - 1) / kTileTokens;
    window = pooled + own - rule.window_begin(t) / 64 + 1;
    all = window + min(own + 1, rule.initial + rule.local);
  }
  __device__ int branch(int32_t tile) const { return (tile >= pooled) + (tile >= window); }
  __device__ int32_t end(int branch) const { return branch == 0 ? pooled : branch == 1 ? window : all; }
  /* How many of n blocks of the grid have tiles before `tile`. */
  __device__ uint32_t blocks_before(int32_t tile, int32_t n) const {
    const int32_t each = (all + n - 1) / n;
    return (tile + each - 1) / each;
  }
  /* The parts of a branch. */
  __device__ Share parts(int branch, int32_t n_parts) const {
    const int32_t each = (all + n_parts - 1) / n_parts, begin = branch == 0 ? 0 : end(branch - 1);
    if (begin == end(branch)) return {0, 0};
    return {begin / each + branch, (end(branch) - 1) / each + branch + 1};
  }
};

/* Parts in memory of what n blocks of the grid leave of NearTiles. */
inline int32_t near_slots(int32_t n) { return n + 2; }

__device__ inline void store_part(const AttendParts& parts, int32_t sequence, int32_t part,
                                  const RowSums& sums) {
  const size_t at = static_cast<size_t>(sequence) * parts.n + part;
  store_latents(parts.latents + at * kHeads * kLatent, sums);
  if (threadIdx.x % 16 != 0) return;
  parts.top[at * kHeads + threadIdx.x / 16] = sums.top;
  parts.sum[at * kHeads + threadIdx.x / 16] = sums.sum;
}

__device__ inline void store_empty_part(const AttendParts& parts, int32_t sequence, int32_t part) {
  const size_t at = static_cast<size_t>(sequence) * parts.n + part;
  if (threadIdx.x < kHeads) parts.sum[at * kHeads + threadIdx.x] = 0;
}

/* out of the parts of all sequences. Those of `late` are complete when the kernel before is: all of dense
 * attention, where near_parts is 0, and those of the chosen blocks. Those of NearTiles, which near_parts
 * blocks leave, are complete when `progress` says so. */
void launch_combine_parts(cudaStream_t stream, const DecodeBatch& b, const AttendParts& parts,
                          const NsaRule& rule, int32_t near_parts, const SparseProgress& progress,
                          const Share& late);

}  // namespace ek::cuda
#endif
