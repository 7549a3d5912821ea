#include <algorithm>

#include "../device/kernel_times.h"
#include "kernels.h"
#include "prefill.h"

namespace ek::cuda {

struct LitePrefill::State {
  std::vector<DeviceMemory> memory;
  ChunkBuffers b{};
  const bool can_absorb = cuda::can_absorb();

  template <class T>
  T* take(size_t n) {
    memory.emplace_back(n * sizeof(T));
    return memory.back().as<T>();
  }
};

namespace {

static_assert(kMostShort <= kFewRows, "a short run has few rows");

using Launch = void(cudaStream_t, const char*, const GemmOp&);

void product(const Chunk& c, const char* name, const GemmOp& op) {
  (c.is_short ? static_cast<Launch*>(launch_gemm_few) : launch_gemm)(c.stream, name, op);
  c.mark(name);
}

void gated_product(const Chunk& c, const char* name, const GemmOp& op) {
  (c.is_short ? static_cast<Launch*>(launch_gemm_few_gated) : launch_gemm_gated)(c.stream, name, op);
  c.mark(name);
}

/* out = a times w, of all rows of the chunk. */
GemmOp product_of(const Chunk& c, const __nv_bfloat16* a, const WeightView& w, GemmOut kind, void* out) {
  return {{a, w.n_cols, nullptr, nullptr, 0}, {}, w, {}, c.n, kind, out};
}

/* The experts that every token meets: hidden = silu(gate h) * up h, then x += down hidden. */
GemmOp shared_in(const Chunk& c, const LiteLayer& l, __nv_bfloat16* hidden) {
  return {{c.b.h, c.shape.hidden, nullptr, nullptr, 0},
          {},
          l.shared_gate,
          l.shared_up,
          c.n,
          GemmOut::kBf16,
          hidden};
}
GemmOp shared_out(const Chunk& c, const LiteLayer& l, const __nv_bfloat16* hidden) {
  return product_of(c, hidden, l.shared_down, GemmOut::kAddFloat, c.b.x);
}

/* The same of the chosen experts, on the pairs sorted by expert; y of a pair instead of x. */
GemmTiles by_expert(const Chunk& c) {
  return {c.b.tile_expert, c.b.tile_first, c.b.tile_end, c.b.n_tiles, most_tiles(c.shape, c.n, tile_rows(c))};
}
GemmOp routed_in(const Chunk& c, const LiteLayer& l) {
  return {{c.b.h, c.shape.hidden, c.b.token_of, nullptr, 0},
          by_expert(c),
          l.gate,
          l.up,
          c.n * c.shape.top_k,
          GemmOut::kBf16,
          c.b.hidden};
}
GemmOp routed_out(const Chunk& c, const LiteLayer& l) {
  return {{c.b.hidden, c.shape.ff, nullptr, nullptr, 0},
          by_expert(c),
          l.down,
          {},
          c.n * c.shape.top_k,
          GemmOut::kBf16,
          c.b.y};
}

void launch_shared(const Chunk& c, const LiteLayer& l) {
  gated_product(c, "shared_in", shared_in(c, l, c.b.hidden));
  product(c, "shared_out", shared_out(c, l, c.b.hidden));
}

void launch_experts(const Chunk& c, const LiteLayer& l) {
  if (c.is_short) {
    launch_gemm_few_gated(c.stream, "experts_in", shared_in(c, l, c.b.shared_hidden), routed_in(c, l), false);
    c.mark("experts_in");
    launch_gemm_few(c.stream, "experts_out", shared_out(c, l, c.b.shared_hidden), routed_out(c, l), true);
    c.mark("experts_out");
  } else {
    launch_shared(c, l);
    gated_product(c, "experts_in", routed_in(c, l));
    product(c, "experts_out", routed_out(c, l));
  }
  launch_add_experts(c);
}

void launch_projections(const Chunk& c, const LiteLayer& l, bool wants_queries) {
  const GemmOp q = product_of(c, c.b.h, l.q, GemmOut::kFloat, c.b.q),
               kv = product_of(c, c.b.h, l.kv_a, GemmOut::kFloat, c.b.kv_a);
  if (wants_queries && c.is_short) {
    launch_gemm_few(c.stream, "project_in", q, kv, false);
    return c.mark("project_in");
  }
  if (wants_queries) product(c, "project_q", q);
  product(c, "project_kv", kv);
}

/* Whose residual behind a layer is needed: behind the last layer, that of the run's last token. */
enum class Needed { kAll, kLastRow, kNone };

/* The chunk's last token alone, where tokens do not meet. */
Chunk last_row(const Chunk& c, ChunkBuffers& b) {
  const size_t row = static_cast<size_t>(c.n - 1);
  b = c.b;
  b.x += row * static_cast<size_t>(c.shape.hidden);
  b.heads += row * kHeads * kValue;
  return {c.stream, c.shape, c.cache, b, c.first + c.n - 1, 1, c.is_short, c.absorbs, c.listener};
}

void launch_feed_forward(const Chunk& c, const LiteLayer& l) {
  if (l.router == nullptr) {
    launch_norm(c, l.ffn_norm);
    return launch_shared(c, l);
  }
  launch_route(c, l);
  launch_experts(c, l);
}

void launch_layer(const Chunk& c, const LiteLayer& l, int32_t index, int32_t segment, Needed needed) {
  launch_norm(c, l.attn_norm);
  launch_projections(c, l, needed != Needed::kNone || selects(c, index));
  launch_store(c, l, index);
  if (needed == Needed::kNone) {
    if (selects(c, index)) launch_select_tiles(c, l, index);
    return;
  }
  if (c.absorbs) {
    launch_absorbed_attention(c, l, index);
  } else {
    launch_attention(c, l, index, segment);
  }
  ChunkBuffers b{};
  const Chunk rest = needed == Needed::kAll ? c : last_row(c, b);
  product(rest, "project_out", product_of(rest, rest.b.heads, l.out, GemmOut::kAddFloat, rest.b.x));
  launch_feed_forward(rest, l);
}

}  // namespace

LitePrefill::LitePrefill(Device& d, LiteDecoder& decoder, int32_t longest, int32_t segment)
    : device_(d), decoder_(decoder), longest_(longest), segment_(segment), state_(std::make_unique<State>()) {
  const LiteShape& s = decoder.shape;
  EK_REQUIRE(longest > 0 && segment > 0 && segment % 64 == 0,
             "a chunk has at least one token and a segment a multiple of 64, got %d and %d", longest,
             segment);
  EK_REQUIRE(s.dense_len % kTileQueries == 0,
             "attention becomes sparse at a multiple of %d tokens, not at %d", kTileQueries, s.dense_len);
  State& st = *state_;
  ChunkBuffers& b = st.b;
  const size_t n = static_cast<size_t>(longest), hidden = static_cast<size_t>(s.hidden);
  const size_t pairs = n * static_cast<size_t>(s.top_k), experts = static_cast<size_t>(s.n_experts);
  const size_t cached = static_cast<size_t>(std::min(segment, s.n_blocks * 64));
  b.tokens = st.take<int32_t>(n);
  b.x = st.take<float>(n * hidden);
  b.h = st.take<__nv_bfloat16>(n * hidden);
  b.q = st.take<float>(n * kHeads * (kNope + kRope));
  b.kv_a = st.take<float>(n * kRow);
  b.query = st.take<__nv_bfloat16>(n * kHeads * (kNope + kRope));
  const size_t query_tiles = static_cast<size_t>(most_query_tiles(longest)),
               scores = query_tiles * static_cast<size_t>(score_groups(s)) * kHeads,
               blocks = static_cast<size_t>(s.n_blocks);
  b.tile_query = st.take<__nv_bfloat16>(query_tiles * kHeads * kRow);
  b.tile_row = st.take<__nv_bfloat16>(query_tiles * kRow);
  b.tile_scores = {st.take<float>(scores), st.take<float>(scores), st.take<float>(scores * (kScoreRows / 4)),
                   score_groups(s)};
  b.block_slot = st.take<int32_t>(blocks);
  b.slot_blocks = st.take<int32_t>(blocks);
  b.n_slots = st.take<int32_t>(1);
  if (s.rows == RowFormat::kFp8) b.latents = st.take<__nv_bfloat16>(cached * kLatent);
  b.keys = st.take<__nv_bfloat16>(cached * kHeads * kNope);
  b.values = st.take<__nv_bfloat16>(cached * kHeads * kValue);
  b.sums = st.take<float>(n * kHeads * kValue);
  b.tops = st.take<float>(n * kHeads);
  b.totals = st.take<float>(n * kHeads * 4);
  b.heads = st.take<__nv_bfloat16>(n * kHeads * kValue);
  if (st.can_absorb) {
    const size_t rows = std::min<size_t>(n, kMostShort) * kHeads;
    b.absorbed = st.take<__nv_bfloat16>(rows * kLatent);
    b.part = st.take<float>(rows * kAbsorbedSplits * kLatent);
    b.part_top = st.take<float>(rows * kAbsorbedSplits);
    b.part_sum = st.take<float>(rows * kAbsorbedSplits);
  }
  b.logits = st.take<float>(std::min<size_t>(n, kMostShort) * experts);
  b.experts = st.take<int32_t>(pairs);
  b.weights = st.take<float>(pairs);
  b.counts = st.take<int32_t>(experts);
  b.offsets = st.take<int32_t>(experts);
  b.token_of = st.take<int32_t>(pairs);
  b.slot_of = st.take<int32_t>(pairs);
  const size_t tiles = static_cast<size_t>(
      std::max(most_tiles(s, longest, kGemmRows), most_tiles(s, std::min(longest, kMostShort), kFewHeld)));
  b.tile_expert = st.take<int32_t>(tiles);
  b.tile_first = st.take<int32_t>(tiles);
  b.tile_end = st.take<int32_t>(tiles);
  b.n_tiles = st.take<int32_t>(1);
  const size_t routed = static_cast<size_t>(s.top_k) * static_cast<size_t>(s.ff);
  b.hidden = st.take<__nv_bfloat16>(
      n * std::max({routed, static_cast<size_t>(s.shared_ff), static_cast<size_t>(s.dense_ff)}));
  b.shared_hidden =
      st.take<__nv_bfloat16>(std::min<size_t>(n, kMostShort) * static_cast<size_t>(s.shared_ff));
  b.y = st.take<__nv_bfloat16>(pairs * hidden);
}

LitePrefill::~LitePrefill() = default;

void LitePrefill::run_marked(int32_t first, const std::vector<int32_t>& tokens, bool wants_logits,
                             LaunchListener* listener) {
  require_alive();
  const LiteShape& s = decoder_.shape;
  const int32_t n = static_cast<int32_t>(tokens.size());
  EK_REQUIRE(n > 0 && first >= 0 && first + n <= s.n_blocks * 64,
             "%d tokens from position %d do not fit into a cache of %d", n, first, s.n_blocks * 64);
  for (int32_t token : tokens)
    EK_REQUIRE(token >= 0 && token < s.vocab, "token %d is outside the vocabulary of %d", token, s.vocab);
  int32_t length = 0;
  for (int32_t at = 0; at < n; at += length) {
    length = std::min(longest_, n - at);
    const Chunk c{device_.stream, s,       decoder_.buffers(), state_->b, first + at, length, n <= kMostShort,
                  absorbs(n),     listener};
    check(cudaMemcpyAsync(state_->b.tokens, tokens.data() + at, static_cast<size_t>(length) * 4,
                          cudaMemcpyHostToDevice, device_.stream),
          "uploading tokens");
    launch_embed(c, decoder_.weights.embedding);
    const Needed behind = at + length == n ? Needed::kLastRow : Needed::kNone;
    for (int32_t i = 0; i < s.n_layers; i++)
      launch_layer(c, decoder_.weights.layers[static_cast<size_t>(i)], i, segment_,
                   i + 1 == s.n_layers ? behind : Needed::kAll);
  }
  if (!wants_logits) return;
  const size_t last = static_cast<size_t>(length - 1) * static_cast<size_t>(s.hidden);
  decoder_.choose_after(state_->b.x + last, first + n - 1);
}

void LitePrefill::run(int32_t first, const std::vector<int32_t>& tokens, bool wants_logits) {
  run_marked(first, tokens, wants_logits, nullptr);
}

void LitePrefill::time_kernels(int32_t first, const std::vector<int32_t>& tokens) {
  KernelTimes times(device_);
  run_marked(first, tokens, true, &times);
  times.print();
}

bool LitePrefill::absorbs(int32_t n) const { return state_->can_absorb && n <= kMostShort; }

size_t LitePrefill::n_bytes() const {
  size_t sum = 0;
  for (const DeviceMemory& m : state_->memory) sum += m.n_bytes();
  return sum;
}

namespace {

struct ChunkPairs {
  double pairs;    /* of a token and a row that it sees */
  double expanded; /* rows, at least */
};

/* Of positions [begin, end) in one layer. */
ChunkPairs count_pairs(const LiteShape& s, int32_t begin, int32_t end, bool lists) {
  const double dense_end = lists ? std::clamp(s.dense_len, begin, end) : end;
  ChunkPairs out{(dense_end - begin) * (begin + dense_end + 1) / 2, static_cast<double>(end)};
  if (dense_end == end) return out;
  for (int32_t t = static_cast<int32_t>(dense_end); t < end; t++) {
    const int32_t tile = t / kTileQueries * kTileQueries;
    out.pairs += 64.0 * (std::min(s.most_listed(), tile / 64 + 1) - 1) + t % kTileQueries + 1;
  }
  const double past = begin < s.dense_len ? dense_end : 0, listed = 64.0 * s.most_listed();
  out.expanded = std::min<double>(end, std::max(past, listed) + end - dense_end);
  return out;
}

}  // namespace

double LitePrefill::operations(int32_t first, int32_t n) const {
  const LiteShape& s = decoder_.shape;
  const double hidden = s.hidden, into = hidden * (kHeads * (kNope + kRope) + kRow),
               out = kHeads * kValue * hidden;
  const double dense_ff = 3 * hidden * s.dense_ff,
               experts = hidden * (3.0 * (s.top_k * s.ff + s.shared_ff) + s.n_experts);
  const double last_layer =
      out + (s.n_layers > s.n_dense ? experts : dense_ff); /* for the last token alone */
  double sum = n * (s.n_layers * (into + out) + s.n_dense * dense_ff + (s.n_layers - s.n_dense) * experts) -
               (n - 1.0) * last_layer;
  for (int32_t at = 0; at < n; at += longest_) {
    const int32_t begin = first + at, end = begin + std::min(longest_, n - at);
    const ChunkPairs dense = count_pairs(s, begin, end, false), lists = count_pairs(s, begin, end, true);
    const int32_t layers = at + longest_ < n ? s.n_layers - 1 : s.n_layers;
    const double n_dense = std::min(layers, s.dense_layers), n_lists = layers - n_dense;
    const double pairs = n_dense * dense.pairs + n_lists * lists.pairs;
    double to_heads = n_dense * dense.expanded + n_lists * lists.expanded; /* rows that meet W_UK and W_UV */
    if (absorbs(n)) to_heads = static_cast<double>(end - begin) * layers;
    sum += kHeads * kLatent * (kNope + kValue) * to_heads;
    sum += kHeads * (absorbs(n) ? kRow + kLatent : kNope + kRope + kValue) * pairs;
  }
  return 2 * sum;
}

}  // namespace ek::cuda
