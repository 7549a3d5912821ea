/* Products of a few rows of activations (64 at most meet one matrix), where reading the weights is what takes
 * time. As in decode, a weight's integers are the left matrix and its scales meet f32 sums of 32 columns, so
 * it is unpacked once, in registers, and not rounded (decode/fragment.cuh); eight rows of activations are the
 * columns of a tile. A warp has 32 rows of the weight, or 16 of gate and 16 of up, which come to it alone,
 * and waits for no other warp but to get the next columns of the activations. A row's sums do not depend on
 * the other rows. */
#include <algorithm>

#include "few.cuh"

namespace ek::cuda {

namespace {

/* Products of experts, and of gate and up: there are many, with some rows each. More slots of a warp, or a
 * third block, would make them slower. */
struct GroupedFew {
  static constexpr int kShares = 1, kTiles = kFewHeld / kFewTileRows, kTurns = 2, kBlocksAtOnce = 2,
                       kMostSlots = 2;
};
/* Other products of all rows: too few blocks to leave a warp all columns of its rows. */
struct PlainFew {
  static constexpr int kShares = 4, kTiles = 4, kTurns = 1, kBlocksAtOnce = 1, kMostSlots = 4;
};

/* What a block multiplies: the rows of activations of C::kTiles tiles at most with kPairs pairs of 16 rows of
 * the weight, for each of which C::kShares warps share the columns. */
template <ek_type F, class C>
struct FewShape {
  static constexpr int kWarps = 8, kThreads = kWarps * kWarp, kPairs = kWarps / C::kShares;
  static constexpr int kSegment = kGroup * C::kShares * C::kTurns; /* columns in shared memory at a time */
  static constexpr int kSlotBytes = 2 * kFewChunkBytes<F>; /* a turn of a warp: 128 columns of a pair */
  static constexpr int kFit = 76 * 1024 / (kSlotBytes * kWarps),
                       kSlots = kFit < C::kMostSlots ? kFit : C::kMostSlots;
  using Rows = FewRows<F, kSegment, C::kTiles, kWarps>;
  static constexpr size_t kRing = size_t{kWarps} * kSlots * kSlotBytes, kShared = kRing + Rows::kBytes;
  /* Groups of copies that may be under way when a segment's first turn begins, and another one: those behind
   * what it needs. The rows of a segment are asked for when the one before begins, a turn's weights when what
   * was in their slot has been multiplied. */
  static constexpr int kFirstWait = kSlots > C::kTurns ? C::kTurns : kSlots - 1;
  static constexpr int kWait = kSlots > 1 ? kSlots : 0;
  static_assert(C::kTurns <= 2 && kSlots >= 1, "the second turn of a segment is its last");
};

/* The warp's pair of 16 rows of the weight on its way through the warp's slots. */
template <ek_type F, class C>
struct FewWeights {
  using Shape = FewShape<F, C>;
  const uint8_t *first, *second;
  uint8_t* slots;
  int32_t share, n_groups;

  __device__ uint8_t* slot(int32_t turn) const { return slots + turn % Shape::kSlots * Shape::kSlotBytes; }
  __device__ int32_t group(int32_t turn) const { return turn * C::kShares + share; }
  __device__ bool has(int32_t turn) const { return group(turn) < n_groups; }
  __device__ void begin(int32_t turn) const {
    if (has(turn)) {
      const int lane = threadIdx.x % kWarp;
      copy_few_chunk<F>(slot(turn), first, group(turn), lane);
      copy_few_chunk<F>(slot(turn) + kFewChunkBytes<F>, second, group(turn), lane);
    }
    copy_async_commit();
  }
};

/* y = the warp's share of all columns, for Tiles tiles of the rows. */
template <int Tiles, ek_type F, class C>
__device__ void multiply_all(FewSums<C::kTiles>& y, const typename FewShape<F, C>::Rows& rows,
                             const FewWeights<F, C>& weights) {
  using Shape = FewShape<F, C>;
  const int32_t n_segments = (rows.n_columns + Shape::kSegment - 1) / Shape::kSegment;
  int32_t turn = 0;
  for (int32_t segment = 0; segment < n_segments; segment++) {
#pragma unroll
    for (int i = 0; i < C::kTurns; i++, turn++) {
      if (i == 0) {
        segment == 0 ? copy_async_wait<0>() : copy_async_wait<Shape::kFirstWait>();
        rows.finish(segment);
        __syncthreads();
        if (segment + 1 < n_segments) rows.begin(segment + 1);
        copy_async_commit();
      } else {
        copy_async_wait<Shape::kWait>();
        __syncwarp();
      }
      if (weights.has(turn))
        multiply_few<F, Tiles>(y, weights.slot(turn), rows.view(segment), i * C::kShares + weights.share);
      __syncwarp();
      weights.begin(turn + Shape::kSlots);
    }
  }
}

/* The sums of a pair's shares, in the first one. All threads of the block call; memory: nobody needs it. */
template <int Shares, int Tiles>
__device__ void join_shares(FewSums<Tiles>& y, float* memory, int pair, int share) {
  constexpr int kSums = 2 * Tiles * 4;
  float* of = memory + pair * (Shares - 1) * kSums * kWarp + threadIdx.x % kWarp;
  float* own = &y[0][0][0];
  copy_async_wait<0>();
  __syncthreads();
  if (share > 0) {
#pragma unroll
    for (int i = 0; i < kSums; i++) of[((share - 1) * kSums + i) * kWarp] = own[i];
  }
  __syncthreads();
  if (share > 0) return;
#pragma unroll
  for (int other = 0; other < Shares - 1; other++) {
#pragma unroll
    for (int i = 0; i < kSums; i++) own[i] += of[(other * kSums + i) * kWarp];
  }
}

/* Stores the block's sums; row: of the weight, the first of the pair. */
template <bool Gated, int Tiles>
__device__ void store_sums(const GemmOp& op, const FewSums<Tiles>& y, const GemmPlace& place, int32_t row) {
  constexpr int kFragments = Gated ? 1 : 2;
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  /* Calls visit(place in the output, fragment, tile, i) for each of the lane's sums. */
  const auto visit_sums = [&](auto&& visit) {
#pragma unroll
    for (int fragment = 0; fragment < kFragments; fragment++) {
      if (row + fragment * kChunkRows >= op.w.n_rows) continue;
#pragma unroll
      for (int tile = 0; tile < Tiles; tile++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int32_t r = place.first + tile * kFewTileRows + 2 * t + i % 2;
          if (r < place.end)
            visit(static_cast<size_t>(r) * op.w.n_rows + row + fragment * kChunkRows + g + i / 2 * 8,
                  fragment, tile, i);
        }
      }
    }
  };
  float* out = static_cast<float*>(op.out);
  float old[kFragments][Tiles][4] = {};
  if (op.kind == GemmOut::kAddFloat) /* all of it before the first is stored */
    visit_sums([&](size_t at, int fragment, int tile, int i) { old[fragment][tile][i] = out[at]; });
  visit_sums([&](size_t at, int fragment, int tile, int i) {
    float sum = y[fragment][tile][i];
    if constexpr (Gated) sum = silu(sum) * y[1][tile][i];
    if (op.kind == GemmOut::kBf16) {
      static_cast<__nv_bfloat16*>(op.out)[at] = __float2bfloat16_rn(sum);
    } else {
      out[at] = old[fragment][tile][i] + sum;
    }
  });
}

/* Products that one launch makes: blocks of the first, then of the second. */
struct FewOps {
  GemmOp first, second;
  int32_t first_blocks;
  bool tiles_known; /* a block may look for its tile before it waits for the kernel before */
};

/* Block `block` of a product: some pairs of the weight's rows for a tile of matrices, or of the activations.
 */
template <ek_type F, bool Gated, class C>
__device__ void multiply_op(const GemmOp& op, int32_t block, bool tiles_known) {
  using Shape = FewShape<F, C>;
  constexpr int kPairRows = Gated ? kChunkRows : 2 * kChunkRows;
  if (op.tiles.expert != nullptr && !tiles_known) wait_for_kernel_before();
  constexpr int32_t kBlockRows = Shape::kPairs * kPairRows;
  const int32_t across = (op.w.n_rows + kBlockRows - 1) / kBlockRows;
  GemmPlace place = gemm_place(op, Shape::Rows::kHeld, block / across, 0);
  place.end = min(place.end, place.first + Shape::Rows::kHeld);
  if (place.first >= place.end) return;
  uint8_t* memory = dynamic_shared<uint8_t>();
  const int warp = threadIdx.x / kWarp, pair = warp / C::kShares, share = warp % C::kShares;
  const int32_t row = (block % across * Shape::kPairs + pair) * kPairRows;
  const bool has = row < op.w.n_rows;
  const WeightView& other = Gated ? op.up : op.w;
  const int32_t first = has ? row : 0,
                second = Gated || first + kChunkRows >= op.w.n_rows ? first : first + kChunkRows;
  const FewWeights<F, C> weights{
      tile_at<F>(op.w, op.w.row(place.matrix, first)), tile_at<F>(other, other.row(place.matrix, second)),
      memory + warp * (Shape::kSlots * Shape::kSlotBytes), share, has ? op.w.n_groups : 0};
  for (int i = 0; i < Shape::kSlots; i++) weights.begin(i);
  wait_for_kernel_before();
  allow_next_kernel();
  const typename Shape::Rows rows(op, place, memory + Shape::kRing);
  rows.begin(0);
  copy_async_commit();
  FewSums<C::kTiles> y = {};
  if (rows.n_tiles == 1) {
    multiply_all<1>(y, rows, weights);
  } else {
    multiply_all<C::kTiles>(y, rows, weights);
  }
  if constexpr (C::kShares > 1) join_shares<C::kShares>(y, reinterpret_cast<float*>(memory), pair, share);
  if (share == 0 && has) store_sums<Gated>(op, y, place, row);
}

template <ek_type F, ek_type G, bool Gated, class C>
__global__ void __launch_bounds__(FewShape<F, C>::kThreads, C::kBlocksAtOnce)
    gemm_few_kernel(const __grid_constant__ FewOps ops) {
  const int32_t block = blockIdx.x, behind = block - ops.first_blocks;
  if constexpr (F == G) {
    multiply_op<F, Gated, C>(behind < 0 ? ops.first : ops.second, behind < 0 ? block : behind,
                             ops.tiles_known);
  } else if (behind < 0) {
    multiply_op<F, Gated, C>(ops.first, block, ops.tiles_known);
  } else {
    multiply_op<G, Gated, C>(ops.second, behind, ops.tiles_known);
  }
}

template <ek_type F, bool Gated, class C>
int32_t few_blocks(const GemmOp& op) {
  using Shape = FewShape<F, C>;
  const Grid grid = gemm_grid(op, Shape::Rows::kHeld, Shape::kPairs * (Gated ? kChunkRows : 2 * kChunkRows));
  return static_cast<int32_t>(grid.blocks.x * grid.blocks.y);
}

/* second may be null. */
template <ek_type F, ek_type G, bool Gated, class C>
void launch_few(cudaStream_t stream, const char* name, const GemmOp& first, const GemmOp* second,
                bool tiles_known) {
  const int32_t blocks = few_blocks<F, Gated, C>(first),
                more = second == nullptr ? 0 : few_blocks<G, Gated, C>(*second);
  launch(stream, name,
         {blocks + more, FewShape<F, C>::kThreads, std::max(FewShape<F, C>::kShared, FewShape<G, C>::kShared),
          true},
         gemm_few_kernel<F, G, Gated, C>,
         FewOps{first, second == nullptr ? first : *second, blocks, tiles_known});
}

/* Of one type. */
template <bool Gated>
void launch_few_alike(cudaStream_t stream, const char* name, const GemmOp& first, const GemmOp* second,
                      bool tiles_known) {
  /* Gate and up of a dense layer have rows enough for many blocks. */
  const bool grouped = Gated || (second == nullptr ? first : *second).tiles.expert != nullptr;
  for_decode_type(first.w.type, [&]<ek_type F>() {
    if (grouped || most_block_memory() < FewShape<F, PlainFew>::kShared) {
      launch_few<F, F, Gated, GroupedFew>(stream, name, first, second, tiles_known);
    } else {
      launch_few<F, F, false, PlainFew>(stream, name, first, second, tiles_known);
    }
  });
}

}  // namespace

void launch_gemm_few(cudaStream_t stream, const char* name, const GemmOp& op) {
  launch_few_alike<false>(stream, name, op, nullptr, false);
}

void launch_gemm_few_gated(cudaStream_t stream, const char* name, const GemmOp& op) {
  launch_few_alike<true>(stream, name, op, nullptr, false);
}

void launch_gemm_few(cudaStream_t stream, const char* name, const GemmOp& first, const GemmOp& second,
                     bool tiles_known) {
  if (first.w.type == second.w.type)
    return launch_few_alike<false>(stream, name, first, &second, tiles_known);
  bool found = false;
  if (second.tiles.expert != nullptr) {
    for_down_types(second.w.type, first.w.type, [&]<ek_type R, ek_type S>() {
      launch_few<S, R, false, GroupedFew>(stream, name, first, &second, tiles_known);
      found = true;
    });
  }
  if (found) return;
  launch_gemm_few(stream, name, first);
  launch_gemm_few(stream, name, second);
}

void launch_gemm_few_gated(cudaStream_t stream, const char* name, const GemmOp& first, const GemmOp& second,
                           bool tiles_known) {
  if (first.w.type == second.w.type) return launch_few_alike<true>(stream, name, first, &second, tiles_known);
  launch_gemm_few_gated(stream, name, first);
  launch_gemm_few_gated(stream, name, second);
}

}  // namespace ek::cuda
