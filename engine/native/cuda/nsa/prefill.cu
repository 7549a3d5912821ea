/* The kernels of PrefillAttention: a block per head and tile of 128 queries. */
#include "queries.cuh"

namespace ek::cuda {

namespace {

/* grid (tiles, heads) */
template <class P>
__global__ void __launch_bounds__(QueryTile<P>::kThreads, 2)
    dense_prefill_kernel(PrefillQueries q, ExpandedRows rows) {
  const ExpandedShared s = expanded_shared<P>();
  const QueryTile<P> tile = tile_of_block<P>(q.first, q.end);
  load_queries(s, q.query, tile);
  QuerySums<P> sums;
  clear(sums);
  attend_blocks(s, rows, BlocksInOrder{0}, tile.last() / kBlockRows + 1, q.end, tile, RowsBefore{}, sums);
  join_totals(sums);
  store_values(q.out, sums, tile);
}

/* With weights of at most 2^12 masses are at most 2^15: so they fit into f16, and small ones keep their bits.
 * bf16 would be too coarse for blocks that are nearly equal. */
constexpr int kMassWeightLog2 = 12;

/* Columns behind the values: what a tile's pooled rows count for in the masses of the blocks that begin with
 * rows 0, 4, 8, …: a block has twice its rows 0 to 2, its row 3, and the row before it. */
template <class P>
__device__ void write_factors(__nv_bfloat16* to) {
  for (int i = threadIdx.x; i < 16 * kBlockRows; i += QueryTile<P>::kThreads) {
    const int row = i / 16, block = i % 16, ahead = row - 4 * block;
    const float factor = ahead >= 0 && ahead < 3 ? 2.0f : ahead == 3 || ahead == -1 ? 1.0f : 0.0f;
    to[P::More::at(row, block / 8) + block % 8] = __float2bfloat16_rn(factor);
  }
}

/* Stores the masses of each block of pooled rows, for attend_blocks. They are sums of the weights that values
 * meet, in bf16. */
template <class P>
struct StoreMasses {
  static constexpr int kWeightLog2 = kMassWeightLog2;
  const PooledMass& to;
  const QueryTile<P>& tile;

  template <class>
  __device__ void add_values(int32_t entry, QuerySums<P>& sums, const PackedWeights<P>& weights,
                             const ExpandedShared& s) const {
    MoreSums<P> mass = {};
    P::add_all_values(sums.out, mass, weights, s);
    const int thread = thread_now(), lane = thread % kWarp;
    const int32_t position = tile.at + thread / kWarp * QueryTile<P>::kWarpQueries + lane / 4;
    const size_t first = to.place(tile.head, entry) + static_cast<size_t>(position - tile.first);
#pragma unroll
    for (int r = 0; r < QueryTile<P>::kRows; r++) {
      if (!tile.is_new(position + 8 * r)) continue;
      const int m = r / 2, i = r % 2;
      const size_t row = first + 8 * r;
      const float base = sums.top[m][i] == -INFINITY ? 0.0f : sums.top[m][i];
      if (lane % 4 == 3) to.base[row] = {base, bf16_value(weights[3][m][2 + i] >> 16)};
      const auto pair = [&](int n) { return pack_f16(mass[m][n][2 * i], mass[m][n][2 * i + 1]); };
      *reinterpret_cast<uint2*>(to.mass + row * 16 + lane % 4 * 4) = {pair(0), pair(1)};
    }
  }
};

/* Stores the gated pooled branch (n, heads, value), and the masses of blocks. q: a part of the run, whose
 * queries, gates and branch begin with its own. grid (tiles, heads) */
template <class P>
__global__ void __launch_bounds__(QueryTile<P>::kThreads, 2)
    pooled_prefill_kernel(PrefillQueries q, ExpandedRows pooled, PooledMass mass, __nv_bfloat16* branch) {
  const ExpandedShared s = expanded_shared<P>();
  const QueryTile<P> tile = tile_of_block<P>(q.first, q.end);
  write_factors<P>(s.value + P::kValueSize); /* complete behind the barriers of attend_blocks */
  const int32_t n_rows = pooled_visible(tile.last());
  if (n_rows > 0) load_queries(s, q.query, tile);
  QuerySums<P> sums;
  clear(sums);
  attend_blocks(s, pooled, BlocksInOrder{0}, (n_rows + kBlockRows - 1) / kBlockRows, n_rows, tile,
                PooledBefore{}, sums, StoreMasses<P>{mass, tile});
  join_totals(sums);
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    if (threadIdx.x % 4 != 0 || !tile.is_new(tile.position(r))) continue;
    const size_t row = tile.row(r);
    mass.total[row] = sums.top[r / 2][r % 2] + log2f(sums.total[r / 2][r % 2]);
  }
  store_branch(branch, q, tile, sums, 0);
}

/* The queries [first, end) of a run. */
PrefillQueries part_of(const PrefillQueries& q, int32_t first, int32_t end) {
  const size_t skipped = static_cast<size_t>(first - q.first) * kHeads;
  return {q.query + skipped * kKeyWidth, q.gates + skipped * 3, q.out + skipped * kValue, first, end};
}

}  // namespace

PrefillAttention::PrefillAttention(Device& d, int32_t most_queries, int32_t most_tokens, const NsaRule& rule,
                                   int32_t part, int32_t group)
    : device_(d),
      most_queries_(most_queries),
      most_tokens_(most_tokens),
      part_(part),
      group_(group),
      rule_(rule),
      b_(std::make_unique<PrefillBuffers>()) {
  check_rule(rule);
  EK_REQUIRE(most_queries >= 1 && most_tokens >= most_queries && part >= kTileQueries &&
                 group >= kTileQueries && part % kTileQueries == 0 && group % kTileQueries == 0,
             "prefill needs tokens, and parts and groups in multiples of %d, got %d of %d in %d and %d",
             kTileQueries, most_queries, most_tokens, part, group);
  EK_REQUIRE(rule.window >= rule.local * kBlockRows,
             "prefill needs a window of at least its %d local blocks, got %d tokens", rule.local,
             rule.window);
  const size_t n = static_cast<size_t>(most_queries), selected = static_cast<size_t>(rule.selected);
  const size_t in_part = static_cast<size_t>(std::min(part, most_queries)) * kHeads;
  const size_t in_group = static_cast<size_t>(std::min(group, most_queries));
  const size_t pooled_tiles = static_cast<size_t>(ceil_div(std::max(1, pooled_visible(most_tokens - 1)), 64));
  const size_t n_blocks = static_cast<size_t>(ceil_div(most_tokens, 64));
  const size_t chosen = selected - static_cast<size_t>(rule.initial + rule.local),
               slots = chosen + kForcedSlots;
  /* A multiple of 8, so that what lies behind them begins with a line of memory. */
  const size_t tiles = round_up(in_group * chosen / kPairTile + n_blocks + 1, 8);
  b_->mass.most_tiles = static_cast<int32_t>(pooled_tiles);
  b_->mass.most_queries = std::min(part, most_queries);
  b_->parts.n = static_cast<int32_t>(slots);
  b_->parts.most_queries = static_cast<int32_t>(in_group);
  b_->pairs.most_tiles = static_cast<int32_t>(tiles);
  constexpr size_t kWord = sizeof(float);
  const size_t words = in_group * slots * kHeads * (kPartWords + 2) + (n + in_group) * kHeads * kValue / 2 +
                       in_part * (pooled_tiles * 10 + 1) + (n + in_group) * selected + in_group * chosen +
                       2 * n_blocks + 4 * tiles + 1;
  b_->memory = DeviceMemory(words * kWord);
  float* at = b_->memory.as<float>();
  const auto take = [&](size_t count) { return std::exchange(at, at + count); };
  const auto integers = [&](size_t count) { return reinterpret_cast<int32_t*>(take(count)); };
  const auto values = [&](size_t rows) {
    return reinterpret_cast<__nv_bfloat16*>(take(rows * kHeads * kValue / 2));
  };
  b_->pairs.tile = reinterpret_cast<PairTile*>(take(tiles * 4));
  b_->parts.words = reinterpret_cast<uint32_t*>(take(in_group * slots * kHeads * kPartWords));
  b_->parts.sums = reinterpret_cast<PartSums*>(take(in_group * slots * kHeads * 2));
  b_->pooled = values(n);
  b_->window = values(in_group);
  b_->mass.mass = reinterpret_cast<__half*>(take(in_part * pooled_tiles * 8));
  b_->mass.base = reinterpret_cast<TileBase*>(take(in_part * pooled_tiles * 2));
  b_->mass.total = take(in_part);
  b_->lists = integers(n * selected);
  b_->pairs.pair = integers(in_group * chosen);
  b_->pairs.count = integers(n_blocks);
  b_->pairs.first = integers(n_blocks);
  b_->pairs.number = integers(in_group * selected);
  b_->pairs.n_tiles = integers(1);
}

PrefillAttention::~PrefillAttention() = default;

void PrefillAttention::check_run(const PrefillQueries& q) const {
  EK_REQUIRE(q.first >= 0 && q.end > q.first && q.end - q.first <= most_queries_ && q.end <= most_tokens_,
             "attention was set up for %d tokens up to %d, got [%d, %d)", most_queries_, most_tokens_,
             q.first, q.end);
}

void PrefillAttention::dense(const PrefillQueries& q, const ExpandedRows& rows) const {
  check_run(q);
  with_products([&]<class P>(P) {
    launch(device_.stream, "dense_prefill",
           {{n_tiles_of(q.first, q.end), kHeads}, QueryTile<P>::kThreads, kExpandedShared<P>},
           dense_prefill_kernel<P>, q, rows);
  });
  mark("dense");
}

void PrefillAttention::select_group(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& pooled,
                                    int32_t first, int32_t end) const {
  launch_clear_pairs(stream, b_->pairs, end);
  for (const int32_t group = first; first < end;) {
    const int32_t part_end = std::min(end, first - first % kTileQueries + part_);
    const PrefillQueries part = part_of(q, first, part_end);
    const size_t skipped = static_cast<size_t>(first - q.first);
    with_products([&]<class P>(P) {
      launch(stream, "pooled_prefill",
             {{n_tiles_of(first, part_end), kHeads},
              QueryTile<P>::kThreads,
              kExpandedShared<P> + sizeof(__nv_bfloat16) * P::kMoreSize},
             pooled_prefill_kernel<P>, part, pooled, b_->mass, b_->pooled + skipped * kHeads * kValue);
    });
    mark("pooled");
    launch_select_queries(stream, b_->mass, b_->pairs, rule_, group, first, part_end,
                          b_->lists + skipped * static_cast<size_t>(rule_.selected));
    mark("select");
    first = part_end;
  }
}

void PrefillAttention::attend_chosen(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows,
                                     int32_t first, int32_t end) const {
  if (b_->parts.n == kForcedSlots) return; /* all blocks are forced */
  const int32_t* lists =
      b_->lists + static_cast<size_t>(first - q.first) * static_cast<size_t>(rule_.selected);
  launch_pair_blocks(stream, b_->pairs, rule_, b_->parts.n, lists, first, end);
  mark("pair");
  if (first > q.first) b_->combined.hold(stream); /* the parts of the group before */
  launch_attend_pairs(stream, part_of(q, first, end), rows, b_->pairs, b_->parts);
  mark("chosen");
}

/* What is near needs no selection, and putting branches together no tensor cores: in the device's stream they
 * take what the others leave of the GPU, above all while these choose, sort and come to their ends. */
void PrefillAttention::sparse(const PrefillQueries& q, const ExpandedRows& rows,
                              const ExpandedRows& pooled) const {
  check_run(q);
  const cudaStream_t rest = device_.stream, urgent = after ? rest : b_->urgent.get();
  b_->begun.order(rest, urgent);
  for (int32_t first = q.first; first < q.end;) {
    const int32_t end = std::min(q.end, first - first % kTileQueries + group_);
    const PrefillQueries group = part_of(q, first, end);
    launch_attend_near(rest, group, rows, rule_, b_->parts, b_->window);
    mark("near");
    select_group(urgent, q, pooled, first, end);
    attend_chosen(urgent, q, rows, first, end);
    b_->chosen.order(urgent, rest);
    launch_combine_branches(rest, group, rule_, b_->parts,
                            b_->pooled + static_cast<size_t>(first - q.first) * kHeads * kValue, b_->window);
    mark("combine");
    b_->combined.record(rest);
    first = end;
  }
}

std::vector<std::vector<int32_t>> PrefillAttention::selected(int32_t first, int32_t end) const {
  device_.wait();
  const size_t n = static_cast<size_t>(end - first), each = static_cast<size_t>(rule_.selected);
  std::vector<int32_t> all(n * each);
  check(cudaMemcpy(all.data(), b_->lists, all.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
        "reading the selected blocks");
  std::vector<std::vector<int32_t>> out;
  for (size_t i = 0; i < n; i++) {
    const auto from = all.begin() + static_cast<ptrdiff_t>(i * each);
    out.emplace_back(from, from + rule_.n_selected(first + static_cast<int32_t>(i)));
  }
  return out;
}

}  // namespace ek::cuda
