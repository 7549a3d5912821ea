/* Attention of one new token of each of several sequences, in absorbed form: dense, or native sparse
 * attention. One launch serves all sequences. */
#ifndef EK_CUDA_NSA_DECODE_H
#define EK_CUDA_NSA_DECODE_H
#include <cuda_bf16.h>

#include <functional>
#include <vector>

#include "rule.h"

namespace ek::cuda {

/* In device memory. The kernel just before a call may store the queries, the gates, and the last row and
 * pooled row of each sequence; all else is there when it begins. A sequence's i-th 64 tokens lie in cache
 * block blocks[i]; its pooled row i lies in the block of its last token, as row (i + 1) % 4, and is key and,
 * in its first kLatent numbers, value. */
struct DecodeBatch {
  int32_t n, most_blocks;      /* sequences; length of a block table */
  const int32_t* positions;    /* (n) of the new tokens, whose rows are in the cache */
  const int32_t* blocks;       /* (n, most_blocks) */
  const __nv_bfloat16* query;  /* (n, heads, row) absorbed, rotated and scaled */
  const __nv_bfloat16* cache;  /* (blocks, 64, row) */
  const __nv_bfloat16* pooled; /* (blocks, 4, row) */
  const float* gates;          /* (n, heads, 3) before the sigmoid: pooled, selected, window */
  float* out;                  /* (n, heads, latent) weighted latents */
};

/* The parts in which sequences are attended to. A part without rows has sum 0 and no latents. */
struct AttendParts {
  float* latents; /* (n, parts, heads, latent) */
  float* top;     /* (n, parts, heads) largest score */
  float* sum;     /* (n, parts, heads) of exp(score - top) */
  int32_t n;      /* parts of a sequence */
};

/* Scores of the pooled rows, 64 in a tile, as selection needs them: relative to the tile's largest. */
constexpr int kPooledBlocks = 16; /* of 64 tokens, in a tile of pooled rows */
struct PooledScores {
  float2* total; /* (n, heads, tiles) largest score; sum */
  float* mass;   /* (n, tiles, heads, kPooledBlocks) of each 64 tokens, without what the row before the tile
                    adds */
  float2* carry; /* (n, tiles, heads / 2) of heads h and h + 8, what the tile's last row adds to the next
                  * one's first block */
  int32_t most_tiles;
};

/* How far a call has come with each sequence; all 0 between calls. */
struct SparseProgress {
  uint32_t* scored;   /* (n) blocks that have stored all their scores of pooled rows */
  uint32_t* pooled;   /* (n) those that have stored their part of them */
  uint32_t* window;   /* (n) blocks that have stored their part of the window */
  uint32_t* combined; /* (n) blocks of combine that have waited for these */
};

class BatchAttention {
 public:
  /* Workspace for n sequences of at most most_blocks blocks. How a sequence is split into parts depends on
   * their number and on the GPU, and on nothing else; what is selected not even on these. */
  BatchAttention(Device& d, int32_t n, int32_t most_blocks, const NsaRule& rule = {});

  /* Every token up to the new one; two launches. gates and pooled are not read. */
  void dense(const DecodeBatch& batch) const;
  /* Pooled rows, selected blocks and window; three launches, each of which may begin while the one before
   * still runs. */
  void sparse(const DecodeBatch& batch) const;
  /* The blocks that each sequence selected in the last call of sparse; for tests. Waits. */
  std::vector<std::vector<int32_t>> selected(const std::vector<int32_t>& positions) const;

  /* Bytes of rows that a sequence at `position` reads; a row that two branches read counts once. */
  static double dense_bytes(int32_t position);
  double sparse_bytes(int32_t position) const;
  /* Operations of the products. */
  static double operations(double n_rows);
  double sparse_rows(int32_t position) const;

  /* Called after each launch; for timing. */
  std::function<void(const char*)> after;

 private:
  void check_batch(const DecodeBatch& batch) const;
  void mark(const char* name) const {
    if (after) after(name);
  }

  Device& device_;
  int32_t n_, most_blocks_;
  NsaRule rule_;
  int stages_;
  size_t most_shared_;                                  /* memory of a block */
  int32_t dense_parts_, pooled_parts_, selected_parts_; /* blocks per sequence */
  DeviceMemory memory_;
  AttendParts parts_{};
  PooledScores scores_{};
  SparseProgress progress_{};
  int32_t* lists_ = nullptr; /* (n, kMostSelected) */
};

}  // namespace ek::cuda
#endif
