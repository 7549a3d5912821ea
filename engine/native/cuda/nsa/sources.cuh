/* Where the tiles that attend_rows goes through lie in the paged cache. */
#ifndef EK_CUDA_NSA_SOURCES_CUH
#define EK_CUDA_NSA_SOURCES_CUH
#include "parts.cuh"

namespace ek::cuda {

/* Blocks of cached rows as tiles: those of a list, or in order. */
struct CachedTiles {
  const __nv_bfloat16* cache;
  const int32_t *blocks, *list;
  int32_t t;

  struct Asked {
    int32_t block; /* of the cache */
  };

  __device__ int32_t block(int32_t entry) const { return list == nullptr ? entry : list[entry]; }
  __device__ Asked ask(int32_t entry) const { return {blocks[block(entry)]}; }
  __device__ const __nv_bfloat16* rows(const Asked& asked, int32_t, int i) const {
    return cache + (static_cast<size_t>(asked.block) * 64 + first_warp_row() + i) * kRow;
  }
  __device__ Bounds bounds(int32_t entry) const { return {0, min(kTileTokens, t + 1 - block(entry) * 64)}; }
  __device__ NewestRow newest(int32_t entry) const {
    if (block(entry) != t / 64) return {};
    return {t % 64, cache + (static_cast<size_t>(blocks[t / 64]) * 64 + t % 64) * kRow};
  }
};

/* The rows of NearTiles. */
struct NearRows {
  const __nv_bfloat16 *cache, *pooled;
  const int32_t* blocks;
  NsaRule rule;
  int32_t t;
  NearTiles near;

  /* Blocks of the cache: of pooled rows 0 to 2, 3 to 6, and 7 of a warp; of all rows of another tile. */
  struct Asked {
    int32_t block[3];
  };

  /* Of a tile that is none of pooled rows. */
  __device__ int32_t block(int32_t tile) const {
    if (tile < near.window) return rule.window_begin(t) / 64 + tile - near.pooled;
    const int32_t i = tile - near.window;
    return i < rule.initial ? i : max(rule.initial, t / 64 - rule.local + 1) + i - rule.initial;
  }
  __device__ Asked ask(int32_t tile) const {
    if (tile >= near.pooled) return {{blocks[block(tile)], 0, 0}};
    const int32_t first = (tile * kTileTokens + first_warp_row()) / 4, last = pooled_visible(t) / 4;
    return {{blocks[min(first, last)], blocks[min(first + 1, last)], blocks[min(first + 2, last)]}};
  }
  __device__ const __nv_bfloat16* rows(const Asked& asked, int32_t tile, int i) const {
    if (tile < near.pooled)
      return pooled + (static_cast<size_t>(asked.block[(i + 1) / 4]) * 4 + (i + 1) % 4) * kRow;
    return cache + (static_cast<size_t>(asked.block[0]) * 64 + first_warp_row() + i) * kRow;
  }
  __device__ Bounds bounds(int32_t tile) const {
    if (tile < near.pooled) return {0, min(kTileTokens, pooled_visible(t) - tile * kTileTokens)};
    const int32_t at = block(tile) * 64, since = tile < near.window ? rule.window_begin(t) : 0;
    return {max(0, since - at), min(kTileTokens, t + 1 - at)};
  }
  __device__ NewestRow newest(int32_t tile) const {
    if (tile < near.pooled) {
      const int32_t at = pooled_visible(t);
      if (tile != near.pooled - 1) return {};
      return {(at - 1) % kTileTokens, pooled + (static_cast<size_t>(blocks[at / 4]) * 4 + at % 4) * kRow};
    }
    if (block(tile) != t / 64) return {};
    return {t % 64, cache + (static_cast<size_t>(blocks[t / 64]) * 64 + t % 64) * kRow};
  }
};

}  // namespace ek::cuda
#endif
