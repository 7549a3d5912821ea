/* What the kernels of PrefillAttention share in device memory, and their launchers. */
#ifndef EK_CUDA_NSA_PREFILL_KERNELS_H
#define EK_CUDA_NSA_PREFILL_KERNELS_H
#include <cuda_fp16.h>

#include "../prefill/expanded.h"
#include "part_values.cuh"
#include "prefill_queries.h"
#include "rule.h"

namespace ek::cuda {

/* Of a tile of 64 pooled rows: log2 of what its masses are relative to, and the weight of its last row, which
 * counts for the first block of the next tile as well. */
struct TileBase {
  float base, last;
};

/* Of the queries of a part that select, all or the first of each tile, what selection needs of the scores
 * with pooled rows, 64 of these in a tile. Queries of a tile are neighbours: they are written together. */
struct PooledMass {
  /* (heads, tiles, most_queries, 4, 4) of block 8 n + 2 i + u of the tile at [i][2 n + u], relative to the
   * tile's base */
  __half* mass;
  TileBase* base; /* (heads, tiles, most_queries) */
  float* total;   /* (n, heads) log2 of the sum of the weights of all rows */
  int32_t most_tiles, most_queries;

  /* Of the first query in a head's tile. */
  __device__ size_t place(int head, int32_t tile) const {
    return static_cast<size_t>(head * most_tiles + tile) * static_cast<size_t>(most_queries);
  }
};

/* Pairs of one block that a block of the grid has at most: its warps go through them by 32. */
constexpr int kPairTile = 512;

/* At most kPairTile pairs of one block. */
struct alignas(16) PairTile {
  int32_t block, first, end;
};

/* Of the queries of a group, which ones chose each block: those blocks that compete, so that all of a block's
 * rows count for all of its queries. A pair is the slot of a query and block in SelectedParts. */
struct ChosenPairs {
  int32_t* count;  /* (blocks) pairs */
  int32_t* first;  /* (blocks) pair of each */
  int32_t* number; /* (n, selected) of an entry's pair among those of its block */
  int32_t* pair;   /* (n * chosen) by block */
  PairTile* tile;  /* (most_tiles) */
  int32_t* n_tiles;
  int32_t most_tiles;
};

/* Slots of a query's forced blocks: the last ones, and the first ones but those that are among them. */
constexpr int kForcedSlots = 2;

/* What a query has of its forced blocks, and of each block that it chose, in a slot of its own behind them. A
 * slot's number is that of the query times n and its own. */
struct SelectedParts {
  uint32_t* words; /* (n, slots, heads, kPartWords) */
  PartSums* sums; /* (heads, most_queries, slots): of a head, so that neighbours are written at about the same
                     time */
  int32_t n;      /* slots of a query */
  int32_t most_queries;

  __device__ uint32_t* words_of(size_t slot, int head) const {
    return words + (slot * kHeads + static_cast<size_t>(head)) * kPartWords;
  }
  __device__ PartSums* sums_of(size_t slot, int head) const {
    return sums + static_cast<size_t>(head) * static_cast<size_t>(most_queries) * static_cast<size_t>(n) +
           slot;
  }
};

/* The gated pooled branch (n, heads, value) of a part, and its masses: of each query, or of the first of each
 * tile where these share a choice. q: the part. */
void launch_attend_pooled(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& pooled,
                          const NsaRule& rule, const PooledMass& mass, __nv_bfloat16* branch);
/* Before the first queries of a group that ends with `end` are selected for. */
void launch_clear_pairs(cudaStream_t stream, const ChosenPairs& pairs, int32_t end);
/* lists (n, selected) of the queries among [first, end) that select, of which the first one is the first of
 * mass. Unless pairs is empty, also counts and numbers of pairs. group: its first query. */
void launch_select_blocks(cudaStream_t stream, const PooledMass& mass, const ChosenPairs& pairs,
                          const NsaRule& rule, int32_t group, int32_t first, int32_t end, int32_t* lists);
/* pairs of queries [first, end), all of a group, whose lists begin with the first. slots: of a query, as of
 * SelectedParts. */
void launch_pair_blocks(cudaStream_t stream, const ChosenPairs& pairs, const NsaRule& rule, int32_t slots,
                        const int32_t* lists, int32_t first, int32_t end);
/* The slots of all pairs. q: the group. */
void launch_attend_pairs(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                         const ChosenPairs& pairs, const SelectedParts& parts);
/* The slots of forced blocks, and the gated window. q: the group. */
void launch_attend_near(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                        const NsaRule& rule, const SelectedParts& parts, __nv_bfloat16* window);
/* All blocks and branches of queries that share a choice. q: the run, with which local and branch begin, the
 * gated pooled branch, which the window is added to in place. */
void launch_attend_shared(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                          const NsaRule& rule, const int32_t* lists, PartSums* local, __nv_bfloat16* branch);
/* out = pooled + the selected branch, of all slots, gated, + window. q: the group, with which pooled and
 * window begin. */
void launch_combine_branches(cudaStream_t stream, const PrefillQueries& q, const NsaRule& rule,
                             const SelectedParts& parts, const __nv_bfloat16* pooled,
                             const __nv_bfloat16* window);

}  // namespace ek::cuda
#endif
