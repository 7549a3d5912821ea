/* 64 rows of the cache as a tile of bf16 in shared memory, whatever their format. Threads as scores.cuh. */
#ifndef EK_CUDA_DECODE_TILE_ROWS_CUH
#define EK_CUDA_DECODE_TILE_ROWS_CUH
#include "../device/e4m3.cuh"
#include "scores.cuh"

namespace ek::cuda {

/* Begins to copy the first `end` of 64 rows that lie behind each other; the others become zeros. */
__device__ inline void copy_bf16_rows(__nv_bfloat16* tile, const uint8_t* from, int32_t end) {
  constexpr int kChunks = kRow / 8;
  for (int i = threadIdx.x; i < kTileTokens * kChunks; i += kThreads) {
    const int row = i / kChunks;
    copy_async_16(tile + row * kPitch + i % kChunks * 8, from + static_cast<size_t>(i) * 16, row < end);
  }
}

/* What a thread loads of 64 rows of e4m3, all of it before anything is used: of rows w, w + 8, … (w: its
 * warp) 8 latents of two scales. A half of a warp has two scales of a row, so that a thread's latents become
 * 16 bytes of the tile and the lanes next to it meet all banks. */
struct Fp8Rows {
  static constexpr int kOwn = kTileTokens / kWarps;
  uint2 latents[kOwn][2];
  float2 scale[kOwn];
};

/* The columns of part `part` of a thread's latents. */
__device__ inline int fp8_column(int part) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  return (lane / 16 * 2 + part) * kScaledLatents + lane % 16 * 8;
}
static_assert(kScales == 4 && kScaledLatents == 16 * 8 && kWarps == 8, "two scales per half of a warp");

/* Loads rows [first, end) and begins to copy their rotated parts; the others become zeros, rotated parts with
 * Zeros only. */
template <bool Zeros>
__device__ Fp8Rows load_fp8_rows(__nv_bfloat16* tile, const uint8_t* from, int32_t first, int32_t end) {
  constexpr int kBytes = cache_row_bytes(RowFormat::kFp8), kRope8 = kRope / 8;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, half = static_cast<int>(threadIdx.x) % kWarp / 16;
  Fp8Rows out;
#pragma unroll
  for (int i = 0; i < Fp8Rows::kOwn; i++) {
    const int row = warp + i * kWarps;
    const bool has = row >= first && row < end;
    const uint8_t* at = from + row * kBytes;
    for (int part = 0; part < 2; part++)
      out.latents[i][part] = has ? *reinterpret_cast<const uint2*>(at + fp8_column(part)) : uint2{0, 0};
    out.scale[i] = has ? reinterpret_cast<const float2*>(at + kLatent)[half] : float2{0, 0};
  }
  for (int i = threadIdx.x; i < kTileTokens * kRope8; i += kThreads) {
    const int row = i / kRope8, chunk = i % kRope8;
    const bool has = row >= first && row < end;
    if (Zeros || has)
      copy_async_16(tile + row * kPitch + kLatent + chunk * 8,
                    from + row * kBytes + rope_offset(RowFormat::kFp8) + chunk * 16, has);
  }
  return out;
}

/* Writes the latents of rows [first, end) as bf16. */
__device__ inline void store_fp8_rows(__nv_bfloat16* tile, const Fp8Rows& rows, int32_t first, int32_t end) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int i = 0; i < Fp8Rows::kOwn; i++) {
    const int row = warp + i * kWarps;
    if (row < first || row >= end) continue;
    for (int part = 0; part < 2; part++) {
      const uint2 v = rows.latents[i][part];
      const uint32_t by = e4m3_factor(part == 0 ? rows.scale[i].x : rows.scale[i].y);
      *reinterpret_cast<uint4*>(tile + row * kPitch + fp8_column(part)) = {
          e4m3_pair(v.x, 0, by), e4m3_pair(v.x, 1, by), e4m3_pair(v.y, 0, by), e4m3_pair(v.y, 1, by)};
    }
  }
}

}  // namespace ek::cuda
#endif
