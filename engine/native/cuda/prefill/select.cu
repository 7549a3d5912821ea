/* Which blocks the tiles of a chunk attend to, where attention is sparse: each tile of kTileQueries positions
 * what the decoder would choose for its first token, and what begins inside of the tile. The first token's
 * choice depends on nothing behind it, so a tile may be read in parts (docs/decisions/0007). */
#include "../decode/select.cuh"
#include "kernels.h"

namespace ek::cuda {

namespace {

constexpr int kWidth = kNope + kRope, kTilesAtOnce = 8;
constexpr int kRows = 16, kBlocksPerHead = kLatent / kRows / kWarps;

/* The absorbed queries of the first tokens of tiles, from tile `first_tile` on; weights are not rounded. W_UK
 * transposed.
 * grid (heads and their latent rows, tiles in groups of kTilesAtOnce) */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    absorb_first_kernel(ChunkBuffers b, WeightView k_b, int32_t first, int32_t first_tile, int32_t n_tiles,
                        float softmax_scale) {
  __shared__ uint4 memory[kStagedGroup];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int h = blockIdx.x / kBlocksPerHead, part = blockIdx.x % kBlocksPerHead;
  const int row = (part * kWarps + warp) * kRows;
  const Fragment<F> f = load_fragment<F>(k_b, k_b.row(h, row), 0, lane);
  const Staged<F> x = staged_in<Staged<F>>(memory, 1);
  const int32_t begin = blockIdx.y * kTilesAtOnce, end = min(n_tiles, begin + kTilesAtOnce);
  for (int32_t i = begin; i < end; i++) {
    const size_t token = static_cast<size_t>((first_tile + i) * kTileQueries - first);
    const size_t from = (token * kHeads + h) * kWidth, to = (static_cast<size_t>(i) * kHeads + h) * kRow;
    __syncthreads();
    stage_group(x, b.q + from, softmax_scale);
    if (part == 0 && threadIdx.x < kRope)
      b.tile_query[to + kLatent + threadIdx.x] = b.query[from + kNope + threadIdx.x];
    __syncthreads();
    float y[2] = {};
    multiply(f, x, 0, lane, y);
    for (int r = 0; r < 2; r++) {
      const float sum = quad_sum(y[r]);
      if (lane % 4 == 0) b.tile_query[to + row + lane / 4 + 8 * r] = __float2bfloat16_rn(sum);
    }
  }
}

constexpr int kSlices = kThreads / kUnitsPerGroup; /* of a head's plain rows */

/* The same where W_UK lies as (nope, latent): in f32, a thread has 8 columns of a slice of the rows.
 * grid (heads and groups of 128 latent columns, tiles) */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    absorb_first_rows_kernel(ChunkBuffers b, WeightView k_b, int32_t first, int32_t first_tile,
                             float softmax_scale) {
  __shared__ float query[kNope], sums[kSlices][kGroup];
  constexpr int kGroups = kLatent / kGroup;
  const int h = blockIdx.x / kGroups, group = blockIdx.x % kGroups;
  const int unit = threadIdx.x % kUnitsPerGroup, slice = threadIdx.x / kUnitsPerGroup;
  const int32_t tile = blockIdx.y;
  const size_t token = static_cast<size_t>((first_tile + tile) * kTileQueries - first);
  const size_t from = (token * kHeads + h) * kWidth, to = (static_cast<size_t>(tile) * kHeads + h) * kRow;
  for (int i = threadIdx.x; i < kNope; i += kThreads) query[i] = b.q[from + i] * softmax_scale;
  if (group == 0 && threadIdx.x < kRope)
    b.tile_query[to + kLatent + threadIdx.x] = b.query[from + kNope + threadIdx.x];
  __syncthreads();
  float sum[8] = {};
#pragma unroll 4
  for (int i = slice; i < kNope; i += kSlices) {
    float w[8];
    load_unit<F>(k_b, k_b.row(h, i), group * kUnitsPerGroup + unit, w);
    for (int c = 0; c < 8; c++) sum[c] = fmaf(query[i], w[c], sum[c]);
  }
  for (int c = 0; c < 8; c++) sums[slice][unit * 8 + c] = sum[c];
  __syncthreads();
  for (int c = threadIdx.x; c < kGroup; c += kThreads) {
    float total = 0;
    for (int i = 0; i < kSlices; i++) total += sums[i][c];
    b.tile_query[to + group * kGroup + c] = __float2bfloat16_rn(total);
  }
}

/* grid (groups of pooled rows, tiles). The last pooled row stands for the first token alone: what follows in
 * the same 16 tokens is not known to a decoder that is there. */
__global__ void __launch_bounds__(kThreads)
    score_first_kernel(ChunkBuffers b, StepBuffers cache, LiteShape shape, int32_t layer, int32_t first,
                       int32_t first_tile) {
  const int32_t t = (first_tile + static_cast<int32_t>(blockIdx.y)) * kTileQueries, group = blockIdx.x;
  if (group * kScoreRows > t / kPoolStride) return;
  const __nv_bfloat16* own = b.tile_row + static_cast<size_t>(t / kTileQueries - first / kTileQueries) * kRow;
  score_group(
      dynamic_shared<uint4>(), b.tile_query + static_cast<size_t>(blockIdx.y) * kHeads * kRow, group, t,
      t / kPoolStride, tile_scores(b, blockIdx.y),
      [&](int32_t row) {
        const size_t place =
            static_cast<size_t>(layer) * shape.n_blocks + static_cast<size_t>(cache.blocks[row / 4]);
        return row == t / kPoolStride ? own : cache.pooled + (place * 4 + row % 4) * kRow;
      },
      [] {});
}

/* A block per tile: its list. */
__global__ void __launch_bounds__(kSelectThreads)
    select_first_kernel(ChunkBuffers b, StepBuffers cache, LiteShape shape, int32_t layer, int32_t first_tile,
                        int32_t n_keys) {
  const int32_t t = (first_tile + static_cast<int32_t>(blockIdx.x)) * kTileQueries;
  const uint8_t* marked = select_blocks(tile_scores(b, blockIdx.x), t, shape.local, shape.top, n_keys,
                                        dynamic_shared<uint64_t>());
  int32_t* list = cache.tile_list(shape, layer, t);
  visit_marked(marked, t / 64 + 1, [&](int32_t i, int32_t j) { list[i] = j; });
}

/* One block: which blocks of the sequence any tile of the chunk attends to, and their slots in the expanded
 * keys and values, in ascending order. Shared: a mark per block. */
__global__ void __launch_bounds__(kSelectThreads)
    assign_slots_kernel(ChunkBuffers b, StepBuffers cache, LiteShape shape, int32_t layer, int32_t first,
                        int32_t end) {
  uint8_t* marked = dynamic_shared<uint8_t>();
  const int32_t n = (end + 63) / 64, dense_end = first < shape.dense_len ? shape.dense_len / 64 : 0;
  const int32_t first_tile = max(first, shape.dense_len) / kTileQueries;
  /* What lies in the tiles themselves, also where the first one began before the chunk. */
  const int32_t own = first_tile * (kTileQueries / 64);
  for (int32_t j = threadIdx.x; j < n; j += kSelectThreads) marked[j] = j < dense_end || j >= own;
  __syncthreads();
  for (int32_t tile = first_tile; tile * kTileQueries < end; tile++) {
    const int32_t* list = cache.tile_list(shape, layer, tile * kTileQueries);
    const int32_t n_listed = min(shape.most_listed(), tile * (kTileQueries / 64) + 1);
    for (int32_t i = threadIdx.x; i < n_listed; i += kSelectThreads) marked[list[i]] = 1;
  }
  __syncthreads();
  const int32_t n_slots = visit_marked(marked, n, [&](int32_t i, int32_t j) {
    b.block_slot[j] = i;
    b.slot_blocks[i] = cache.blocks[j];
  });
  if (threadIdx.x == kSelectThreads - 1) *b.n_slots = n_slots;
}

}  // namespace

void launch_select_tiles(const Chunk& c, const LiteLayer& layer, int32_t index) {
  const LiteShape& s = c.shape;
  const int32_t end = c.first + c.n;
  /* Tiles whose first token is in the chunk; an earlier one has its list. */
  const int32_t first_tile = ceil_div(std::max(c.first, s.dense_len), kTileQueries);
  const int32_t n_tiles = ceil_div(end, kTileQueries) - first_tile;
  if (n_tiles <= 0) return;
  for_decode_type(layer.k_b.type, [&]<ek_type F>() {
    if (is_transposed(layer.k_b)) {
      launch(c.stream, "absorb_first", {{kHeads * kBlocksPerHead, ceil_div(n_tiles, kTilesAtOnce)}, kThreads},
             absorb_first_kernel<F>, c.b, layer.k_b, c.first, first_tile, n_tiles, s.softmax_scale);
    } else {
      launch(c.stream, "absorb_first", {{kHeads * (kLatent / kGroup), n_tiles}, kThreads},
             absorb_first_rows_kernel<F>, c.b, layer.k_b, c.first, first_tile, s.softmax_scale);
    }
  });
  c.mark("absorb_first");
  launch(c.stream, "score_first", {{ceil_div(end, 64 * kBlocksPerGroup), n_tiles}, kThreads, kScoreShared},
         score_first_kernel, c.b, c.cache, s, index, c.first, first_tile);
  c.mark("score_first");
  const int32_t n_keys = select_keys(ceil_div(end, 64));
  launch(c.stream, "select_first", {n_tiles, kSelectThreads, select_shared(n_keys)}, select_first_kernel, c.b,
         c.cache, s, index, first_tile, n_keys);
  c.mark("select_first");
}

void launch_assign_slots(const Chunk& c, int32_t index) {
  const int32_t end = c.first + c.n;
  launch(c.stream, "assign_slots", {1, kSelectThreads, static_cast<size_t>(ceil_div(end, 64))},
         assign_slots_kernel, c.b, c.cache, c.shape, index, c.first, end);
  c.mark("assign_slots");
}

}  // namespace ek::cuda
