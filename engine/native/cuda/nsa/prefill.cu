/* Attention of prompts: its buffers, the order of its kernels, and the dense one, a block per head and tile
 * of 128 queries. */
#include "../device/streams.h"
#include "prefill.h"
#include "queries.cuh"

namespace ek::cuda {

struct PrefillBuffers {
  DeviceMemory memory;
  PooledMass mass;
  ChosenPairs pairs;
  SelectedParts parts;
  __nv_bfloat16 *pooled, *window; /* (n, heads, value), (group, heads, value) gated, as by store_by_lanes */
  PartSums* local;                /* (n, heads) of the last blocks, where a choice is shared */
  int32_t* lists;                 /* (n, selected), or (tiles of the prompt, selected) where it is */
  int32_t ended = 0; /* where the last run did, which has the list of the tile that it ended in */
  /* Of a group: what its parts need, and what is free again. */
  UrgentStream urgent;
  StreamEvent begun, chosen, combined;
};

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

/* The queries [first, end) of a run. */
PrefillQueries part_of(const PrefillQueries& q, int32_t first, int32_t end) {
  const size_t skipped = static_cast<size_t>(first - q.first) * kHeads;
  return {q.query + skipped * kKeyWidth, q.gates + skipped * 3, q.out + skipped * kValue, first, end};
}

/* Gives out memory by words of four bytes, each piece from the beginning of a line of memory on; without a
 * base it only counts. */
class Words {
 public:
  explicit Words(float* base) : base_(base) {}

  template <class T>
  T* take(size_t n_words) {
    const size_t at = std::exchange(used_, used_ + round_up(n_words, kLine));
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  size_t used() const { return used_; }

 private:
  static constexpr size_t kLine = 32;
  float* base_;
  size_t used_ = 0;
};

/* Most of what there is of each kind. */
struct PrefillSizes {
  size_t queries, tokens, in_part, in_group; /* tokens */

  size_t pooled_tiles() const {
    return static_cast<size_t>(ceil_div(std::max(1, pooled_visible(static_cast<int32_t>(tokens) - 1)), 64));
  }
  size_t blocks() const { return (tokens + 63) / 64; }
};

/* Masses of n queries. */
void place_masses(Words& words, PooledMass& mass, size_t n, size_t tiles) {
  mass.most_tiles = static_cast<int32_t>(tiles);
  mass.most_queries = static_cast<int32_t>(n);
  mass.mass = words.take<__half>(n * kHeads * tiles * 8);
  mass.base = words.take<TileBase>(n * kHeads * tiles * 2);
  mass.total = words.take<float>(n * kHeads);
}

/* What selections of their own need. */
void place_pairs(Words& words, PrefillBuffers& b, const PrefillSizes& n, const NsaRule& rule) {
  const size_t selected = static_cast<size_t>(rule.selected),
               chosen = selected - static_cast<size_t>(rule.initial + rule.local),
               slots = chosen + kForcedSlots, tiles = n.in_group * chosen / kPairTile + n.blocks() + 1;
  b.parts.n = static_cast<int32_t>(slots);
  b.parts.most_queries = static_cast<int32_t>(n.in_group);
  b.pairs.most_tiles = static_cast<int32_t>(tiles);
  b.pairs.tile = words.take<PairTile>(tiles * 4);
  b.parts.words = words.take<uint32_t>(n.in_group * slots * kHeads * kPartWords);
  b.parts.sums = words.take<PartSums>(n.in_group * slots * kHeads * 2);
  b.window = words.take<__nv_bfloat16>(n.in_group * kHeads * kValue / 2);
  b.lists = words.take<int32_t>(n.queries * selected);
  b.pairs.pair = words.take<int32_t>(n.in_group * chosen);
  b.pairs.count = words.take<int32_t>(n.blocks());
  b.pairs.first = words.take<int32_t>(n.blocks());
  b.pairs.number = words.take<int32_t>(n.in_group * selected);
  b.pairs.n_tiles = words.take<int32_t>(1);
}

/* Places all buffers; returns how many words they take. */
size_t place_buffers(float* base, PrefillBuffers& b, const PrefillSizes& n, const NsaRule& rule) {
  Words words(base);
  b.pooled = words.take<__nv_bfloat16>(n.queries * kHeads * kValue / 2);
  if (rule.sharing > 1) {
    const auto tiles = [](size_t tokens) { return (tokens + kTileQueries - 1) / kTileQueries; };
    place_masses(words, b.mass, tiles(n.queries), n.pooled_tiles());
    b.local = words.take<PartSums>(n.queries * kHeads * 2);
    b.lists = words.take<int32_t>(tiles(n.tokens) * static_cast<size_t>(rule.selected));
  } else {
    place_masses(words, b.mass, n.in_part, n.pooled_tiles());
    place_pairs(words, b, n, rule);
  }
  return words.used();
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
  EK_REQUIRE(rule.sharing == 1 || rule.sharing == kTileQueries,
             "in prefill 1 or %d tokens share a choice, got %d", kTileQueries, rule.sharing);
  /* A tile that shares a choice ends a block behind its first token's. */
  const int32_t behind = rule.sharing / kBlockRows - (rule.sharing > 1 ? 1 : 0);
  EK_REQUIRE(rule.window >= (rule.local + behind) * kBlockRows,
             "prefill needs a window of at least its %d local blocks, got %d tokens", rule.local + behind,
             rule.window);
  const PrefillSizes sizes{static_cast<size_t>(most_queries), static_cast<size_t>(most_tokens),
                           static_cast<size_t>(std::min(part, most_queries)),
                           static_cast<size_t>(std::min(group, most_queries))};
  b_->memory = DeviceMemory(place_buffers(nullptr, *b_, sizes, rule) * sizeof(float));
  place_buffers(b_->memory.as<float>(), *b_, sizes, rule);
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
    launch_attend_pooled(stream, part, pooled, rule_, b_->mass, b_->pooled + skipped * kHeads * kValue);
    mark("pooled");
    launch_select_blocks(stream, b_->mass, b_->pairs, rule_, group, first, part_end,
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
  if (rule_.sharing > 1) return sparse_shared(q, rows, pooled);
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

void PrefillAttention::sparse_shared(const PrefillQueries& q, const ExpandedRows& rows,
                                     const ExpandedRows& pooled) const {
  EK_REQUIRE(q.first % kTileQueries == 0 || q.first == b_->ended,
             "a run that begins inside of a tile must go on where the last one ended, at %d, got one from %d",
             b_->ended, q.first);
  b_->ended = q.end;
  launch_attend_pooled(device_.stream, q, pooled, rule_, b_->mass, b_->pooled);
  mark("pooled");
  const int32_t tile = ceil_div(q.first, kTileQueries), first = tile * kTileQueries;
  if (first < q.end) {
    launch_select_blocks(device_.stream, b_->mass, {}, rule_, first, first, q.end,
                         b_->lists + tile * rule_.selected);
    mark("select");
  }
  launch_attend_shared(device_.stream, q, rows, rule_, b_->lists, b_->local, b_->pooled);
  mark("shared");
}

std::vector<std::vector<int32_t>> PrefillAttention::selected(int32_t first, int32_t end) const {
  device_.wait();
  const int32_t from = rule_.sharing > 1 ? first / rule_.sharing : 0,
                to = rule_.sharing > 1 ? (end - 1) / rule_.sharing + 1 : end - first;
  const size_t each = static_cast<size_t>(rule_.selected);
  std::vector<int32_t> all(static_cast<size_t>(to - from) * each);
  check(cudaMemcpy(all.data(), b_->lists + static_cast<size_t>(from) * each, all.size() * sizeof(int32_t),
                   cudaMemcpyDeviceToHost),
        "reading the selected blocks");
  std::vector<std::vector<int32_t>> out;
  for (int32_t t = first; t < end; t++) {
    const int32_t chooser = rule_.chooser(t), i = rule_.sharing > 1 ? t / rule_.sharing - from : t - first;
    const auto begin = all.begin() + i * static_cast<ptrdiff_t>(each);
    out.emplace_back(begin, begin + rule_.n_selected(chooser));
    for (int32_t block = chooser / 64 + 1; block <= t / 64; block++) out.back().push_back(block);
  }
  return out;
}

}  // namespace ek::cuda
