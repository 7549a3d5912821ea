/* The kernels of PrefillAttention: a block per head and tile of 128 queries. Tiles of a head come next to
 * each other, so that its keys and values stay in L2; the last tiles have the most rows and come first. */
#include "expanded.cuh"
#include "prefill.h"

namespace ek::cuda {

namespace {

__device__ QueryTile query_tile(const PrefillQueries& q) {
  const int32_t from_end = blockIdx.x;
  return {((q.end - 1) / kTileQueries - from_end) * kTileQueries, static_cast<int32_t>(blockIdx.y)};
}

__device__ bool is_new(const PrefillQueries& q, int32_t position) {
  return position >= q.first && position < q.end;
}

/* The last query of the tile. */
__device__ int32_t last_of(const PrefillQueries& q, const QueryTile& tile) {
  return min(q.end, tile.at + kTileQueries) - 1;
}

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* Weight of a branch of the lane's query r; 0 where it saw nothing. */
__device__ float gate_over_total(const PrefillQueries& q, const QueryTile& tile, const QuerySums& sums, int r,
                                 int branch) {
  const size_t row = static_cast<size_t>(tile.position(r) - q.first) * kHeads + tile.head;
  const float total = sums.total[r / 2][r % 2];
  return total == 0 ? 0.0f : sigmoid(q.gates[row * 3 + branch]) / total;
}

/* Calls store(r, element, first, second) for each pair of weighted values of the lane, times factor(r).
 * element: of (n, heads, value). */
template <class Factor, class Store>
__device__ void for_each_pair(const PrefillQueries& q, const QueryTile& tile, const QuerySums& sums,
                              Factor&& factor, Store&& store) {
  for (int r = 0; r < 4; r++) {
    const int32_t position = tile.position(r);
    if (!is_new(q, position)) continue;
    const float f = factor(r);
    const size_t at =
        (static_cast<size_t>(position - q.first) * kHeads + tile.head) * kValue + threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < kValue / 8; n++)
      store(at + n * 8, f * sums.out[r / 2][n][r % 2 * 2], f * sums.out[r / 2][n][r % 2 * 2 + 1]);
  }
}

/* grid (tiles, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    dense_prefill_kernel(PrefillQueries q, ExpandedRows rows) {
  const ExpandedShared s = expanded_shared();
  const QueryTile tile = query_tile(q);
  load_queries(s, q, tile);
  QuerySums sums;
  clear(sums);
  attend_blocks(s, rows, BlocksInOrder{0}, last_of(q, tile) / kBlockRows + 1, q.end, q, tile, RowsBefore{},
                sums, [](int32_t, const BlockScores&, const float(&)[2][2]) {});
  for_each_pair(
      q, tile, sums, [&](int r) { return 1.0f / sums.total[r / 2][r % 2]; },
      [&](size_t at, float first, float second) {
        *reinterpret_cast<uint32_t*>(q.out + at) = pack_bf16(first, second);
      });
}

/* Stores the mass of the 16 blocks that begin with a tile's pooled rows 0, 4, 8, …, for the lane's four
 * queries. A block has twice its rows 0 to 2, its row 3, and the row before it: lane 1 of four ends up with
 * the even blocks, lane 3 with the odd ones. carry: the row before the tile, in lane 1. */
__device__ void store_mass(const PooledMass& to, const PrefillQueries& q, const QueryTile& tile,
                           int32_t entry, const BlockScores& p, const QuerySums& sums,
                           const float (&scale)[2][2], float (&carry)[4], int32_t part_first) {
  const int lane = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < 4; r++) {
    float mass[8], before = carry[r] * scale[r / 2][r % 2];
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const float first = p[r / 2][n][r % 2 * 2], second = p[r / 2][n][r % 2 * 2 + 1];
      const float own = 2 * first + (lane % 2 == 0 ? 2 : 1) * second;
      const float both = own + __shfl_xor_sync(0xffffffffu, own, 1);
      const float other = __shfl_xor_sync(0xffffffffu, second, 2);
      mass[n] = both + (lane == 1 ? before : other);
      before = other;
    }
    carry[r] = before;
    if (!is_new(q, tile.position(r))) continue;
    const size_t row =
        (static_cast<size_t>(tile.position(r) - part_first) * kHeads + tile.head) * to.most_tiles + entry;
    if (lane == 0) to.base[row] = sums.top[r / 2][r % 2] == -INFINITY ? 0.0f : sums.top[r / 2][r % 2];
    if (lane % 2 == 0) continue;
    float4* at = reinterpret_cast<float4*>(to.mass + row * 16 + lane / 2 * 8);
    at[0] = {mass[0], mass[1], mass[2], mass[3]};
    at[1] = {mass[4], mass[5], mass[6], mass[7]};
  }
}

/* sums = gated pooled branch; and the masses of blocks. q: a part of the run, whose queries, gates and sums
 * begin with its own. grid (tiles, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    pooled_prefill_kernel(PrefillQueries q, ExpandedRows pooled, PooledMass mass, float* out) {
  const ExpandedShared s = expanded_shared();
  const QueryTile tile = query_tile(q);
  const int32_t n_rows = pooled_visible(last_of(q, tile));
  if (n_rows > 0) load_queries(s, q, tile);
  QuerySums sums;
  clear(sums);
  float carry[4] = {};
  attend_blocks(s, pooled, BlocksInOrder{0}, (n_rows + kBlockRows - 1) / kBlockRows, n_rows, q, tile,
                PooledBefore{}, sums, [&](int32_t entry, const BlockScores& p, const float(&scale)[2][2]) {
                  store_mass(mass, q, tile, entry, p, sums, scale, carry, q.first);
                });
  for (int r = 0; r < 4; r++) {
    if (threadIdx.x % 4 != 0 || !is_new(q, tile.position(r))) continue;
    const size_t row = static_cast<size_t>(tile.position(r) - q.first) * kHeads + tile.head;
    mass.top[row] = sums.top[r / 2][r % 2];
    mass.total[row] = sums.total[r / 2][r % 2];
  }
  for_each_pair(
      q, tile, sums, [&](int r) { return gate_over_total(q, tile, sums, r, 0); },
      [&](size_t at, float first, float second) {
        *reinterpret_cast<float2*>(out + at) = {first, second};
      });
}

/* The blocks of a tile's plan, and the warp's members. */
struct PlannedBlocks {
  const int32_t* block;
  const uint4* member;

  __device__ int32_t at(int32_t entry) const { return block[entry] * kBlockRows; }
  __device__ uint32_t members(int32_t entry) const {
    return word_of(member[entry], static_cast<int>(threadIdx.x) / kWarp);
  }
};

/* sums += the gated window. grid (tiles, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    window_prefill_kernel(PrefillQueries q, ExpandedRows rows, NsaRule rule, float* before) {
  const ExpandedShared s = expanded_shared();
  const QueryTile tile = query_tile(q);
  load_queries(s, q, tile);
  const int32_t last = last_of(q, tile), first = rule.window_begin(max(tile.at, q.first)) / kBlockRows;
  QuerySums sums;
  clear(sums);
  attend_blocks(s, rows, BlocksInOrder{first}, last / kBlockRows - first + 1, last + 1, q, tile,
                WindowBefore{rule}, sums, [](int32_t, const BlockScores&, const float(&)[2][2]) {});
  for_each_pair(
      q, tile, sums, [&](int r) { return gate_over_total(q, tile, sums, r, 2); },
      [&](size_t at, float a, float b) {
        float2* to = reinterpret_cast<float2*>(before + at);
        *to = {to->x + a, to->y + b};
      });
}

/* out = sums + the gated selected blocks. grid (tiles, heads) */
__global__ void __launch_bounds__(kQueryThreads, 2)
    selected_prefill_kernel(PrefillQueries q, ExpandedRows rows, TilePlans plans, const float* before) {
  const ExpandedShared s = expanded_shared();
  const QueryTile tile = query_tile(q);
  load_queries(s, q, tile);
  const int32_t plan = tile.at / kTileQueries - q.first / kTileQueries;
  const size_t entries = static_cast<size_t>(plan) * plans.most;
  QuerySums sums;
  clear(sums);
  attend_blocks(s, rows, PlannedBlocks{plans.block + entries, plans.member + entries}, plans.n[plan],
                last_of(q, tile) + 1, q, tile, RowsBefore{}, sums,
                [](int32_t, const BlockScores&, const float(&)[2][2]) {});
  for_each_pair(
      q, tile, sums, [&](int r) { return gate_over_total(q, tile, sums, r, 1); },
      [&](size_t at, float a, float b) {
        const float2 other = *reinterpret_cast<const float2*>(before + at);
        *reinterpret_cast<uint32_t*>(q.out + at) = pack_bf16(other.x + a, other.y + b);
      });
}

int32_t n_tiles_of(int32_t first, int32_t end) { return (end - 1) / kTileQueries - first / kTileQueries + 1; }

/* The queries [first, end) of a run. */
PrefillQueries part_of(const PrefillQueries& q, int32_t first, int32_t end) {
  const size_t skipped = static_cast<size_t>(first - q.first) * kHeads;
  return {q.query + skipped * kKeyWidth, q.gates + skipped * 3, q.out + skipped * kValue, first, end};
}

}  // namespace

PrefillAttention::PrefillAttention(Device& d, int32_t most_queries, int32_t most_tokens, const NsaRule& rule,
                                   int32_t part)
    : device_(d), most_queries_(most_queries), most_tokens_(most_tokens), part_(part), rule_(rule) {
  check_rule(rule);
  EK_REQUIRE(
      most_queries >= 1 && most_tokens >= most_queries && part >= kTileQueries && part % kTileQueries == 0,
      "prefill needs tokens, and parts in multiples of %d, got %d of %d in parts of %d", kTileQueries,
      most_queries, most_tokens, part);
  const size_t n = static_cast<size_t>(most_queries), heads = kHeads;
  const size_t in_part = static_cast<size_t>(std::min(part, most_queries)) * heads;
  const size_t tiles = static_cast<size_t>(ceil_div(std::max(1, pooled_visible(most_tokens - 1)), 64));
  const size_t n_plans = n / kTileQueries + 2;
  mass_.most_tiles = static_cast<int32_t>(tiles);
  plans_.most = std::min(ceil_div(most_tokens, 64), kTileQueries * rule.selected);
  const size_t planned = n_plans * static_cast<size_t>(plans_.most);
  memory_ = DeviceMemory(16 * planned +
                         sizeof(float) * (in_part * (tiles * 17 + 2) + n * heads * kValue +
                                          n * static_cast<size_t>(rule.selected) + planned + n_plans));
  plans_.member = memory_.as<uint4>();
  float* at = memory_.as<float>(16 * planned);
  const auto take = [&](size_t count) { return std::exchange(at, at + count); };
  mass_.mass = take(in_part * tiles * 16);
  sums_ = take(n * heads * kValue);
  mass_.base = take(in_part * tiles);
  mass_.top = take(in_part);
  mass_.total = take(in_part);
  lists_ = reinterpret_cast<int32_t*>(take(n * static_cast<size_t>(rule.selected)));
  plans_.block = reinterpret_cast<int32_t*>(take(planned));
  plans_.n = reinterpret_cast<int32_t*>(take(n_plans));
}

void PrefillAttention::check_run(const PrefillQueries& q) const {
  EK_REQUIRE(q.first >= 0 && q.end > q.first && q.end - q.first <= most_queries_ && q.end <= most_tokens_,
             "attention was set up for %d tokens up to %d, got [%d, %d)", most_queries_, most_tokens_,
             q.first, q.end);
}

void PrefillAttention::dense(const PrefillQueries& q, const ExpandedRows& rows) const {
  check_run(q);
  launch(device_.stream, "dense_prefill",
         {{n_tiles_of(q.first, q.end), kHeads}, kQueryThreads, kExpandedShared}, dense_prefill_kernel, q,
         rows);
  mark("dense");
}

void PrefillAttention::sparse(const PrefillQueries& q, const ExpandedRows& rows,
                              const ExpandedRows& pooled) const {
  check_run(q);
  for (int32_t first = q.first; first < q.end;) {
    const int32_t end = std::min(q.end, first - first % kTileQueries + part_);
    const PrefillQueries part = part_of(q, first, end);
    const size_t skipped = static_cast<size_t>(first - q.first);
    launch(device_.stream, "pooled_prefill",
           {{n_tiles_of(first, end), kHeads}, kQueryThreads, kExpandedShared}, pooled_prefill_kernel, part,
           pooled, mass_, sums_ + skipped * kHeads * kValue);
    mark("pooled");
    launch_select_queries(device_.stream, mass_, rule_, first, end,
                          lists_ + skipped * static_cast<size_t>(rule_.selected));
    mark("select");
    first = end;
  }
  launch_plan_tiles(device_.stream, plans_, rule_, lists_, q.first, q.end);
  mark("plan");
  const LaunchShape shape{{n_tiles_of(q.first, q.end), kHeads}, kQueryThreads, kExpandedShared};
  launch(device_.stream, "window_prefill", shape, window_prefill_kernel, q, rows, rule_, sums_);
  mark("window");
  launch(device_.stream, "selected_prefill", shape, selected_prefill_kernel, q, rows, plans_, sums_);
  mark("selected");
}

std::vector<std::vector<int32_t>> PrefillAttention::selected(int32_t first, int32_t end) const {
  device_.wait();
  const size_t n = static_cast<size_t>(end - first), each = static_cast<size_t>(rule_.selected);
  std::vector<int32_t> all(n * each);
  check(cudaMemcpy(all.data(), lists_, all.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
        "reading the selected blocks");
  std::vector<std::vector<int32_t>> out;
  for (size_t i = 0; i < n; i++) {
    const auto from = all.begin() + static_cast<ptrdiff_t>(i * each);
    out.emplace_back(from, from + rule_.n_selected(first + static_cast<int32_t>(i)));
  }
  return out;
}

UnionSize PrefillAttention::union_size(int32_t first, int32_t end) const {
  device_.wait();
  const size_t n = static_cast<size_t>(n_tiles_of(first, end));
  std::vector<int32_t> counts(n);
  std::vector<uint4> members(n * static_cast<size_t>(plans_.most));
  check(cudaMemcpy(counts.data(), plans_.n, n * sizeof(int32_t), cudaMemcpyDeviceToHost), "reading plans");
  check(cudaMemcpy(members.data(), plans_.member, members.size() * sizeof(uint4), cudaMemcpyDeviceToHost),
        "reading plans");
  double of_tiles = 0, of_warps = 0;
  for (size_t i = 0; i < n; i++) {
    of_tiles += counts[i];
    for (int32_t k = 0; k < counts[i]; k++) {
      const uint4& m = members[i * static_cast<size_t>(plans_.most) + static_cast<size_t>(k)];
      of_warps += (m.x != 0) + (m.y != 0) + (m.z != 0) + (m.w != 0);
    }
  }
  return {of_tiles / static_cast<double>(n), of_warps / static_cast<double>(4 * n)};
}

namespace {

double operations_of(double pairs) { return pairs * kHeads * 2 * (kKeyWidth + kValue); }

}  // namespace

double PrefillAttention::dense_operations(int32_t first, int32_t end) {
  return operations_of((static_cast<double>(end) * (end + 1.0) - static_cast<double>(first) * (first + 1.0)) /
                       2);
}

double PrefillAttention::sparse_operations(int32_t first, int32_t end) const {
  double pairs = 0;
  for (int32_t t = first; t < end; t++) {
    const int32_t own = t % 64 + 1; /* of its own block */
    pairs += pooled_visible(t) + 64.0 * (rule_.n_selected(t) - 1) + own + (t + 1 - rule_.window_begin(t));
  }
  return operations_of(pairs);
}

}  // namespace ek::cuda
