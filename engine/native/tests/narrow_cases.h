/* Small random models of tidepool-mini's kind: fused, behind ek_model, and computed op by op on any device
 * through the C ABI, with which the fused one is compared. */
#ifndef EK_TESTS_NARROW_CASES_H
#define EK_TESTS_NARROW_CASES_H
#include <algorithm>

#include "model_step.h"

namespace ek::test {

struct NarrowShape {
  int32_t layers, dense, hidden, vocab, heads, dense_ff, experts, top_k, ff, shared_ff;
  int32_t select_n, window, init_blocks, local_blocks, blocks;
  ek_type type;
};
constexpr int32_t kNarrowNope = 32, kNarrowRope = 32, kNarrowValue = 64, kNarrowLatent = 128;

/* Sparse from 5 blocks on; the window begins inside of a block. */
constexpr NarrowShape kNarrowSmall{2, 1, 128, 100, 2, 128, 5, 2, 128, 128, 4, 100, 1, 2, 20, EK_Q4_0};

inline ek_model_params narrow_params(const NarrowShape& s, const std::vector<float>& inv_freq) {
  ek_model_params p{};
  p.n_layers = s.layers;
  p.n_dense = s.dense;
  p.hidden = s.hidden;
  p.vocab = s.vocab;
  p.n_heads = s.heads;
  p.nope_dim = kNarrowNope;
  p.rope_dim = kNarrowRope;
  p.v_dim = kNarrowValue;
  p.latent_dim = kNarrowLatent;
  p.dense_ff = s.dense_ff;
  p.n_experts = s.experts;
  p.top_k = s.top_k;
  p.ff = s.ff;
  p.shared_ff = s.shared_ff;
  p.score_func = 2;
  p.n_groups = p.top_groups = p.normalize = 1;
  p.scale = 1;
  p.eps = 1e-6f;
  p.softmax_scale = 0.2f;
  p.inv_freq = inv_freq.data();
  p.n_blocks = s.blocks;
  p.chunk = 64;
  p.sparse = {32, 16, s.select_n, s.window, s.init_blocks, s.local_blocks};
  return p;
}

/* The weights of a shape, from seeds: the same on every device. */
class NarrowWeights {
 public:
  NarrowWeights(Device& d, const NarrowShape& s) : device_(d), shape_(s) {
    for (int i = 0; i < kNarrowRope / 2; i++)
      inv_freq.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(i) / kNarrowRope));
    embedding = d.weight(s.type, 1, s.vocab, s.hidden, seed_++, 1.0f);
    head = d.weight(s.type, 1, s.vocab, s.hidden, seed_++, 0.3f);
    norm = norm_of(s.hidden);
    for (int32_t i = 0; i < s.layers; i++) layers.push_back(layer(i < s.dense));
  }

  std::vector<float> inv_freq;
  const ek_weight *embedding, *head;
  const ek_buffer* norm;
  std::vector<ek_model_layer> layers;

 private:
  const ek_weight* matrix(int rows, int cols, int n = 1) {
    return device_.weight(shape_.type, n, rows, cols, seed_++, 1.5f / std::sqrt(static_cast<float>(cols)));
  }
  const ek_weight* floats(int rows, int cols) {
    return device_.weight(EK_F32, 1, rows, cols, seed_++, 2 / std::sqrt(static_cast<float>(cols)));
  }
  const ek_buffer* norm_of(int n) {
    std::vector<float> values = random_floats(static_cast<size_t>(n), seed_++, 0.1f);
    for (float& v : values) v += 1;
    return device_.put(values);
  }
  const ek_buffer* vector(int n, float scale) {
    return device_.put(random_floats(static_cast<size_t>(n), seed_++, scale));
  }
  ek_model_layer layer(bool dense) {
    const NarrowShape& s = shape_;
    const int shared = dense ? s.dense_ff : s.shared_ff, row = kNarrowLatent + kNarrowRope;
    ek_model_layer l{};
    l.attn_norm = norm_of(s.hidden);
    l.kv_norm = norm_of(kNarrowLatent);
    l.ffn_norm = norm_of(s.hidden);
    l.q = matrix(s.heads * (kNarrowNope + kNarrowRope), s.hidden);
    l.kv_a = matrix(row, s.hidden);
    l.kv_b = matrix(s.heads * (kNarrowNope + kNarrowValue), kNarrowLatent);
    l.out = matrix(s.hidden, s.heads * kNarrowValue);
    l.attn_gate = floats(s.heads * 3, s.hidden);
    l.attn_gate_bias = vector(s.heads * 3, 1);
    l.cmp_k = vector(32 * row, 0.2f);
    l.cmp_v = vector(32 * kNarrowLatent, 0.2f);
    l.shared_gate = matrix(shared, s.hidden);
    l.shared_up = matrix(shared, s.hidden);
    l.shared_down = matrix(s.hidden, shared);
    if (dense) return l;
    l.router = floats(s.experts, s.hidden);
    l.router_bias = vector(s.experts, 0.1f);
    l.gate = matrix(s.ff, s.hidden, s.experts);
    l.up = matrix(s.ff, s.hidden, s.experts);
    l.down = matrix(s.hidden, s.ff, s.experts);
    return l;
  }

  Device& device_;
  const NarrowShape shape_;
  uint32_t seed_ = 1;
};

/* The model op by op, in steps of up to most_tokens. threads: 0 for all cores. */
class NarrowOps {
 public:
  NarrowOps(ek_device device, const NarrowShape& s) : NarrowOps(device, s, 1, s.blocks * EK_KV_BLOCK) {}
  NarrowOps(ek_device device, const NarrowShape& s, int threads, int32_t most_tokens)
      : d_(device, nullptr, threads), s_(s), w_(d_, s) {
    const ek_kv_params kv{s.layers, kNarrowLatent, kNarrowRope, s.blocks, 32, 16, EK_F16};
    must(ek_kv_create(d_.ctx, &kv, &kv_));
    must(ek_rope_create(d_.ctx, w_.inv_freq.data(), kNarrowRope, &rope_));
    must(ek_batch_create(d_.ctx, &batch_));
    const auto rows = [&](int32_t width) {
      return d_.put(std::vector<float>(static_cast<size_t>(most_tokens) * width));
    };
    x_ = rows(s.hidden);
    normed_ = rows(s.hidden);
    q_ = rows(s.heads * (kNarrowNope + kNarrowRope));
    kv_a_ = rows(kNarrowLatent + kNarrowRope);
    gates_ = rows(s.heads * 3);
    heads_ = rows(s.heads * kNarrowValue);
    logits_ = rows(s.vocab);
  }
  ~NarrowOps() {
    ek_kv_destroy(kv_);
    ek_rope_destroy(rope_);
    ek_batch_destroy(batch_);
  }
  NarrowOps(const NarrowOps&) = delete;
  NarrowOps& operator=(const NarrowOps&) = delete;

  /* Logits (tokens, vocab) behind every token of the part. */
  std::vector<float> step(const ModelPart& part) {
    read(part);
    return logits(0, static_cast<int32_t>(part.tokens.size()));
  }
  /* Reads the part, and computes no logits. */
  void read(const ModelPart& part) {
    const int32_t n = static_cast<int32_t>(part.tokens.size()),
                  n_blocks = static_cast<int32_t>(part.blocks.size());
    must(ek_batch_set(d_.ctx, batch_, rope_, 1, &part.start, &n, &n_blocks, part.blocks.data()));
    must(ek_embed(d_.ctx, x_, w_.embedding, part.tokens.data(), n));
    for (int32_t i = 0; i < s_.layers; i++) {
      attention(w_.layers[static_cast<size_t>(i)], i, n);
      feed_forward(w_.layers[static_cast<size_t>(i)], n);
    }
    must(ek_rmsnorm(d_.ctx, normed_, x_, w_.norm, n, s_.hidden, 1e-6f));
  }
  /* Logits (n, vocab) behind tokens [first, first + n) of the part that was read last. */
  std::vector<float> logits(int32_t first, int32_t n) {
    must(ek_linear(d_.ctx, logits_, normed_, first, w_.head, nullptr, n, 0));
    return d_.read(logits_, static_cast<size_t>(n) * s_.vocab);
  }

 private:
  void attention(const ek_model_layer& l, int32_t index, int32_t n) {
    must(ek_rmsnorm(d_.ctx, normed_, x_, l.attn_norm, n, s_.hidden, 1e-6f));
    must(ek_linear(d_.ctx, kv_a_, normed_, 0, l.kv_a, nullptr, n, 0));
    must(ek_mla_store(d_.ctx, kv_, index, batch_, kv_a_, l.kv_norm, l.cmp_k, l.cmp_v, 1e-6f));
    must(ek_linear(d_.ctx, q_, normed_, 0, l.q, nullptr, n, 0));
    must(ek_linear(d_.ctx, gates_, normed_, 0, l.attn_gate, l.attn_gate_bias, n, 0));
    const ek_nsa_params nsa{s_.heads,    kNarrowNope, kNarrowValue,   0.2f,           EK_KV_BLOCK,
                            s_.select_n, s_.window,   s_.init_blocks, s_.local_blocks};
    must(ek_nsa_attention(d_.ctx, heads_, q_, gates_, kv_, index, batch_, l.kv_b, &nsa));
    must(ek_linear(d_.ctx, x_, heads_, 0, l.out, nullptr, n, 1));
  }
  void feed_forward(const ek_model_layer& l, int32_t n) {
    must(ek_rmsnorm(d_.ctx, normed_, x_, l.ffn_norm, n, s_.hidden, 1e-6f));
    if (l.router == nullptr) {
      must(ek_ffn_swiglu(d_.ctx, x_, normed_, l.shared_gate, l.shared_up, l.shared_down, n));
      return;
    }
    const ek_moe_params moe{l.router,    l.router_bias, l.gate,   l.up, l.down, l.shared_gate,
                            l.shared_up, l.shared_down, s_.top_k, 2,    1,      1,
                            1,           1.0f};
    must(ek_moe(d_.ctx, x_, normed_, &moe, n));
  }

  Device d_;
  const NarrowShape s_;
  NarrowWeights w_;
  ek_kv_cache* kv_ = nullptr;
  ek_rope* rope_ = nullptr;
  ek_batch* batch_ = nullptr;
  ek_buffer *x_, *normed_, *q_, *kv_a_, *gates_, *heads_, *logits_;
};

/* The model behind ek_model. */
class NarrowFused {
 public:
  /* chunk: tokens that are read at once. */
  explicit NarrowFused(const NarrowShape& s, int32_t chunk = 64) : d_(EK_CUDA, nullptr, 0), s_(s), w_(d_, s) {
    must(ek_buffer_alloc(d_.ctx, size_t{8} * s.vocab * 4, &logits_));
    ek_model_params params = narrow_params(s, w_.inv_freq);
    params.chunk = chunk;
    const ek_model_weights weights{w_.embedding, w_.head, w_.norm, w_.layers.data()};
    must(ek_model_create(d_.ctx, &params, &weights, &model_));
  }
  ~NarrowFused() {
    ek_model_destroy(model_);
    ek_buffer_free(logits_);
  }
  NarrowFused(const NarrowFused&) = delete;
  NarrowFused& operator=(const NarrowFused&) = delete;

  ek_status try_step(const std::vector<ModelPart>& parts) {
    return step_model(d_.ctx, model_, parts, logits_, s_.vocab);
  }
  /* The wanted logits, (wanted, vocab). */
  std::vector<float> step(const std::vector<ModelPart>& parts) {
    must(try_step(parts));
    return d_.read(logits_, wanted_rows(parts) * static_cast<size_t>(s_.vocab));
  }
  void copy_block(int32_t dst, int32_t src) { must(ek_model_copy_block(d_.ctx, model_, dst, src)); }
  /* Random rows wherever the cache has room. */
  void fill_cache(uint32_t seed) { must(ek_model_fill_cache(d_.ctx, model_, s_.blocks * EK_KV_BLOCK, seed)); }
  ek_context* context() const { return d_.ctx; }
  const ek_model& model() const { return *model_; }

 private:
  Device d_;
  const NarrowShape s_;
  NarrowWeights w_;
  ek_buffer* logits_ = nullptr;
  ek_model* model_ = nullptr;
};

}  // namespace ek::test
#endif
