#include <algorithm>

#include "../device/kernel_times.h"
#include "kernels.h"
#include "prefill.h"

namespace ek::cuda {

struct LitePrefill::State {
  std::vector<DeviceMemory> memory;
  ChunkBuffers b{};

  template <class T>
  T* take(size_t n) {
    memory.emplace_back(n * sizeof(T));
    return memory.back().as<T>();
  }
};

namespace {

/* out = h times w, of all rows of the chunk. */
void multiply(const Chunk& c, const char* name, const __nv_bfloat16* a, const WeightView& w, GemmOut kind,
              void* out) {
  launch_gemm(c.stream, name,
              {{a, w.n_cols, nullptr, nullptr, 0}, {}, w, {}, c.n, ceil_div(c.n, kGemmRows), kind, out});
  c.mark(name);
}

/* x += down (silu(gate h) * up h) of the experts that every token meets. */
void launch_shared(const Chunk& c, const LiteLayer& l) {
  const int32_t tiles = ceil_div(c.n, kGemmRows);
  launch_gemm_gated(c.stream, "shared_in",
                    {{c.b.h, c.shape.hidden, nullptr, nullptr, 0},
                     {},
                     l.shared_gate,
                     l.shared_up,
                     c.n,
                     tiles,
                     GemmOut::kBf16,
                     c.b.hidden});
  c.mark("shared_in");
  multiply(c, "shared_out", c.b.hidden, l.shared_down, GemmOut::kAddFloat, c.b.x);
}

/* The same of the chosen experts, on the pairs sorted by expert. */
void launch_routed(const Chunk& c, const LiteLayer& l) {
  const int32_t n_pairs = c.n * c.shape.top_k, tiles = most_tiles(c.shape, c.n);
  const GemmTiles by_expert{c.b.tile_expert, c.b.tile_first, c.b.tile_end, c.b.n_tiles};
  launch_gemm_gated(c.stream, "experts_in",
                    {{c.b.h, c.shape.hidden, c.b.token_of, nullptr, 0},
                     by_expert,
                     l.gate,
                     l.up,
                     n_pairs,
                     tiles,
                     GemmOut::kBf16,
                     c.b.hidden});
  c.mark("experts_in");
  launch_gemm(c.stream, "experts_out",
              {{c.b.hidden, c.shape.ff, nullptr, nullptr, 0},
               by_expert,
               l.down,
               {},
               n_pairs,
               tiles,
               GemmOut::kFloat,
               c.b.y});
  c.mark("experts_out");
  launch_add_experts(c);
}

void launch_layer(const Chunk& c, const LiteLayer& l, int32_t index, int32_t segment) {
  launch_norm(c, l.attn_norm);
  multiply(c, "project_q", c.b.h, l.q, GemmOut::kFloat, c.b.q);
  multiply(c, "project_kv", c.b.h, l.kv_a, GemmOut::kFloat, c.b.kv_a);
  launch_store(c, l, index);
  launch_attention(c, l, index, segment);
  multiply(c, "project_out", c.b.heads, l.out, GemmOut::kAddFloat, c.b.x);
  if (l.router == nullptr) {
    launch_norm(c, l.ffn_norm);
    return launch_shared(c, l);
  }
  launch_route(c, l);
  launch_shared(c, l);
  launch_routed(c, l);
}

}  // namespace

LitePrefill::LitePrefill(Device& d, LiteDecoder& decoder, int32_t longest, int32_t segment)
    : device_(d), decoder_(decoder), longest_(longest), segment_(segment), state_(std::make_unique<State>()) {
  const LiteShape& s = decoder.shape;
  EK_REQUIRE(longest > 0 && segment > 0 && segment % 64 == 0,
             "a chunk has at least one token and a segment a multiple of 64, got %d and %d", longest,
             segment);
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
  b.keys = st.take<__nv_bfloat16>(cached * kHeads * kNope);
  b.values = st.take<__nv_bfloat16>(cached * kHeads * kValue);
  b.sums = st.take<float>(n * kHeads * kValue);
  b.tops = st.take<float>(n * kHeads);
  b.totals = st.take<float>(n * kHeads);
  b.heads = st.take<__nv_bfloat16>(n * kHeads * kValue);
  b.experts = st.take<int32_t>(pairs);
  b.weights = st.take<float>(pairs);
  b.counts = st.take<int32_t>(experts);
  b.offsets = st.take<int32_t>(experts);
  b.token_of = st.take<int32_t>(pairs);
  b.slot_of = st.take<int32_t>(pairs);
  const size_t tiles = static_cast<size_t>(most_tiles(s, longest));
  b.tile_expert = st.take<int32_t>(tiles);
  b.tile_first = st.take<int32_t>(tiles);
  b.tile_end = st.take<int32_t>(tiles);
  b.n_tiles = st.take<int32_t>(1);
  const size_t routed = static_cast<size_t>(s.top_k) * static_cast<size_t>(s.ff);
  b.hidden = st.take<__nv_bfloat16>(
      n * std::max({routed, static_cast<size_t>(s.shared_ff), static_cast<size_t>(s.dense_ff)}));
  b.y = st.take<float>(pairs * hidden);
}

LitePrefill::~LitePrefill() = default;

void LitePrefill::run_marked(int32_t first, const std::vector<int32_t>& tokens, bool wants_logits,
                             const std::function<void(const char*)>& after) {
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
    const Chunk c{device_.stream, s, decoder_.buffers(), state_->b, first + at, length, after};
    check(cudaMemcpyAsync(state_->b.tokens, tokens.data() + at, static_cast<size_t>(length) * 4,
                          cudaMemcpyHostToDevice, device_.stream),
          "uploading tokens");
    launch_embed(c, decoder_.weights.embedding);
    for (int32_t i = 0; i < s.n_layers; i++)
      launch_layer(c, decoder_.weights.layers[static_cast<size_t>(i)], i, segment_);
  }
  if (!wants_logits) return;
  const size_t last = static_cast<size_t>(length - 1) * static_cast<size_t>(s.hidden);
  decoder_.choose_after(state_->b.x + last, first + n - 1);
}

void LitePrefill::run(int32_t first, const std::vector<int32_t>& tokens, bool wants_logits) {
  run_marked(first, tokens, wants_logits, {});
}

void LitePrefill::time_kernels(int32_t first, const std::vector<int32_t>& tokens) {
  KernelTimes times(device_);
  run_marked(first, tokens, true, [&](const char* name) { times.mark(name); });
  times.print();
}

size_t LitePrefill::n_bytes() const {
  size_t sum = 0;
  for (const DeviceMemory& m : state_->memory) sum += m.n_bytes();
  return sum;
}

double LitePrefill::operations(int32_t first, int32_t n) const {
  const LiteShape& s = decoder_.shape;
  const double hidden = s.hidden,
               attention = hidden * (kHeads * (kNope + kRope) + kRow) + kHeads * kValue * hidden;
  const double sparse = s.n_layers - s.n_dense;
  double sum = n * (s.n_layers * attention + s.n_dense * 3 * hidden * s.dense_ff +
                    sparse * hidden * (3.0 * (s.top_k * s.ff + s.shared_ff) + s.n_experts));
  for (int32_t at = 0; at < n; at += longest_) {
    const double length = std::min(longest_, n - at), end = first + at + length;
    sum += s.n_layers * kHeads * end * kLatent * (kNope + kValue);
    sum += s.n_layers * kHeads * (kNope + kRope + kValue) * length * (end - length / 2);
  }
  return 2 * sum;
}

}  // namespace ek::cuda
