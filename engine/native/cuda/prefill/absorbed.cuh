/* Attention of a short run in absorbed form, whose two ways are in absorbed.cu and absorbed_groups.cu. */
#ifndef EK_CUDA_PREFILL_ABSORBED_CUH
#define EK_CUDA_PREFILL_ABSORBED_CUH
#include "kernels.h"

namespace ek::cuda {

struct AbsorbedOp {
  ChunkBuffers b;
  StepBuffers cache;
  LiteShape shape;
  int32_t layer, first, end; /* positions of the queries */
  bool selects;

  /* Whether a token at position t is of the run's chunk. */
  __device__ bool has(int32_t t) const { return t >= first && t < end; }
  /* Where a split's part of a token's head lies. */
  __device__ size_t part(int32_t t, int32_t split, int h) const {
    return (static_cast<size_t>(t - first) * kAbsorbedSplits + split) * kHeads + h;
  }
  /* 8 columns of the query of a head of the token at t, or of the nearest one that the chunk has. */
  __device__ const uint4& query(int32_t t, int h, int piece) const {
    constexpr int kLatentPieces = kLatent / 8;
    const size_t line = static_cast<size_t>(min(max(t, first), end - 1) - first) * kHeads + h;
    return *reinterpret_cast<const uint4*>(piece < kLatentPieces ? b.absorbed + line * kLatent + piece * 8
                                                                 : b.query + line * (kNope + kRope) + kNope +
                                                                       (piece - kLatentPieces) * 8);
  }
  /* The 64 cached rows of a block of the sequence. */
  __device__ const uint8_t* rows(int32_t block) const {
    const size_t place = static_cast<size_t>(layer) * shape.n_blocks + cache.blocks[block];
    return cache.cache.data + place * (64 * cache_row_bytes(cache.cache.format));
  }
};

/* The blocks that some tokens of a tile attend to: those of the tile, up to their own. */
struct AbsorbedBlocks {
  const int32_t* list;      /* null: entry i is block i */
  int32_t n_listed, behind; /* first block that is not in the list */
  int32_t begin, end;       /* entries of this split */

  __device__ int32_t at(int32_t i) const {
    return list == nullptr ? i : i < n_listed ? list[i] : behind + i - n_listed;
  }
};

/* Of n_tokens from `position` on. The split has the same entries for all tokens of a tile, however many of
 * them there are yet. */
__device__ inline AbsorbedBlocks absorbed_blocks(const AbsorbedOp& op, int32_t position, int32_t n_tokens,
                                                 int32_t split) {
  const int32_t t = position / kTileQueries * kTileQueries, own = min(position + n_tokens, op.end) - 1;
  AbsorbedBlocks p{nullptr, 0, 0, 0, 0};
  if (op.selects && t >= op.shape.dense_len) {
    p.list = op.cache.tile_list(op.shape, op.layer, t);
    p.n_listed = min(op.shape.most_listed(), t / 64 + 1);
    p.behind = t / 64 + 1;
  }
  const int32_t before = p.list == nullptr ? t / 64 + 1 : p.n_listed; /* up to the first block of the tile */
  const int32_t n = before + own / 64 - t / 64, most = before + kTileQueries / 64 - 1;
  const int32_t share = (most + kAbsorbedSplits - 1) / kAbsorbedSplits;
  p.begin = min(n, split * share);
  p.end = min(n, p.begin + share);
  return p;
}

/* The parts of all tokens, by groups of four warps: on sm_90, for rows of bf16. */
void launch_absorbed_groups(cudaStream_t stream, const AbsorbedOp& op);

}  // namespace ek::cuda
#endif
