/* The kernels of BatchAttention. A block has one part of one sequence: a share of its tiles of 64 rows. What
 * every token attends to comes first, then the blocks that it chose, then all parts together. near waits for
 * the kernel before, and then lets chosen begin, which lets combine begin: these two wait for what they need
 * of near by counters. That ends, because a kernel begins only when all blocks of the one before it have. Of
 * the kernel before the call only the queries, gates and the newest rows may come. */
#include "masses.cuh"
#include "sources.cuh"

namespace ek::cuda {

namespace {

/* Attends to a share of the blocks, and stores the part. */
template <class Ready>
__device__ void attend_part(uint4* memory, int stages, const AttendParts& parts, int32_t sequence,
                            int32_t part, const Share& share, const CachedTiles& tiles, Ready&& ready) {
  if (share.begin >= share.end) {
    ready();
    return store_empty_part(parts, sequence, part);
  }
  RowSums sums;
  attend_rows(
      memory, stages, share.begin, share.end, tiles, sums, ready, [](int32_t, const float(&)[4]) {},
      [](int32_t) {});
  store_part(parts, sequence, part, sums);
}

/* grid (parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1) dense_kernel(DecodeBatch b, AttendParts parts, int stages) {
  uint4* memory = dynamic_shared<uint4>();
  allow_next_kernel();
  const Place place = place_of(b, blockIdx.y);
  attend_part(memory, stages, parts, place.sequence, blockIdx.x,
              even_share(blockIdx.x, parts.n, place.t / 64 + 1),
              CachedTiles{b.cache, place.blocks, nullptr, place.t}, [&] {
                wait_for_kernel_before();
                load_rows_query(memory, place.query);
              });
}

struct SparseOp {
  DecodeBatch b;
  AttendParts parts;
  PooledScores scores;
  SparseProgress progress;
  NsaRule rule;
  int32_t* lists;
  int32_t near_parts, chosen_begin, chosen_parts; /* blocks per sequence of near; parts behind those */
  int stages;
};

/* The parts of NearTiles. grid (near_parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1) near_kernel(SparseOp op) {
  uint4* memory = dynamic_shared<uint4>();
  const Place place = place_of(op.b, blockIdx.y);
  const NearRows rows{op.b.cache, op.b.pooled, place.blocks, op.rule, place.t, NearTiles(op.rule, place.t)};
  const NearTiles& near = rows.near;
  const Share share = even_share(blockIdx.x, op.near_parts, near.all);
  if (share.begin == share.end) return wait_for_kernel_before();
  const int32_t last_scored = min(share.end, near.pooled) - 1;
  const auto count = [&](uint32_t* blocks) {
    __syncthreads();
    if (threadIdx.x == 0) count_up(blocks + place.sequence);
  };
  RowSums sums;
  attend_rows(
      memory, op.stages, share.begin, share.end, rows, sums,
      [&] {
        wait_for_kernel_before();
        allow_next_kernel();
        load_rows_query(memory, place.query);
      },
      [&](int32_t tile, const float(&v)[4]) {
        if (tile < near.pooled) store_scores(op.scores, place.sequence, tile, v);
        if (tile == last_scored) count(op.progress.scored);
      },
      [&](int32_t tile) {
        const int branch = near.branch(tile);
        if (tile + 1 < share.end && tile + 1 < near.end(branch)) return;
        store_part(op.parts, place.sequence, static_cast<int32_t>(blockIdx.x) + branch, sums);
        sums = RowSums{};
      });
  count(op.progress.attended);
}

/* grid (chosen_parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1) chosen_kernel(SparseOp op) {
  __shared__ int32_t best[kMostSelected];
  uint4* memory = dynamic_shared<uint4>();
  const Place place = place_of(op.b, blockIdx.y);
  allow_next_kernel();
  load_rows_query(memory, place.query);
  const NearTiles near(op.rule, place.t);
  if (threadIdx.x == 0)
    wait_for_count(op.progress.scored + place.sequence, near.blocks_before(near.pooled, op.near_parts));
  __syncthreads();
  const int32_t part = blockIdx.x;
  const int32_t n = choose_blocks(op.scores, op.rule, place, memory + kRowsShared / sizeof(uint4), best);
  attend_part(memory, op.stages, op.parts, place.sequence, op.chosen_begin + part,
              even_share(part, op.chosen_parts, n), CachedTiles{op.b.cache, place.blocks, best, place.t},
              [&] {
                if (part == 0) store_list(op.rule, place.t, best, op.lists + place.sequence * kMostSelected);
              });
  wait_for_kernel_before(); /* so that near is complete when this kernel is */
}

}  // namespace

BatchAttention::BatchAttention(Device& d, int32_t n, int32_t most_blocks, const NsaRule& rule)
    : device_(d), n_(n), most_blocks_(most_blocks), rule_(rule) {
  check_rule(rule);
  EK_REQUIRE(n >= 1 && most_blocks >= 1, "a batch needs sequences and blocks, got %d and %d", n, most_blocks);
  int most_shared = 0;
  check(cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, d.ordinal),
        "asking for the GPU's memory");
  stages_ = static_cast<size_t>(most_shared) >= kRowsShared + 2 * kRowsTile ? 2 : 1;
  /* One block per multiprocessor at a time, and all of them at once. */
  const int32_t budget = std::max(2, d.n_multiprocessors() / n);
  const int32_t pooled_tiles = ceil_div(int64_t{most_blocks} * 4, kTileTokens);
  const int32_t near_tiles = pooled_tiles + (rule.window + 62) / 64 + 1 + rule.initial + rule.local;
  dense_parts_ = std::min(budget, most_blocks);
  near_parts_ = std::min(budget, near_tiles);
  chosen_parts_ = std::clamp(rule.selected - rule.initial - rule.local, 1, budget);
  chosen_begin_ = (near_slots(near_parts_) + 1) / 2 * 2;
  parts_.n = std::max(dense_parts_, (chosen_begin_ + chosen_parts_ + 1) / 2 * 2);
  scores_.most_tiles = pooled_tiles;
  const size_t parts = static_cast<size_t>(n) * static_cast<size_t>(parts_.n) * kHeads;
  const size_t tiles = static_cast<size_t>(n) * static_cast<size_t>(pooled_tiles) * kHeads;
  memory_ = DeviceMemory(sizeof(float) * (parts * (kLatent + 2) + tiles * (kPooledBlocks + 3)) +
                         sizeof(int32_t) * static_cast<size_t>(n) * (kMostSelected + 3));
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
  progress_.attended = progress_.scored + n;
  progress_.combined = progress_.attended + n;
  check(cudaMemsetAsync(progress_.scored, 0, 3 * static_cast<size_t>(n) * sizeof(uint32_t), d.stream),
        "clearing counters");
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
  launch_combine_parts(device_.stream, b, parts, rule_, 0, SparseProgress{}, {0, dense_parts_});
  mark("combine");
}

void BatchAttention::sparse(const DecodeBatch& b) const {
  check_batch(b);
  SparseOp op{b,      parts_,      scores_,       progress_,     rule_,
              lists_, near_parts_, chosen_begin_, chosen_parts_, stages_};
  launch(device_.stream, "near",
         {{near_parts_, n_}, kThreads, kRowsShared + kRowsTile * static_cast<size_t>(stages_), true},
         near_kernel, op);
  mark("near");
  /* A block with a single tile needs room for no other. */
  op.stages = chosen_parts_ == rule_.selected - rule_.initial - rule_.local ? 1 : stages_;
  launch(device_.stream, "chosen",
         {{chosen_parts_, n_},
          kThreads,
          kRowsShared + std::max(kRowsTile * static_cast<size_t>(op.stages),
                                 choice_shared(most_blocks_, scores_.most_tiles)),
          true},
         chosen_kernel, op);
  mark("chosen");
  launch_combine_parts(device_.stream, b, parts_, rule_, near_parts_, progress_,
                       {chosen_begin_, chosen_begin_ + chosen_parts_});
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
