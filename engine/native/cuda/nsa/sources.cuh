/* Where the tiles that attend_rows goes through lie in the paged cache. */
#ifndef EK_CUDA_NSA_SOURCES_CUH
#define EK_CUDA_NSA_SOURCES_CUH
#include "parts.cuh"

namespace ek::cuda {

/* All blocks of cached rows in order. */
struct CachedTiles {
  const __nv_bfloat16* cache;
  const int32_t* blocks;
  int32_t t;

  using Asked = int32_t; /* block of the cache */

  __device__ Asked ask(int32_t entry) const { return blocks[entry]; }
  __device__ const __nv_bfloat16* rows(Asked asked, int32_t, int i) const {
    return cache + (static_cast<size_t>(asked) * 64 + first_warp_row() + i) * kRow;
  }
  __device__ Bounds bounds(int32_t entry) const { return {0, min(kTileTokens, t + 1 - entry * 64)}; }
  __device__ NewestRow newest(int32_t entry) const {
    if (entry != t / 64) return {};
    return {t % 64, cache + (static_cast<size_t>(blocks[entry]) * 64 + t % 64) * kRow};
  }
};

/* Pooled rows. */
struct PooledTiles {
  const __nv_bfloat16* pooled;
  const int32_t* blocks;
  int32_t t;

  /* Blocks of the cache: of pooled rows 0 to 2, 3 to 6, and 7 of a warp. */
  struct Asked {
    int32_t block[3];
  };

  __device__ Asked ask(int32_t tile) const {
    const int32_t first = (tile * kTileTokens + first_warp_row()) / 4, last = pooled_visible(t) / 4;
    return {{blocks[min(first, last)], blocks[min(first + 1, last)], blocks[min(first + 2, last)]}};
  }
  __device__ const __nv_bfloat16* rows(const Asked& asked, int32_t, int i) const {
    return pooled + (static_cast<size_t>(asked.block[(i + 1) / 4]) * 4 + (i + 1) % 4) * kRow;
  }
  __device__ Bounds bounds(int32_t tile) const {
    return {0, min(kTileTokens, pooled_visible(t) - tile * kTileTokens)};
  }
  __device__ NewestRow newest(int32_t tile) const {
    const int32_t at = pooled_visible(t);
    if (tile != (at - 1) / kTileTokens) return {};
    return {(at - 1) % kTileTokens, pooled + (static_cast<size_t>(blocks[at / 4]) * 4 + at % 4) * kRow};
  }
};

/* The blocks that a token chose, and where they lie in the cache. */
struct ChosenBlocks {
  int32_t block[kMostSelected], at[kMostSelected];
};

/* A block's known tiles and then its chosen ones. All rows are there when its kernel begins. */
struct SelectedTiles {
  const __nv_bfloat16* cache;
  const int32_t* blocks;
  NsaRule rule;
  int32_t t, window; /* tiles of the window */
  SelectedShare share;
  const ChosenBlocks* chosen; /* shared */

  using Asked = int32_t; /* block of the cache */

  /* Of 64 tokens, the i-th of the known ones. */
  __device__ int32_t known_block(int32_t i) const {
    if (i < window) return rule.window_begin(t) / 64 + i;
    i -= window;
    return i < rule.initial ? i : max(rule.initial, t / 64 - rule.local + 1) + i - rule.initial;
  }
  __device__ int32_t chosen_entry(int32_t entry) const {
    return share.chosen.begin + entry - share.known.count();
  }
  __device__ bool is_known(int32_t entry) const { return entry < share.known.count(); }
  __device__ Asked ask(int32_t entry) const {
    return is_known(entry) ? blocks[known_block(share.known.begin + entry)] : chosen->at[chosen_entry(entry)];
  }
  __device__ const __nv_bfloat16* rows(Asked asked, int32_t, int i) const {
    return cache + (static_cast<size_t>(asked) * 64 + first_warp_row() + i) * kRow;
  }
  __device__ Bounds bounds(int32_t entry) const {
    if (!is_known(entry)) return {0, kTileTokens}; /* the token's own block is forced */
    const int32_t i = share.known.begin + entry, at = known_block(i) * 64;
    return {i < window ? max(0, rule.window_begin(t) - at) : 0, min(kTileTokens, t + 1 - at)};
  }
  __device__ NewestRow newest(int32_t) const { return {}; }
};

}  // namespace ek::cuda
#endif
