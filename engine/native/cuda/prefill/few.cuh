/* The pieces of products with a few rows of activations (few.cu): these rows in shared memory, and what a
 * warp makes of its weights' next 128 columns. */
#ifndef EK_CUDA_PREFILL_FEW_CUH
#define EK_CUDA_PREFILL_FEW_CUH
#include "gemm_place.cuh"

namespace ek::cuda {

constexpr int kFewTileRows = 8;

/* Sums of two fragments: [fragment][8 rows of activations][as mma_bf16]. */
template <int Tiles>
using FewSums = float[2][Tiles][4];

/* Scales of a part: of 32 columns, or of Q6_K of 16 each. */
template <ek_type F>
constexpr int kScaleHalves = F == EK_Q6_K ? 2 : 1;
template <ek_type F>
constexpr bool kHasOffsets = has_offset(F) && F != EK_BF16;

/* A chunk in shared memory, its super-scales behind it. */
template <ek_type F>
constexpr int kFewChunkBytes = chunk_bytes(F) + super_bytes(F);

/* Begins to copy a chunk of the 16 rows that lie at `rows`; a warp calls. */
template <ek_type F>
__device__ void copy_few_chunk(uint8_t* slot, const uint8_t* rows, int32_t group, int lane) {
  constexpr int kPieces = kFewChunkBytes<F> / 16, kOfChunk = chunk_bytes(F) / 16;
  static_assert(chunk_bytes(F) % 16 == 0 && super_bytes(F) % 16 == 0, "whole pieces");
  const uint8_t *chunk = rows + chunk_offset(F, group),
                *super = rows + super_offset(F, group) - chunk_bytes(F);
#pragma unroll
  for (int i = 0; i < (kPieces + kWarp - 1) / kWarp; i++) {
    const int piece = i * kWarp + lane;
    if (piece < kPieces)
      copy_async_16(slot + piece * 16, (piece < kOfChunk ? chunk : super) + piece * 16, true);
  }
}
template <ek_type F>
__device__ Fragment<F> read_few_chunk(const uint8_t* slot, int lane) {
  return read_fragment<F>(slot, slot + chunk_bytes(F), lane,
                          [](const uint8_t* p) { return *reinterpret_cast<const uint4*>(p); });
}

/* Eight columns in the order of a weight's pairs: p and p + 4. */
__device__ inline uint4 paired(const uint4& v) {
  return {__byte_perm(v.x, v.z, 0x5410), __byte_perm(v.x, v.z, 0x7632), __byte_perm(v.y, v.w, 0x5410),
          __byte_perm(v.y, v.w, 0x7632)};
}

/* Some columns of the rows, as multiply_few takes them. Behind each row is a gap of 64 bytes, so that two
 * rows' parts meet all banks; and one of 32 behind its sums. */
template <ek_type F, int Segment>
struct FewView {
  static constexpr int kPitch = Segment + 32, kSumPitch = Segment / 32 * kScaleHalves<F> + 4;
  const __nv_bfloat16* values; /* (rows, kPitch) */
  const uint2* sums;           /* (rows, kSumPitch) of the columns that share a scale: FewRows */
};

/* 8 Tiles rows of activations at most, Segment columns of which are in shared memory and as many on their
 * way. Those that do not exist, up to a whole tile, are zeros. A warp brings some parts of all tiles, a lane
 * of these 8 columns of a row. */
template <ek_type F, int Segment, int Tiles, int Warps>
struct FewRows {
  using View = FewView<F, Segment>;
  static constexpr int kHeld = Tiles * kFewTileRows, kOwnParts = Segment / 32 / Warps, kApart = 32 * Warps,
                       kHalves = kScaleHalves<F>;
  static constexpr size_t kValues = size_t{kHeld} * View::kPitch, kSums = size_t{kHeld} * View::kSumPitch;
  static constexpr size_t kBytes = 2 * (kValues * sizeof(__nv_bfloat16) + kSums * sizeof(uint2));
  static_assert(kOwnParts * kApart == Segment, "each warp has as many parts");

  const __nv_bfloat16* from[Tiles]; /* the lane's columns of the first segment */
  bool exists[Tiles];
  __nv_bfloat16* values; /* of two segments */
  uint2* sums;
  int32_t n_columns;
  int n_tiles;

  __device__ FewRows(const GemmOp& op, const GemmPlace& place, uint8_t* memory)
      : values(reinterpret_cast<__nv_bfloat16*>(memory)),
        sums(reinterpret_cast<uint2*>(values + 2 * kValues)),
        n_columns(op.w.n_cols),
        n_tiles((place.end - place.first + kFewTileRows - 1) / kFewTileRows) {
#pragma unroll
    for (int tile = 0; tile < Tiles; tile++) {
      const int32_t r = place.first + own_row(tile);
      exists[tile] = r < place.end;
      from[tile] = op.rows.row(exists[tile] ? r : place.first) + own_column();
    }
  }

  __device__ static int own_row(int tile) { return tile * kFewTileRows + threadIdx.x % kWarp / 4; }
  __device__ static int own_column() {
    return static_cast<int>(threadIdx.x) / kWarp * 32 + static_cast<int>(threadIdx.x) % 4 * 8;
  }
  __device__ View view(int32_t segment) const {
    return {values + segment % 2 * kValues, sums + segment % 2 * kSums};
  }

  /* Calls visit(tile, first of 32 columns, where the lane's columns lie) for what the warp has of a segment.
   */
  template <class Visit>
  __device__ void visit_own(int32_t segment, Visit&& visit) const {
    __nv_bfloat16* own = values + segment % 2 * kValues + own_row(0) * View::kPitch + own_column();
#pragma unroll
    for (int tile = 0; tile < Tiles; tile++) {
      if (tile >= n_tiles) break;
#pragma unroll
      for (int i = 0; i < kOwnParts; i++)
        visit(tile, i * kApart, own + tile * kFewTileRows * View::kPitch + i * kApart);
    }
  }

  /* Begins to copy a segment. */
  __device__ void begin(int32_t segment) const {
    const int32_t first = segment * Segment;
    visit_own(segment, [&](int tile, int column, __nv_bfloat16* to) {
      const bool has = exists[tile] && first + column + own_column() < n_columns;
      copy_async_16(to, has ? from[tile] + first + column : from[tile], has);
    });
  }

  /* Makes of what the warp's own copies have brought what products take: each 8 columns paired, and sums of
   * 32 columns, or 16, by products with ones. A sum is two of bf16, the high one twice and the low one once,
   * as add_few_offsets takes them. */
  __device__ void finish(int32_t segment) const {
    visit_own(segment, [](int, int, __nv_bfloat16* at) {
      uint4* own = reinterpret_cast<uint4*>(at);
      *own = paired(*own);
    });
    if constexpr (!kHasOffsets<F>) return;
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    uint2* to = sums + segment % 2 * kSums + 2 * lane * View::kSumPitch + warp * kHalves;
    __syncwarp();
    visit_own(segment, [&](int tile, int column, __nv_bfloat16* at) {
      constexpr uint32_t kOnes = 0x3f803f80u;
      uint32_t b[4];
      load_matrices(b, at + (lane % 8 - lane / 4) * View::kPitch + (lane / 8 - lane % 4) * 8);
      float c[kHalves][4] = {};
      for (int half = 0; half < 2; half++)
        mma_bf16(c[half % kHalves], kOnes, kOnes, kOnes, kOnes, b[2 * half], b[2 * half + 1]);
      if (lane >= 4) return;
      for (int half = 0; half < kHalves; half++) {
        for (int i = 0; i < 2; i++) {
          const float sum = c[half][i];
          const uint32_t high = pack_bf16(sum, sum);
          to[(tile * kFewTileRows + i) * View::kSumPitch + column / 32 * kHalves + half] = {
              high, pack_bf16(sum - bf16_value(high & 0xffff), 0.0f)};
        }
      }
    });
  }
};

/* y += one part of both fragments, without offsets. */
template <ek_type F, int Tiles, int Most, int Segment>
__device__ void multiply_few_part(FewSums<Most>& y, const Fragment<F> (&f)[2],
                                  const FewView<F, Segment>& rows, int group, int part, int lane) {
  constexpr int kHalves = kScaleHalves<F>, kPitch = FewView<F, Segment>::kPitch;
  uint32_t a[2][2][4];
  float scale[2][2][kHalves];
  for (int i = 0; i < 2; i++) {
    for (int r = 0; r < 2; r++) {
      unpack_pairs<F>(f[i], r, part, a[i][r]);
      for (int half = 0; half < kHalves; half++) {
        if constexpr (F != EK_BF16) scale[i][r][half] = pair_affine<F>(f[i], r, part, half).scale;
      }
    }
  }
  const __nv_bfloat16* of = rows.values + lane / 4 * kPitch + (group * 4 + part) * 32 + lane % 4 * 8;
#pragma unroll
  for (int tile = 0; tile < Tiles; tile++) {
    const uint4 all = *reinterpret_cast<const uint4*>(of + tile * kFewTileRows * kPitch);
    for (int half = 0; half < kHalves; half++) {
      const bool used = kHalves == 1 || lane % 4 / 2 == half;
      const uint4 b = used ? all : uint4{0, 0, 0, 0};
      for (int i = 0; i < 2; i++) {
        const uint32_t(&w)[2][4] = a[i];
        float own[4] = {};
        float(&sums)[4] = F == EK_BF16 ? y[i][tile] : own;
        mma_bf16(sums, w[0][0], w[1][0], w[0][1], w[1][1], b.x, b.y);
        mma_bf16(sums, w[0][2], w[1][2], w[0][3], w[1][3], b.z, b.w);
        if constexpr (F != EK_BF16) {
          for (int j = 0; j < 4; j++) y[i][tile][j] = fmaf(scale[i][j / 2][half], own[j], y[i][tile][j]);
        }
      }
    }
  }
}

/* y += the offsets of a group's parts times the sums of the activations there: lane t of a quad has those of
 * part t, as two of bf16. */
template <ek_type F, int Tiles, int Most, int Segment>
__device__ void add_few_offsets(FewSums<Most>& y, const Fragment<F> (&f)[2], const FewView<F, Segment>& rows,
                                int group, int lane) {
  constexpr int kHalves = kScaleHalves<F>, kPitch = FewView<F, Segment>::kSumPitch;
#pragma unroll
  for (int half = 0; half < kHalves; half++) {
    uint32_t a[2][2];
    for (int i = 0; i < 2; i++) {
      for (int r = 0; r < 2; r++) {
        const float offset = pair_affine<F>(f[i], r, lane % 4, half).offset;
        const float high = bf16_value(pack_bf16(offset, 0.0f) & 0xffff);
        a[i][r] = pack_bf16(high, offset - high);
      }
    }
#pragma unroll
    for (int tile = 0; tile < Tiles; tile++) {
      const uint2 b =
          rows.sums[(tile * kFewTileRows + lane / 4) * kPitch + (group * 4 + lane % 4) * kHalves + half];
      for (int i = 0; i < 2; i++) mma_bf16(y[i][tile], a[i][0], a[i][1], a[i][0], a[i][1], b.x, b.y);
    }
  }
}

/* y += what a slot holds of two fragments, times a group of 128 columns of the rows. Of Tiles tiles, so that
 * nothing in the loops depends on how many there are. */
template <ek_type F, int Tiles, int Most, int Segment>
__device__ void multiply_few(FewSums<Most>& y, const uint8_t* slot, const FewView<F, Segment>& rows,
                             int group) {
  const int lane = threadIdx.x % kWarp;
  const Fragment<F> f[2] = {read_few_chunk<F>(slot, lane), read_few_chunk<F>(slot + kFewChunkBytes<F>, lane)};
#pragma unroll
  for (int part = 0; part < 4; part++) multiply_few_part<F, Tiles>(y, f, rows, group, part, lane);
  if constexpr (kHasOffsets<F>) add_few_offsets<F, Tiles>(y, f, rows, group, lane);
}

}  // namespace ek::cuda
#endif
