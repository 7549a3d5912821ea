/* Attention of a run of new tokens with expanded keys and values: dense, or native sparse attention, where
 * every token selects for itself (docs/decisions/0009). */
#ifndef EK_CUDA_NSA_PREFILL_H
#define EK_CUDA_NSA_PREFILL_H
#include <cuda_bf16.h>

#include <functional>
#include <vector>

#include "rule.h"

namespace ek::cuda {

/* Keys and values of rows 0, 1, … in device memory: the rotary half of a key is shared by all heads. */
struct ExpandedRows {
  const __nv_bfloat16* keys;   /* (rows, heads, nope) */
  const __nv_bfloat16* rotary; /* (rows, rope), rows `rotary_stride` elements apart */
  const __nv_bfloat16* values; /* (rows, heads, value) */
  int32_t rotary_stride;
};

/* The tokens at positions [first, end). */
struct PrefillQueries {
  const __nv_bfloat16* query; /* (n, heads, nope + rope) scaled and rotated */
  const float* gates;         /* (n, heads, 3) before the sigmoid: pooled, selected, window */
  __nv_bfloat16* out;         /* (n, heads, value) */
  int32_t first, end;
};

/* Of the queries of a part, what selection needs of the scores with pooled rows, 64 of these in a tile. */
struct PooledMass {
  float*
      mass; /* (n, heads, tiles, 2, 8) of block 2 i + u of the tile at [u][i], relative to the tile's top */
  float* base;  /* (n, heads, tiles) log2 of what the tile's masses are relative to */
  float* top;   /* (n, heads) the same of the sum of all rows */
  float* total; /* (n, heads) that sum */
  int32_t most_tiles;
};

/* The blocks that a tile of queries needs, in ascending order, and which queries each one is for. */
struct TilePlans {
  int32_t* n;     /* (tiles) */
  int32_t* block; /* (tiles, most) */
  uint4* member;  /* (tiles, most) a bit per query, a word per warp */
  int32_t most;
};

/* How many blocks tiles load and warps compute, on average; each query has NsaRule::selected. */
struct UnionSize {
  double of_tile, of_warp;
};

class PrefillAttention {
 public:
  /* Workspace for runs of at most most_queries tokens that end at most_tokens at most. part: tokens whose
   * scores are kept at a time, a multiple of kTileQueries. */
  PrefillAttention(Device& d, int32_t most_queries, int32_t most_tokens, const NsaRule& rule = {},
                   int32_t part = 4096);

  /* Every token over all before and itself. */
  void dense(const PrefillQueries& q, const ExpandedRows& rows) const;
  /* Pooled rows, selected blocks and window. Bits do not depend on where a prompt is cut into runs. */
  void sparse(const PrefillQueries& q, const ExpandedRows& rows, const ExpandedRows& pooled) const;

  /* Of the last call of sparse; both wait. */
  std::vector<std::vector<int32_t>> selected(int32_t first, int32_t end) const;
  UnionSize union_size(int32_t first, int32_t end) const;

  /* Operations of the products that the rule asks for, over positions [first, end). */
  static double dense_operations(int32_t first, int32_t end);
  double sparse_operations(int32_t first, int32_t end) const;
  size_t n_bytes() const { return memory_.n_bytes(); }

  /* Called after each launch; for timing. */
  std::function<void(const char*)> after;

 private:
  void check_run(const PrefillQueries& q) const;
  void mark(const char* name) const {
    if (after) after(name);
  }

  Device& device_;
  int32_t most_queries_, most_tokens_, part_;
  NsaRule rule_;
  DeviceMemory memory_;
  PooledMass mass_{};
  TilePlans plans_{};
  float* sums_ = nullptr;    /* (n, heads, value) of the branches so far */
  int32_t* lists_ = nullptr; /* (n, selected) */
};

/* lists (n, selected) of queries [first, end), the first of them the first of mass; positions are absolute.
 */
void launch_select_queries(cudaStream_t stream, const PooledMass& mass, const NsaRule& rule, int32_t first,
                           int32_t end, int32_t* lists);
/* Plans of the tiles that queries [first, end) lie in. */
void launch_plan_tiles(cudaStream_t stream, const TilePlans& plans, const NsaRule& rule, const int32_t* lists,
                       int32_t first, int32_t end);

}  // namespace ek::cuda
#endif
