/* The kernels of BatchAttention. A block has one part of one sequence: a share of its tiles of 64 rows. What
 * every token attends to comes first, then the blocks that it chose, then all parts together. near and chosen
 * wait for the kernel before, and then let the next one begin: so that one may read, before it waits, what
 * kernels before these two stored. Of the kernel before the call only the queries, gates and the newest rows
 * may come. */
#include "choose.cuh"
#include "sources.cuh"

namespace ek::cuda {

namespace {

constexpr int kPooledBlocks = kTileTokens / 4; /* of 64 tokens, in a tile of pooled rows */
static_assert(kPooledBlocks * kHeads == kThreads, "a thread per head and block");

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

/* What selection needs of a tile's scores; thread 16 h + i has the four rows that begin in block i. It is
 * relative to the tile's own largest score, so that it does not depend on the parts. */
__device__ void store_scores(const PooledScores& to, size_t sequence, int32_t tile, const float (&v)[4]) {
  const int h = threadIdx.x / 16, i = threadIdx.x % 16;
  const float top = head_max(fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3])));
  float p[4];
  for (int j = 0; j < 4; j++) p[j] = v[j] == -INFINITY ? 0.0f : expf(v[j] - top);
  const float before = __shfl_up_sync(0xffffffffu, p[3], 1), sum = head_sum(p[0] + p[1] + p[2] + p[3]);
  const size_t row = sequence * to.most_tiles + tile;
  to.mass[(row * kHeads + h) * kPooledBlocks + i] =
      2 * (p[0] + p[1] + p[2]) + p[3] + (i == 0 ? 0.0f : before);
  if (i == 15) to.carry[row * kHeads + h] = p[3];
  if (i != 0) return;
  const size_t column = (sequence * kHeads + h) * to.most_tiles + tile;
  to.top[column] = top;
  to.sum[column] = sum;
}

struct SparseOp {
  DecodeBatch b;
  AttendParts parts;
  PooledScores scores;
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
      },
      [&](int32_t tile) {
        const int branch = near.branch(tile);
        if (tile + 1 < share.end && tile + 1 < near.end(branch)) return;
        store_part(op.parts, place.sequence, static_cast<int32_t>(blockIdx.x) + branch, sums);
        sums = RowSums{};
      });
}

/* factor (tiles, heads): what a tile's mass of a head is worth in the softmax over all pooled rows. A head
 * has 16 threads. */
__device__ void tile_factors(const PooledScores& s, size_t sequence, int32_t n_tiles, float* factor) {
  constexpr int kEarly = 4, kStep = 16;
  const int h = threadIdx.x / kStep, first = threadIdx.x % kStep;
  const float *tops = s.top + (sequence * kHeads + h) * s.most_tiles, *sums = s.sum + (tops - s.top);
  float early_top[kEarly], early_sum[kEarly], top = -INFINITY, sum = 0;
#pragma unroll
  for (int e = 0; e < kEarly; e++) {
    const int32_t i = first + e * kStep;
    early_top[e] = i < n_tiles ? tops[i] : -INFINITY;
    early_sum[e] = i < n_tiles ? sums[i] : 0.0f;
    top = fmaxf(top, early_top[e]);
  }
  for (int32_t i = first + kEarly * kStep; i < n_tiles; i += kStep) top = fmaxf(top, tops[i]);
  top = head_max(top);
  for (int e = 0; e < kEarly; e++) sum += early_sum[e] * expf(early_top[e] - top);
  for (int32_t i = first + kEarly * kStep; i < n_tiles; i += kStep) sum += sums[i] * expf(tops[i] - top);
  sum = head_sum(sum);
  for (int e = 0; e < kEarly; e++) {
    if (first + e * kStep < n_tiles)
      factor[(first + e * kStep) * kFactorPitch + h] = expf(early_top[e] - top) / sum;
  }
  for (int32_t i = first + kEarly * kStep; i < n_tiles; i += kStep)
    factor[i * kFactorPitch + h] = expf(tops[i] - top) / sum;
}

__device__ float weighted(const float4& values, const float* factor) {
  const float4 f = *reinterpret_cast<const float4*>(factor);
  return (values.x * f.x + values.y * f.y) + (values.z * f.z + values.w * f.w);
}

/* Keys of all blocks of a sequence. Four threads per block, of four heads each. What a thread needs of the
 * first 1024 blocks loads while factors are made. */
__device__ void write_keys(const PooledScores& s, const NsaRule& rule, const Place& place, uint64_t* key,
                           float* factor) {
  constexpr int kEarly = 16, kBlocksAtOnce = kThreads / 4;
  const int32_t own = place.t / 64, n_tiles = (pooled_visible(place.t) + kTileTokens - 1) / kTileTokens;
  const int32_t first = threadIdx.x / 4, quad = threadIdx.x % 4 * 4;
  const size_t tiles_before = static_cast<size_t>(place.sequence) * s.most_tiles;
  const float* masses = s.mass + (tiles_before * kHeads + quad) * kPooledBlocks;
  const float* carries = s.carry + tiles_before * kHeads + quad;
  const auto mass_of = [&](int32_t j) {
    if (j / kPooledBlocks >= n_tiles) return float4{0, 0, 0, 0};
    const float* of =
        masses + static_cast<size_t>(j / kPooledBlocks) * kHeads * kPooledBlocks + j % kPooledBlocks;
    return float4{of[0], of[kPooledBlocks], of[2 * kPooledBlocks], of[3 * kPooledBlocks]};
  };
  /* Of the row before block j, which is in another tile only where j begins one. */
  const auto carry_of = [&](int32_t j) {
    const int32_t tile = j / kPooledBlocks;
    return j % kPooledBlocks == 0 && tile > 0 && tile <= n_tiles
               ? *reinterpret_cast<const float4*>(carries + static_cast<size_t>(tile - 1) * kHeads)
               : float4{0, 0, 0, 0};
  };
  static_assert(kBlocksAtOnce % kPooledBlocks == 0, "a thread has the first block of tiles, or never");
  float4 early[kEarly], early_carry[kEarly];
#pragma unroll
  for (int turn = 0; turn < kEarly; turn++) {
    early[turn] = mass_of(first + turn * kBlocksAtOnce);
    early_carry[turn] = carry_of(first + turn * kBlocksAtOnce);
  }
  tile_factors(s, place.sequence, n_tiles, factor);
  __syncthreads();
  const auto write = [&](int32_t j, const float4& mass, const float4& carry) {
    const int32_t tile = j / kPooledBlocks;
    float sum = tile < n_tiles ? weighted(mass, factor + tile * kFactorPitch + quad) : 0.0f;
    if (j % kPooledBlocks == 0 && tile > 0 && tile <= n_tiles)
      sum += weighted(carry, factor + (tile - 1) * kFactorPitch + quad);
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (quad == 0 && j <= own) key[j] = block_key(rule, j, own, sum);
  };
#pragma unroll
  for (int turn = 0; turn < kEarly; turn++) {
    if (turn * kBlocksAtOnce <= own) write(first + turn * kBlocksAtOnce, early[turn], early_carry[turn]);
  }
  for (int32_t at = kEarly * kBlocksAtOnce; at <= own; at += kBlocksAtOnce)
    write(first + at, mass_of(first + at), carry_of(first + at));
}

/* The blocks of a sequence, in list; returns how many. Every block that attends to chosen blocks selects for
 * itself: that is cheaper than another launch. memory: a key per block of the sequence and a factor per
 * pooled tile and head. */
__device__ int32_t select_for(const PooledScores& s, const NsaRule& rule, const Place& place,
                              uint64_t* memory, int32_t* list) {
  const int32_t own = place.t / 64;
  if (own + 1 > rule.selected)
    write_keys(s, rule, place, memory, reinterpret_cast<float*>(memory + (own + 2) / 2 * 2));
  return list_best<kThreads>(rule, place.t, memory, list);
}

/* grid (chosen_parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1) chosen_kernel(SparseOp op) {
  __shared__ int32_t list[kMostSelected];
  uint4* memory = dynamic_shared<uint4>();
  const Place place = place_of(op.b, blockIdx.y);
  load_rows_query(memory, place.query);
  wait_for_kernel_before();
  allow_next_kernel();
  const int32_t part = blockIdx.x;
  const int32_t n = select_for(op.scores, op.rule, place,
                               reinterpret_cast<uint64_t*>(memory + kRowsShared / sizeof(uint4)), list);
  if (part == 0) {
    for (int32_t i = threadIdx.x; i < n; i += kThreads)
      op.lists[place.sequence * kMostSelected + i] = list[i];
  }
  /* The initial blocks lead the list, and the other forced ones end it. */
  const Share share = even_share(part, op.chosen_parts, max(0, n - op.rule.initial - op.rule.local));
  attend_part(memory, op.stages, op.parts, place.sequence, op.chosen_begin + part, share,
              CachedTiles{op.b.cache, place.blocks, list + op.rule.initial, place.t}, [] {});
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
                         sizeof(int32_t) * static_cast<size_t>(n) * kMostSelected);
  float* at = memory_.as<float>();
  const auto take = [&](size_t count) { return std::exchange(at, at + count); };
  parts_.latents = take(parts * kLatent);
  parts_.top = take(parts);
  parts_.sum = take(parts);
  scores_.mass = take(tiles * kPooledBlocks);
  scores_.top = take(tiles);
  scores_.sum = take(tiles);
  scores_.carry = take(tiles);
  lists_ = reinterpret_cast<int32_t*>(at);
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
  launch_combine_parts(device_.stream, b, parts, rule_, 0, {0, dense_parts_});
  mark("combine");
}

void BatchAttention::sparse(const DecodeBatch& b) const {
  check_batch(b);
  const size_t choice = sizeof(uint64_t) * static_cast<size_t>(most_blocks_ + 1) +
                        sizeof(float) * static_cast<size_t>(scores_.most_tiles) * kFactorPitch;
  SparseOp op{b, parts_, scores_, rule_, lists_, near_parts_, chosen_begin_, chosen_parts_, stages_};
  launch(device_.stream, "near",
         {{near_parts_, n_}, kThreads, kRowsShared + kRowsTile * static_cast<size_t>(stages_), true},
         near_kernel, op);
  mark("near");
  /* A block with a single tile needs room for no other. */
  op.stages = chosen_parts_ == rule_.selected - rule_.initial - rule_.local ? 1 : stages_;
  launch(device_.stream, "chosen",
         {{chosen_parts_, n_},
          kThreads,
          kRowsShared + std::max(kRowsTile * static_cast<size_t>(op.stages), choice),
          true},
         chosen_kernel, op);
  mark("chosen");
  launch_combine_parts(device_.stream, b, parts_, rule_, near_parts_,
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
