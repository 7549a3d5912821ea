/* The kernels of BatchAttention. A block has a share of one sequence's tiles of 64 rows, and leaves a part.
 * Pooled rows come first; then what the token selects: blocks ask for the window and the forced blocks, and
 * choose meanwhile; then all parts together. pooled waits for the kernel before, and then lets selected
 * begin, which lets combine begin: these two wait for what they need by counters. That ends, because a kernel
 * begins only when all blocks of the one before it have. Of the kernel before the call only the queries,
 * gates and the newest rows may come. */
#include "masses.cuh"

namespace ek::cuda {

namespace {

/* grid (parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1) dense_kernel(DecodeBatch b, AttendParts parts, int stages) {
  uint4* memory = dynamic_shared<uint4>();
  allow_next_kernel();
  const Place place = place_of(b, blockIdx.y);
  const Share share = even_share(blockIdx.x, parts.n, place.t / 64 + 1);
  if (share.count() == 0) {
    wait_for_kernel_before();
    return store_empty_part(parts, place.sequence, blockIdx.x);
  }
  RowSums sums;
  attend_rows<Queries::kBehindReady>(
      memory, stages, share.begin, share.end, 1, AllLatents{0}, CachedTiles{b.cache, place.blocks, place.t},
      sums,
      [&] {
        wait_for_kernel_before();
        load_rows_query(memory, place.query);
      },
      [](int32_t, const float(&)[4]) {}, [](int32_t) {});
  store_part(parts, place.sequence, blockIdx.x, sums, AllLatents{0});
}

struct SparseOp {
  DecodeBatch b;
  AttendParts parts;
  PooledScores scores;
  SparseProgress progress;
  NsaRule rule;
  int32_t* lists;
  PartCounts counts;
  int stages;
  int32_t choice_at;  /* in shared memory, of 16 bytes, what choosing needs */
  bool chooses_early; /* there is room for it beside the tiles */
};

/* All threads of the block have stored what is counted. */
__device__ void count_block(uint32_t* counter) {
  __syncthreads();
  if (threadIdx.x == 0) count_up(counter);
}

/* Queries by loads: sooner there than copies. */
__device__ void store_rows_query(uint4* memory, const __nv_bfloat16* query) {
  load_query(reinterpret_cast<RowsShared*>(memory)->query, query);
}

/* The parts of pooled rows. grid (parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1) pooled_kernel(SparseOp op) {
  uint4* memory = dynamic_shared<uint4>();
  const Place place = place_of(op.b, blockIdx.y);
  const int32_t part = blockIdx.x;
  const TokenTiles tiles(op.rule, place.t);
  const Share share = even_share(part, op.counts.pooled, tiles.pooled);
  if (share.count() == 0) return wait_for_kernel_before();
  RowSums sums;
  attend_rows<Queries::kBehindReady>(
      memory, op.stages, share.begin, share.end, 1, AllLatents{0},
      PooledTiles{op.b.pooled, place.blocks, place.t}, sums,
      [&] {
        wait_for_kernel_before();
        allow_next_kernel();
        store_rows_query(memory, place.query);
      },
      [&](int32_t tile, const float(&v)[4]) {
        store_scores(op.scores, place.sequence, tile, v);
        if (tile + 1 == share.end) count_block(op.progress.scored + place.sequence);
      },
      [](int32_t) {});
  store_part(op.parts, place.sequence, part, sums, AllLatents{0});
  count_block(op.progress.pooled + place.sequence);
}

/* The parts of the window, and of all selected blocks. It leaves registers for a block of combine. grid
 * (parts, sequences, Pieces) */
template <int Pieces>
__global__ void __maxnreg__(200) selected_kernel(SparseOp op) {
  __shared__ ChosenBlocks chosen;
  uint4* memory = dynamic_shared<uint4>();
  const Place place = place_of(op.b, blockIdx.y);
  allow_next_kernel();
  store_rows_query(memory, place.query);
  const int32_t part = blockIdx.x, window_part = op.counts.pooled + part;
  const LatentPiece<Pieces> piece{static_cast<int32_t>(blockIdx.z)};
  const TokenTiles tiles(op.rule, place.t);
  const SelectedShare share = selected_share(tiles, part, op.counts.selected);
  const int32_t in_window = share.in_window(tiles), count = share.count();
  const auto choose = [&] {
    if (part > 0 && share.chosen.count() == 0) return __syncthreads(); /* queries are in shared memory */
    if (threadIdx.x == 0)
      wait_for_count(op.progress.scored + place.sequence, parts_with_tiles(op.counts.pooled, tiles.pooled));
    __syncthreads();
    choose_blocks(op.scores, op.rule, place, memory + op.choice_at, chosen);
    if (part == 0 && piece.piece == 0)
      store_list(op.rule, place.t, chosen, op.lists + place.sequence * kMostSelected);
  };
  if (in_window == 0) {
    store_empty_part(op.parts, place.sequence, window_part);
    count_block(op.progress.window + place.sequence);
  }
  RowSums sums;
  if (count == 0) {
    choose();
  } else {
    attend_rows<Queries::kBefore>(
        memory, op.stages, 0, count, op.chooses_early ? share.known.count() : 0, piece,
        SelectedTiles{op.b.cache, place.blocks, op.rule, place.t, tiles.window, share, &chosen}, sums, choose,
        [](int32_t, const float(&)[4]) {},
        [&](int32_t entry) {
          if (entry + 1 != in_window) return;
          store_part(op.parts, place.sequence, window_part, sums, piece);
          count_block(op.progress.window + place.sequence);
          sums = RowSums{};
        });
  }
  const int32_t selected_part = window_part + op.counts.window;
  if (count > in_window) {
    store_part(op.parts, place.sequence, selected_part, sums, piece);
  } else {
    store_empty_part(op.parts, place.sequence, selected_part);
  }
  wait_for_kernel_before(); /* so that pooled is complete when this kernel is */
}

/* Of one sequence there are blocks to spare, and what takes long is to store a part. */
constexpr int32_t kPiecesOfOne = 2;

/* Of the window, and selected. */
int32_t most_selected_tiles(const NsaRule& rule) { return (rule.window + 62) / 64 + 1 + rule.selected; }

/* At least what the kernel that chooses has of shared memory beside the dynamic part. */
constexpr size_t kChoiceStatic = 8192;

}  // namespace

BatchAttention::BatchAttention(Device& d, int32_t n, int32_t most_blocks, const NsaRule& rule)
    : device_(d), n_(n), most_blocks_(most_blocks), rule_(rule) {
  check_rule(rule);
  EK_REQUIRE(n >= 1 && most_blocks >= 1, "a batch needs sequences and blocks, got %d and %d", n, most_blocks);
  most_shared_ = most_block_memory();
  stages_ = most_shared_ >= kRowsShared + 2 * kRowsTile ? 2 : 1;
  /* One block per multiprocessor at a time, and all of them at once. */
  const int32_t budget = std::max(2, d.n_multiprocessors() / n);
  const int32_t pooled_tiles = ceil_div(int64_t{most_blocks} * 4, kTileTokens);
  dense_parts_ = std::min(budget, most_blocks);
  pooled_parts_ = std::min(budget, pooled_tiles);
  selected_parts_ = std::min(budget, most_selected_tiles(rule));
  parts_.n = std::max(dense_parts_, pooled_parts_ + 2 * selected_parts_);
  scores_.most_tiles = pooled_tiles;
  const size_t parts = static_cast<size_t>(n) * static_cast<size_t>(parts_.n) * kHeads;
  const size_t tiles = static_cast<size_t>(n) * static_cast<size_t>(pooled_tiles) * kHeads;
  const size_t counters = 4 * static_cast<size_t>(n);
  memory_ = DeviceMemory(sizeof(float) * (parts * (kLatent + 2) + tiles * (kPooledBlocks + 3)) +
                         sizeof(int32_t) * (static_cast<size_t>(n) * kMostSelected + counters));
  float* at = memory_.as<float>();
  const auto take = [&](size_t count) { return std::exchange(at, at + count); };
  parts_.latents = take(parts * kLatent);
  parts_.top = take(parts);
  parts_.sum = take(parts);
  scores_.mass = take(tiles * kPooledBlocks);
  scores_.total = reinterpret_cast<float2*>(take(tiles * 2));
  scores_.carry = reinterpret_cast<float2*>(take(tiles));
  lists_ = reinterpret_cast<int32_t*>(at);
  progress_.scored = reinterpret_cast<uint32_t*>(lists_) + static_cast<size_t>(n) * kMostSelected;
  progress_.pooled = progress_.scored + n;
  progress_.window = progress_.pooled + n;
  progress_.combined = progress_.window + n;
  check(cudaMemsetAsync(progress_.scored, 0, counters * sizeof(uint32_t), d.stream), "clearing counters");
}

void BatchAttention::check_batch(const DecodeBatch& b) const {
  EK_REQUIRE(b.n == n_ && b.most_blocks <= most_blocks_,
             "attention was set up for %d sequences of %d blocks, got %d of %d", n_, most_blocks_, b.n,
             b.most_blocks);
}

void BatchAttention::dense(const DecodeBatch& b) const {
  check_batch(b);
  const size_t shared = kRowsShared + kRowsTile * static_cast<size_t>(stages_);
  AttendParts parts = parts_;
  parts.n = dense_parts_;
  launch(device_.stream, "dense", {{dense_parts_, n_}, kThreads, shared, true}, dense_kernel, b, parts,
         stages_);
  mark("dense");
  launch_combine_parts(device_.stream, b, parts, rule_, {0, 0, dense_parts_}, SparseProgress{});
  mark("combine");
}

void BatchAttention::sparse(const DecodeBatch& b) const {
  check_batch(b);
  const int32_t pieces = n_ == 1 ? kPiecesOfOne : 1;
  const PartCounts counts{pooled_parts_, selected_parts_, selected_parts_, pieces};
  SparseOp op{b, parts_, scores_, progress_, rule_, lists_, counts, 1, 0, false};
  /* A block with a single tile needs room for no other. */
  op.stages = pooled_parts_ == scores_.most_tiles ? 1 : stages_;
  const size_t pooled_rows = kRowsTile * static_cast<size_t>(op.stages);
  launch(device_.stream, "pooled", {{pooled_parts_, n_}, kThreads, kRowsShared + pooled_rows, true},
         pooled_kernel, op);
  mark("pooled");
  op.stages = selected_parts_ == most_selected_tiles(rule_) ? 1 : stages_;
  const size_t rows = kRowsShared + kRowsTile * static_cast<size_t>(op.stages);
  const size_t choice = choice_shared(most_blocks_, scores_.most_tiles);
  op.chooses_early = rows + choice + kChoiceStatic <= most_shared_;
  const size_t choice_at = op.chooses_early ? rows : kRowsShared;
  op.choice_at = static_cast<int32_t>(choice_at / sizeof(uint4));
  launch(device_.stream, "selected",
         {{selected_parts_, n_, pieces}, kThreads, std::max(rows, choice_at + choice), true},
         pieces == 1 ? selected_kernel<1> : selected_kernel<kPiecesOfOne>, op);
  mark("selected");
  launch_combine_parts(device_.stream, b, parts_, rule_, counts, progress_);
  mark("combine");
}

std::vector<std::vector<int32_t>> BatchAttention::selected(const std::vector<int32_t>& positions) const {
  device_.wait();
  std::vector<int32_t> all(static_cast<size_t>(n_) * kMostSelected);
  check(cudaMemcpy(all.data(), lists_, all.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
        "reading the selected blocks");
  std::vector<std::vector<int32_t>> out;
  for (size_t i = 0; i < positions.size(); i++) {
    const auto from = all.begin() + static_cast<ptrdiff_t>(i) * kMostSelected;
    out.emplace_back(from, from + rule_.n_selected(positions[i]));
  }
  return out;
}

}  // namespace ek::cuda
