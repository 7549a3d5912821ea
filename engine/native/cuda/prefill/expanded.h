/* Cached rows as keys and values of every head, and attention of a run of tokens to a segment of them. */
#ifndef EK_CUDA_PREFILL_EXPANDED_H
#define EK_CUDA_PREFILL_EXPANDED_H
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace ek::cuda {

/* Rows in device memory: the rotary half of a key is shared by all heads. */
struct ExpandedRows {
  const __nv_bfloat16* keys;   /* (rows, heads, nope) */
  const __nv_bfloat16* rotary; /* (rows, rope), rows `rotary_stride` elements apart */
  const __nv_bfloat16* values; /* (rows, heads, value) */
  int32_t rotary_stride;
};

/* Which blocks of 64 positions the tiles of kTileQueries positions from dense_len on attend to: those of
 * their list, in ascending order, and what begins inside of the tile. */
struct TileLists {
  const int32_t* of_block;   /* (cache blocks, most_listed) of the tile that begins in a block; null: none */
  const int32_t* block_slot; /* the slot of each block of the sequence that a tile needs, ascending */
  int32_t most_listed;       /* of earlier tiles as many as there are blocks up to its first */
  int32_t dense_len;         /* a multiple of kTileQueries; before it slots are blocks, and tiles see all */
};

/* The tokens at positions [first, end), and slots [begin_slot, end_slot) of the blocks that they attend to:
 * block i of the sequence has slot i where there are no lists. Calls go through all slots in ascending order,
 * and what a token's row is does not depend on how many calls there are, to the bit. */
struct SegmentAttention {
  const __nv_bfloat16* query; /* (n, heads, nope + rope) scaled and rotated */
  int32_t first, end;
  ExpandedRows rows;     /* keys and values begin with begin_slot; rotary: of the cache's rows, by block */
  const int32_t* blocks; /* block of the cache that has each 64 positions */
  TileLists lists;
  int32_t begin_slot, end_slot;
  /* Of the segments before, where a tile has more: weighted values (n, heads, value), the maximum times log2
   * e (n, heads), and parts of the sum (n, heads, 4). */
  float *sums, *tops, *totals;
  __nv_bfloat16* out; /* (n, heads, value), written where a tile's last slot is in the segment */
};

void launch_attend_segment(cudaStream_t stream, const SegmentAttention& a);

}  // namespace ek::cuda
#endif
