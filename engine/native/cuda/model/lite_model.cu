#include <algorithm>

#include "../prefill/kernels.h"
#include "../prefill/prefill.h"
#include "../weights/weight.h"
#include "lite_model.h"

namespace ek::cuda {

namespace {

void check_kind(const ek_model_params& p) {
  EK_REQUIRE(
      p.n_heads == kHeads && p.nope_dim == kNope && p.rope_dim == kRope && p.v_dim == kValue &&
          p.latent_dim == kLatent,
      "the fused kernels take %d heads of %d + %d, values of %d and latents of %d, got %d heads of %d + "
      "%d, %d and %d",
      kHeads, kNope, kRope, kValue, kLatent, p.n_heads, p.nope_dim, p.rope_dim, p.v_dim, p.latent_dim);
  EK_REQUIRE(
      p.score_func == 1 && (p.n_groups == 1 || p.top_groups == p.n_groups) && p.normalize == 0 &&
          p.scale == 1.0f,
      "the fused kernels route by softmax over all experts, weights as they are, got function %d, %d of "
      "%d groups, normalised %d, scale %g",
      p.score_func, p.top_groups, p.n_groups, p.normalize, static_cast<double>(p.scale));
}

double matrix_bytes(const WeightView& w, int32_t n_matrices) {
  return plain_bytes(w.type, w.n_rows, w.n_cols) * n_matrices;
}

/* Bytes of a step's weights when n_experts of each layer are met. */
double weight_bytes(const LiteShape& s, const LiteWeights& w, int32_t n_experts) {
  double sum = matrix_bytes(w.head, 1);
  for (const LiteLayer& l : w.layers) {
    for (const WeightView* m : {&l.q, &l.kv_a, &l.out, &l.shared_gate, &l.shared_up, &l.shared_down})
      sum += matrix_bytes(*m, 1);
    sum += matrix_bytes(l.k_b, kHeads) + matrix_bytes(l.v_b, kHeads);
    if (l.router == nullptr) continue;
    sum += 4.0 * s.n_experts * s.hidden;
    for (const WeightView* m : {&l.gate, &l.up, &l.down}) sum += matrix_bytes(*m, n_experts);
  }
  return sum;
}

const float* floats_of(const ek_buffer* buffer) { return static_cast<const float*>(buffer->data); }

LiteLayer layer_of(const ek_model_layer& from, bool dense) {
  LiteLayer l{};
  l.attn_norm = floats_of(from.attn_norm);
  l.kv_norm = floats_of(from.kv_norm);
  l.ffn_norm = floats_of(from.ffn_norm);
  l.q = weight_view(*from.q);
  l.kv_a = weight_view(*from.kv_a);
  l.k_b = weight_view(*from.k_b);
  l.v_b = weight_view(*from.v_b);
  l.out = weight_view(*from.out);
  l.shared_gate = weight_view(*from.shared_gate);
  l.shared_up = weight_view(*from.shared_up);
  l.shared_down = weight_view(*from.shared_down);
  if (dense) return l;
  const WeightView& router = weight_view(*from.router);
  EK_REQUIRE(router.type == EK_F32, "the fused kernels take a router of F32, got type %d",
             static_cast<int>(router.type));
  l.router = reinterpret_cast<const float*>(router.data);
  l.gate = weight_view(*from.gate);
  l.up = weight_view(*from.up);
  l.down = weight_view(*from.down);
  return l;
}

}  // namespace

LiteShape shape_of(const ek_model_params& p) {
  check_kind(p);
  LiteShape s = lite_shape(p.n_blocks * EK_KV_BLOCK);
  s.n_layers = p.n_layers;
  s.n_dense = p.n_dense;
  s.hidden = p.hidden;
  s.dense_ff = p.dense_ff;
  s.n_experts = p.n_experts;
  s.top_k = p.top_k;
  s.ff = p.ff;
  s.shared_ff = p.shared_ff;
  s.vocab = p.vocab;
  s.eps = p.eps;
  s.softmax_scale = p.softmax_scale;
  s.rows = p.fp8_cache != 0 ? RowFormat::kFp8 : RowFormat::kBf16;
  check_lite_shape(s);
  return s;
}

/* test/e2e/cudaModel.test.ts checks that no more than this is allocated. */
ek_model_memory memory_of(const LiteShape& s, int32_t chunk) {
  const size_t n = static_cast<size_t>(chunk), hidden = static_cast<size_t>(s.hidden);
  const size_t top_k = static_cast<size_t>(s.top_k), blocks = static_cast<size_t>(s.n_blocks);
  const size_t heads = kHeads, query = heads * (kNope + kRope), value = heads * kValue;
  const size_t routed = top_k * static_cast<size_t>(s.ff);
  const size_t widest = std::max({routed, static_cast<size_t>(s.shared_ff), static_cast<size_t>(s.dense_ff)});
  const size_t per_token = hidden * 6 + query * 6 + kRow * 4 + value * 6 + heads * 20 + top_k * 16 +
                           widest * 2 + top_k * hidden * 4;
  const size_t latents = s.rows == RowFormat::kFp8 ? kLatent * 2 : 0;
  const size_t segment = std::min<size_t>(8192, blocks * 64) * (heads * (kNope + kValue) * 2 + latents);
  const size_t decode = step_bytes(s) + blocks * (64 + 16) +
                        static_cast<size_t>(s.n_layers) * static_cast<size_t>(s.n_experts) * value * 4;
  const size_t tiles = static_cast<size_t>(most_query_tiles(chunk)),
               groups = static_cast<size_t>(score_groups(s));
  const size_t selection =
      static_cast<size_t>(s.n_layers) * blocks * static_cast<size_t>(s.most_listed()) * 4 +
      tiles * (heads * (groups * (2 + kScoreRows / 4) * 4 + kRow * 2) + kRow * 2) + blocks * 8;
  const size_t short_run =
      std::min<size_t>(n, kMostShort) * heads * (kLatent * 2 + kAbsorbedSplits * (kLatent + 2) * 4);
  constexpr size_t kSmall = size_t{4} << 20; /* tables, and what allocations are rounded up by */
  const size_t block = 64 * static_cast<size_t>(cache_row_bytes(s.rows)) + 64 / kPoolStride * kRow * 2;
  return {static_cast<size_t>(s.n_layers) * blocks * block,
          n * per_token + segment + decode + selection + short_run + kSmall};
}

LiteWeights weights_of(const ek_model_params& p, const ek_model_weights& from) {
  LiteWeights w{};
  for (int32_t i = 0; i < p.n_layers; i++) w.layers.push_back(layer_of(from.layers[i], i < p.n_dense));
  w.embedding = weight_view(*from.embedding);
  w.head = weight_view(*from.head);
  w.norm = floats_of(from.norm);
  w.step_bytes = weight_bytes(shape_of(p), w, p.top_k);
  return w;
}

LiteModel::LiteModel(Device& d, const ek_model_params& p, LiteWeights weights)
    : device_(d),
      decoder_(d, shape_of(p), std::move(weights), {p.inv_freq, p.inv_freq + kRope / 2}),
      prefill_(d, decoder_, p.chunk) {}

void LiteModel::use_blocks(int32_t index, const Sequence& s) {
  std::vector<int32_t>& table = tables_[static_cast<size_t>(index)];
  const std::vector<int32_t> wanted(s.blocks, s.blocks + s.n_blocks);
  if (wanted.size() <= table.size() && std::equal(wanted.begin(), wanted.end(), table.begin())) return;
  table.clear(); /* unknown, should the upload fail */
  decoder_.set_blocks(index, wanted.data(), s.n_blocks);
  table = wanted;
}

void LiteModel::decode(Pending& pending) {
  if (pending.tokens.empty()) return;
  decoder_.step(pending.tokens);
  for (size_t i = 0; i < pending.tokens.size(); i++) {
    if (pending.logits[i] != nullptr) decoder_.copy_logits(static_cast<int32_t>(i), pending.logits[i]);
  }
  pending = {};
}

void LiteModel::begin(const ModelStep& step) {
  float* logits = step.logits;
  const auto next_row = [&] {
    float* row = logits;
    logits += decoder_.shape.vocab;
    return row;
  };
  Pending pending;
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const Sequence& s = step.sequences[i];
    const int32_t* tokens = step.tokens + s.first_row;
    const int32_t n_wanted = step.wants[i], n_read = s.n_new - n_decoded(s, n_wanted);
    if (n_read > 0) {
      decode(pending); /* prefill's table is the first token's */
      use_blocks(0, s);
      const bool wants = n_read == s.n_new && n_wanted > 0;
      prefill_.run(s.start, {tokens, tokens + n_read}, wants);
      if (wants) decoder_.copy_logits(0, next_row());
    }
    for (int32_t j = n_read; j < s.n_new; j++) {
      if (pending.tokens.size() == kMostTokens) decode(pending);
      const bool wanted = j >= s.n_new - n_wanted;
      use_blocks(static_cast<int32_t>(pending.tokens.size()), s);
      pending.tokens.push_back({tokens[j], s.start + j, j > n_read && !pending.tokens.empty(), wanted});
      pending.logits.push_back(wanted ? next_row() : nullptr);
    }
  }
  decode(pending);
}

ModelCost LiteModel::cost(const ModelStep& step) const {
  ModelCost sum{};
  bool decodes = false;
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const Sequence& s = step.sequences[i];
    const int32_t n_read = s.n_new - n_decoded(s, step.wants[i]);
    sum.flops += prefill_.operations(s.start, s.n_new);
    if (n_read > 0) sum.bytes += weight_bytes(decoder_.shape, decoder_.weights, decoder_.shape.n_experts);
    for (int32_t j = n_read; j < s.n_new; j++) sum.bytes += decoder_.cache_bytes(s.start + j);
    decodes = decodes || n_read < s.n_new;
  }
  if (decodes) sum.bytes += decoder_.weights.step_bytes; /* of one token; others may choose other experts */
  return sum;
}

}  // namespace ek::cuda
