/* The kernels of BatchAttention. A block has one part of one sequence: a share of its tiles of 64 rows. */
#include "choose.cuh"
#include "decode.h"
#include "rows.cuh"

namespace ek::cuda {

namespace {

constexpr int kPooledBlocks = kTileTokens / 4; /* of 64 tokens, in a tile of pooled rows */
static_assert(kPooledBlocks * kHeads == kThreads, "a thread per head and block");
constexpr int kCombineColumns = 128;

/* One sequence of the batch. */
struct Place {
  int32_t sequence, t;
  const int32_t* blocks;
  const __nv_bfloat16* query;
};

__device__ Place place_of(const DecodeBatch& b) {
  const int32_t i = blockIdx.y;
  return {i, b.positions[i], b.blocks + static_cast<size_t>(i) * b.most_blocks,
          b.query + static_cast<size_t>(i) * kHeads * kRow};
}

/* The share of part `part` of n_parts in n tiles. */
struct Share {
  int32_t begin, end;
};
__device__ Share share_of(int32_t part, int32_t n_parts, int32_t n) {
  const int32_t each = (n + n_parts - 1) / n_parts, begin = min(n, part * each);
  return {begin, min(n, begin + each)};
}

/* Blocks of cached rows as tiles: those of a list, or in order from `first` on; from position `since` on. */
struct CachedTiles {
  const __nv_bfloat16* cache;
  const int32_t *blocks, *list;
  int32_t first, since, t;

  __device__ int32_t block(int32_t entry) const { return list == nullptr ? first + entry : list[entry]; }
  __device__ const __nv_bfloat16* row(int32_t entry, int32_t i) const {
    return cache + (static_cast<size_t>(blocks[block(entry)]) * 64 + i) * kRow;
  }
  __device__ Bounds bounds(int32_t entry) const {
    const int32_t at = block(entry) * 64;
    return {max(0, since - at), min(kTileTokens, t + 1 - at)};
  }
};

struct PooledTiles {
  const __nv_bfloat16* pooled;
  const int32_t* blocks;
  int32_t n_visible;

  __device__ const __nv_bfloat16* row(int32_t entry, int32_t i) const {
    const int32_t at = entry * kTileTokens + i + 1;
    return pooled + (static_cast<size_t>(blocks[at / 4]) * 4 + at % 4) * kRow;
  }
  __device__ Bounds bounds(int32_t entry) const {
    return {0, min(kTileTokens, n_visible - entry * kTileTokens)};
  }
};

__device__ void store_part(const AttendParts& parts, const Place& place, int32_t part, const RowSums& sums) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const size_t at = static_cast<size_t>(place.sequence) * parts.n + part;
  float* to = parts.latents + at * kHeads * kLatent + threadIdx.x / kWarp * kWarpDims;
  for (int n = 0; n < kWarpDims / 8; n++) {
    *reinterpret_cast<float2*>(to + g * kLatent + n * 8 + 2 * t) = {sums.out[n][0], sums.out[n][1]};
    *reinterpret_cast<float2*>(to + (g + 8) * kLatent + n * 8 + 2 * t) = {sums.out[n][2], sums.out[n][3]};
  }
  if (threadIdx.x % 16 != 0) return;
  parts.top[at * kHeads + threadIdx.x / 16] = sums.top;
  parts.sum[at * kHeads + threadIdx.x / 16] = sums.sum;
}

/* Attends to a share of the tiles, and stores the part. */
template <class Source, class Scored>
__device__ void attend_part(uint4* memory, int stages, const AttendParts& parts, const Place& place,
                            int32_t part, const Share& share, const Source& source, Scored&& scored) {
  if (share.begin == share.end) {
    const size_t at = static_cast<size_t>(place.sequence) * parts.n + part;
    if (threadIdx.x < kHeads) parts.sum[at * kHeads + threadIdx.x] = 0;
    return;
  }
  RowSums sums;
  attend_rows(memory, stages, place.query, share.begin, share.end, source, sums, scored);
  store_part(parts, place, part, sums);
}

/* grid (parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1)
    dense_kernel(DecodeBatch b, AttendParts parts, int32_t n_parts, int stages) {
  allow_next_kernel();
  wait_for_kernel_before();
  const Place place = place_of(b);
  const CachedTiles tiles{b.cache, place.blocks, nullptr, 0, 0, place.t};
  attend_part(dynamic_shared<uint4>(), stages, parts, place, blockIdx.x,
              share_of(blockIdx.x, n_parts, place.t / 64 + 1), tiles, [](int32_t, const float(&)[4]) {});
}

/* What selection needs of a tile's scores; thread 16 h + i has the four rows that begin in block i. It is
 * relative to the tile's own largest score, so that it does not depend on the parts. */
__device__ void store_scores(const PooledScores& to, size_t tile, const float (&v)[4]) {
  const int h = threadIdx.x / 16, i = threadIdx.x % 16;
  const float top = head_max(fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3])));
  float p[4];
  for (int j = 0; j < 4; j++) p[j] = v[j] == -INFINITY ? 0.0f : expf(v[j] - top);
  const float before = __shfl_up_sync(0xffffffffu, p[3], 1), sum = head_sum(p[0] + p[1] + p[2] + p[3]);
  to.mass[(tile * kPooledBlocks + i) * kHeads + h] =
      2 * (p[0] + p[1] + p[2]) + p[3] + (i == 0 ? 0.0f : before);
  if (i == 15) to.carry[tile * kHeads + h] = p[3];
  if (i != 0) return;
  to.top[tile * kHeads + h] = top;
  to.sum[tile * kHeads + h] = sum;
}

/* grid (parts, sequences) */
__global__ void __launch_bounds__(kThreads, 1)
    pooled_kernel(DecodeBatch b, AttendParts parts, PooledScores scores, int32_t n_parts, int stages) {
  allow_next_kernel();
  wait_for_kernel_before();
  const Place place = place_of(b);
  const int32_t n = pooled_visible(place.t);
  const PooledTiles tiles{b.pooled, place.blocks, n};
  attend_part(dynamic_shared<uint4>(), stages, parts, place, blockIdx.x,
              share_of(blockIdx.x, n_parts, (n + kTileTokens - 1) / kTileTokens), tiles,
              [&](int32_t entry, const float(&v)[4]) {
                store_scores(scores, static_cast<size_t>(place.sequence) * scores.most_tiles + entry, v);
              });
}

/* factor (tiles, heads): what a tile's mass of a head is worth in the softmax over all pooled rows. A warp
 * has two heads. */
__device__ void tile_factors(const PooledScores& s, size_t first_tile, int32_t n_tiles, float* factor) {
  const int lane = threadIdx.x % kWarp;
  for (int h = threadIdx.x / kWarp; h < kHeads; h += kWarps) {
    float top = -INFINITY, sum = 0;
    for (int32_t i = lane; i < n_tiles; i += kWarp) top = fmaxf(top, s.top[(first_tile + i) * kHeads + h]);
    top = warp_max(top);
    for (int32_t i = lane; i < n_tiles; i += kWarp)
      sum += s.sum[(first_tile + i) * kHeads + h] * expf(s.top[(first_tile + i) * kHeads + h] - top);
    sum = warp_sum(sum);
    for (int32_t i = lane; i < n_tiles; i += kWarp)
      factor[i * kHeads + h] = expf(s.top[(first_tile + i) * kHeads + h] - top) / sum;
  }
}

/* Sum over heads of what one tile has for a block. */
__device__ float weighted_heads(const float* values, const float* factor) {
  float sum = 0;
#pragma unroll
  for (int h = 0; h < kHeads; h += 4) {
    const float4 v = *reinterpret_cast<const float4*>(values + h);
    sum += v.x * factor[h] + v.y * factor[h + 1] + v.z * factor[h + 2] + v.w * factor[h + 3];
  }
  return sum;
}

/* Every block that attends to selected blocks selects for itself: that is cheaper than another launch.
 * memory: a key per block of the sequence and a factor per pooled tile and head. */
__device__ int32_t select_for(const PooledScores& s, const NsaRule& rule, const Place& place,
                              uint64_t* memory, int32_t* list) {
  const int32_t n_tiles = (pooled_visible(place.t) + kTileTokens - 1) / kTileTokens;
  const size_t first_tile = static_cast<size_t>(place.sequence) * s.most_tiles;
  float* factor = reinterpret_cast<float*>(memory + place.t / 64 + 1);
  if (place.t / 64 + 1 > rule.selected) {
    tile_factors(s, first_tile, n_tiles, factor);
    __syncthreads();
  }
  return choose_blocks<kThreads>(rule, place.t, memory, list, [&](int32_t j) {
    const int32_t tile = j / kPooledBlocks;
    float mass = 0;
    if (tile < n_tiles)
      mass = weighted_heads(s.mass + ((first_tile + tile) * kPooledBlocks + j % kPooledBlocks) * kHeads,
                            factor + tile * kHeads);
    if (j % kPooledBlocks == 0 && tile > 0)
      mass += weighted_heads(s.carry + (first_tile + tile - 1) * kHeads, factor + (tile - 1) * kHeads);
    return mass;
  });
}

struct SparseOp {
  DecodeBatch b;
  AttendParts parts;
  PooledScores scores;
  NsaRule rule;
  int32_t* lists;
  int32_t first_part, selected_parts, window_parts;
  int stages;
};

/* grid (parts, sequences): first those of the selected blocks, then those of the window. */
__global__ void __launch_bounds__(kThreads, 1) sparse_kernel(SparseOp op) {
  __shared__ int32_t list[kMostSelected];
  uint4* memory = dynamic_shared<uint4>();
  allow_next_kernel();
  wait_for_kernel_before();
  const Place place = place_of(op.b);
  const int32_t part = blockIdx.x, own = place.t / 64;
  const auto ignore = [](int32_t, const float(&)[4]) {};
  if (part >= op.selected_parts) {
    const int32_t since = op.rule.window_begin(place.t), first = since / 64;
    const CachedTiles tiles{op.b.cache, place.blocks, nullptr, first, since, place.t};
    attend_part(memory, op.stages, op.parts, place, op.first_part + part,
                share_of(part - op.selected_parts, op.window_parts, own - first + 1), tiles, ignore);
    return;
  }
  const int32_t n = select_for(op.scores, op.rule, place, reinterpret_cast<uint64_t*>(memory), list);
  if (part == 0) {
    for (int32_t i = threadIdx.x; i < n; i += kThreads)
      op.lists[place.sequence * kMostSelected + i] = list[i];
  }
  const CachedTiles tiles{op.b.cache, place.blocks, list, 0, 0, place.t};
  attend_part(memory, op.stages, op.parts, place, op.first_part + part, share_of(part, op.selected_parts, n),
              tiles, ignore);
}

/* The parts of a branch: [begin, end). */
struct Branches {
  int32_t n; /* 1: dense, with gate 1 */
  Share parts[3];
};

/* grid (heads, kLatent / kCombineColumns, sequences); shared: a weight per part. A warp weighs the parts of a
 * branch; then a thread has 4 columns of every eighth part. */
__global__ void __launch_bounds__(kThreads)
    combine_kernel(DecodeBatch b, AttendParts parts, Branches branches) {
  constexpr int kLanes = kCombineColumns / 4, kGroups = kThreads / kLanes;
  __shared__ float4 partial[kGroups][kLanes];
  float* weight = dynamic_shared<float>();
  allow_next_kernel();
  wait_for_kernel_before();
  const int h = blockIdx.x, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const size_t sequence = blockIdx.z, first = sequence * parts.n;
  if (warp < branches.n) {
    const Share own = branches.parts[warp];
    float top = -INFINITY, total = 0;
    for (int32_t i = own.begin + lane; i < own.end; i += kWarp) {
      if (parts.sum[(first + i) * kHeads + h] != 0) top = fmaxf(top, parts.top[(first + i) * kHeads + h]);
    }
    top = warp_max(top);
    for (int32_t i = own.begin + lane; i < own.end; i += kWarp) {
      const float sum = parts.sum[(first + i) * kHeads + h];
      const float w = sum == 0 ? 0.0f : expf(parts.top[(first + i) * kHeads + h] - top);
      weight[i] = w;
      total += w * sum;
    }
    total = warp_sum(total);
    const float gate =
        branches.n == 1 ? 1.0f : 1.0f / (1.0f + expf(-b.gates[(sequence * kHeads + h) * 3 + warp]));
    for (int32_t i = own.begin + lane; i < own.end; i += kWarp)
      weight[i] = total == 0 ? 0.0f : weight[i] * (gate / total);
  }
  __syncthreads();
  const int column = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
  const float* from =
      parts.latents + (first * kHeads + h) * kLatent + blockIdx.y * kCombineColumns + column * 4;
  float4 sum = {0, 0, 0, 0};
#pragma unroll 4
  for (int32_t i = group; i < parts.n; i += kGroups) {
    const float w = weight[i];
    if (w == 0) continue; /* a part without rows has no latents */
    const float4 v = *reinterpret_cast<const float4*>(from + static_cast<size_t>(i) * kHeads * kLatent);
    sum = {fmaf(w, v.x, sum.x), fmaf(w, v.y, sum.y), fmaf(w, v.z, sum.z), fmaf(w, v.w, sum.w)};
  }
  partial[group][column] = sum;
  __syncthreads();
  if (group > 0) return;
  for (int i = 1; i < kGroups; i++) {
    const float4 v = partial[i][column];
    sum = {sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w};
  }
  *reinterpret_cast<float4*>(b.out + (sequence * kHeads + h) * kLatent + blockIdx.y * kCombineColumns +
                             column * 4) = sum;
}

/* The fewest tiles per part with which n_tiles of two branches fit into n_parts. */
int32_t tiles_per_part(int32_t first, int32_t second, int32_t n_parts) {
  int32_t each = 1;
  while (ceil_div(first, each) + ceil_div(second, each) > n_parts && each < std::max(first, second)) each++;
  return each;
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
  const int32_t window_tiles = (rule.window + 62) / 64 + 1;
  const int32_t each = tiles_per_part(rule.selected, window_tiles, budget);
  dense_parts_ = std::min(budget, most_blocks);
  pooled_parts_ = std::min(budget, pooled_tiles);
  selected_parts_ = ceil_div(rule.selected, each);
  window_parts_ = ceil_div(window_tiles, each);
  parts_.n = std::max(dense_parts_, pooled_parts_ + selected_parts_ + window_parts_);
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
         dense_parts_, stages_);
  mark("dense");
  launch(
      device_.stream, "combine",
      {{kHeads, kLatent / kCombineColumns, n_}, kThreads, sizeof(float) * static_cast<size_t>(parts.n), true},
      combine_kernel, b, parts, Branches{1, {{0, dense_parts_}, {}, {}}});
  mark("combine");
}

void BatchAttention::sparse(const DecodeBatch& b) const {
  check_batch(b);
  const size_t tiles = kRowsShared + kRowsTile * static_cast<size_t>(stages_);
  const size_t choice = sizeof(uint64_t) * static_cast<size_t>(most_blocks_) +
                        sizeof(float) * static_cast<size_t>(scores_.most_tiles) * kHeads;
  AttendParts parts = parts_;
  const int32_t selected_end = pooled_parts_ + selected_parts_;
  parts.n = selected_end + window_parts_;
  launch(device_.stream, "pooled", {{pooled_parts_, n_}, kThreads, tiles, true}, pooled_kernel, b, parts,
         scores_, pooled_parts_, stages_);
  mark("pooled");
  const SparseOp op{b, parts, scores_, rule_, lists_, pooled_parts_, selected_parts_, window_parts_, stages_};
  launch(device_.stream, "sparse",
         {{selected_parts_ + window_parts_, n_}, kThreads, std::max(tiles, choice), true}, sparse_kernel, op);
  mark("sparse");
  launch(
      device_.stream, "combine",
      {{kHeads, kLatent / kCombineColumns, n_}, kThreads, sizeof(float) * static_cast<size_t>(parts.n), true},
      combine_kernel, b, parts,
      Branches{3, {{0, pooled_parts_}, {pooled_parts_, selected_end}, {selected_end, parts.n}}});
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
