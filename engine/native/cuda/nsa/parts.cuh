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

  __device__ int32_t count() const { return end - begin; }
};

/* The share of part `part` of n_parts in n tiles. */
__device__ inline Share even_share(int32_t part, int32_t n_parts, int32_t n) {
  const int32_t each = (n + n_parts - 1) / n_parts, begin = min(n, part * each);
  return {begin, min(n, begin + each)};
}
/* How many of n_parts have tiles of n. */
__device__ inline int32_t parts_with_tiles(int32_t n_parts, int32_t n) {
  const int32_t each = (n + n_parts - 1) / n_parts;
  return n == 0 ? 0 : (n + each - 1) / each;
}

/* How many tiles the token at t attends to: pooled rows; the window and then the forced blocks, which are
 * known before anything is selected; and the blocks that it chooses. */
struct TokenTiles {
  int32_t pooled, window, forced, chosen;

  __device__ TokenTiles(const NsaRule& rule, int32_t t)
      : pooled((pooled_visible(t) + kTileTokens - 1) / kTileTokens),
        window(t / 64 - rule.window_begin(t) / 64 + 1),
        forced(min(t / 64 + 1, rule.initial + rule.local)),
        chosen(max(0, rule.n_selected(t) - rule.initial - rule.local)) {}
  __device__ int32_t known() const { return window + forced; }
};

/* What a block has of the known and of the chosen tiles. */
struct SelectedShare {
  Share known, chosen;

  /* Its tiles of the window: it leaves a part of these, and one of the others. */
  __device__ int32_t in_window(const TokenTiles& tiles) const {
    return max(0, min(known.end, tiles.window) - known.begin);
  }
  __device__ int32_t count() const { return known.count() + chosen.count(); }
  __device__ bool is_selected(const TokenTiles& tiles) const { return count() > in_window(tiles); }
};

/* Where there are as many parts as tiles, each has one of them, the chosen ones first. Else known ones, which
 * are read while blocks are chosen, are spread over all parts, and chosen ones so that all have as many. */
__device__ inline SelectedShare selected_share(const TokenTiles& n, int32_t part, int32_t n_parts) {
  const int32_t known = n.known();
  if (known + n.chosen <= n_parts) {
    const auto known_at = [&](int32_t p) { return min(max(p - n.chosen, 0), known); };
    return {{known_at(part), known_at(part + 1)}, {min(part, n.chosen), min(part + 1, n.chosen)}};
  }
  const auto known_at = [&](int32_t p) { return known * p / n_parts; };
  const auto chosen_at = [&](int32_t p) { return (n.chosen * p + n_parts - 1) / n_parts; };
  return {{known_at(part), known_at(part + 1)}, {chosen_at(part), chosen_at(part + 1)}};
}

template <int Pieces>
__device__ void store_part(const AttendParts& parts, int32_t sequence, int32_t part, const RowSums& sums,
                           const LatentPiece<Pieces>& piece) {
  const size_t at = static_cast<size_t>(sequence) * parts.n + part;
  piece.store(parts.latents + at * kHeads * kLatent, sums);
  if (threadIdx.x % 16 != 0 || piece.piece > 0) return;
  parts.top[at * kHeads + threadIdx.x / 16] = sums.top;
  parts.sum[at * kHeads + threadIdx.x / 16] = sums.sum;
}

__device__ inline void store_empty_part(const AttendParts& parts, int32_t sequence, int32_t part) {
  const size_t at = static_cast<size_t>(sequence) * parts.n + part;
  if (threadIdx.x < kHeads) parts.sum[at * kHeads + threadIdx.x] = 0;
}

/* How many parts each kernel leaves of a sequence: of pooled rows; and, behind these, as many of the window
 * as of selected blocks. Of dense attention, only the last. */
struct PartCounts {
  int32_t pooled, window, selected;
  int32_t pieces = 1; /* blocks that each have a piece of the latents of a part of the last two */

  EK_HD int32_t all() const { return pooled + window + selected; }
};

/* out of the parts of all sequences. The last ones are complete when the kernel before is, the others when
 * `progress` says so. */
void launch_combine_parts(cudaStream_t stream, const DecodeBatch& b, const AttendParts& parts,
                          const NsaRule& rule, const PartCounts& counts, const SparseProgress& progress);

}  // namespace ek::cuda
#endif
