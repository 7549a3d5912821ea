/* A whole forward pass of tidepool-mini's shape with random weights and tokens (docs/model.md). */
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>

#include "bench_device.h"

namespace ek::bench {

namespace {

constexpr int kHidden = 384, kLayers = 12, kHeads = 6, kNope = 32, kRope = 32, kValue = 64, kLatent = 128;
constexpr int kVocab = 16384, kFf = 1024, kExpertFf = 128, kExperts = 16, kChunk = 512, kBlocks = 48;
constexpr float kEps = 1e-6f;

struct Layer {
  const ek_buffer *attn_norm, *ffn_norm, *kv_norm, *cmp_k, *cmp_v, *gate_bias;
  const ek_weight *q, *kv_a, *kv_b, *gates, *output, *gate, *up, *down;
  ek_moe_params moe; /* used when gate is null */
};

class Forward {
 public:
  explicit Forward(Device& device);
  ~Forward();
  Forward(const Forward&) = delete;
  Forward& operator=(const Forward&) = delete;
  /* Computes n tokens from position `start` on, and the logits and the most likely successor of the last. */
  void step(int start, int n);

 private:
  Layer make_layer(bool dense);
  void attention(int index, int n);
  void feed_forward(const Layer& layer, int n);

  Device& d_;
  std::mt19937 random_{2};
  std::vector<Layer> layers_;
  const ek_weight* embedding_;
  const ek_buffer* output_norm_;
  ek_kv_cache* kv_ = nullptr;
  ek_rope* rope_ = nullptr;
  ek_batch* batch_ = nullptr;
  ek_buffer *x_, *normed_, *q_, *kv_a_, *gates_, *heads_, *last_, *logits_;
};

Layer Forward::make_layer(bool dense) {
  Layer l{};
  const int width = kLatent + kRope;
  l.attn_norm = d_.floats(kHidden, 1.0f);
  l.ffn_norm = d_.floats(kHidden, 1.0f);
  l.kv_norm = d_.floats(kLatent, 1.0f);
  l.cmp_k = d_.floats(32 * width, 0.05f);
  l.cmp_v = d_.floats(32 * kLatent, 0.05f);
  l.gate_bias = d_.floats(kHeads * 3, 0.1f);
  l.q = d_.weight(EK_Q4_0, 1, kHeads * (kNope + kRope), kHidden);
  l.kv_a = d_.weight(EK_Q4_0, 1, width, kHidden);
  l.kv_b = d_.weight(EK_Q4_0, 1, kHeads * (kNope + kValue), kLatent);
  l.gates = d_.weight(EK_F32, 1, kHeads * 3, kHidden);
  l.output = d_.weight(EK_Q4_0, 1, kHidden, kHeads * kValue);
  if (dense) {
    l.gate = d_.weight(EK_Q4_0, 1, kFf, kHidden);
    l.up = d_.weight(EK_Q4_0, 1, kFf, kHidden);
    l.down = d_.weight(EK_Q4_0, 1, kHidden, kFf);
    return l;
  }
  const auto up = [&](int n) { return d_.weight(EK_Q4_0, n, kExpertFf, kHidden); };
  const auto down = [&](int n) { return d_.weight(EK_Q4_0, n, kHidden, kExpertFf); };
  l.moe = {d_.weight(EK_F32, 1, kExperts, kHidden),
           d_.floats(kExperts, 0.01f),
           up(kExperts),
           up(kExperts),
           down(kExperts),
           up(1),
           up(1),
           down(1),
           3,
           2,
           1,
           1,
           1,
           1.0f};
  return l;
}

Forward::Forward(Device& device) : d_(device) {
  for (int i = 0; i < kLayers; i++) layers_.push_back(make_layer(i == 0));
  embedding_ = d_.weight(EK_Q4_0, 1, kVocab, kHidden);
  output_norm_ = d_.floats(kHidden, 1.0f);
  const ek_kv_params params{kLayers, kLatent, kRope, kBlocks, 32, 16, EK_F16};
  must(ek_kv_create(d_.ctx(), &params, &kv_));
  float inv_freq[kRope / 2];
  for (int i = 0; i < kRope / 2; i++) inv_freq[i] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / kRope);
  must(ek_rope_create(d_.ctx(), inv_freq, kRope, &rope_));
  must(ek_batch_create(d_.ctx(), &batch_));
  x_ = d_.floats(kChunk * kHidden, 1.0f);
  normed_ = d_.floats(kChunk * kHidden, 1.0f);
  q_ = d_.floats(kChunk * kHeads * (kNope + kRope), 1.0f);
  kv_a_ = d_.floats(kChunk * (kLatent + kRope), 1.0f);
  gates_ = d_.floats(kChunk * kHeads * 3, 1.0f);
  heads_ = d_.floats(kChunk * kHeads * kValue, 1.0f);
  last_ = d_.floats(kHidden, 1.0f);
  logits_ = d_.floats(kVocab, 1.0f);
}

Forward::~Forward() {
  ek_batch_destroy(batch_);
  ek_rope_destroy(rope_);
  ek_kv_destroy(kv_);
}

void Forward::attention(int index, int n) {
  ek_context* ctx = d_.ctx();
  const Layer& l = layers_[index];
  const ek_nsa_params nsa{kHeads, kNope, kValue, 0.125f, 64, 16, 512, 1, 2};
  must(ek_rmsnorm(ctx, normed_, x_, l.attn_norm, n, kHidden, kEps));
  must(ek_linear(ctx, q_, normed_, 0, l.q, nullptr, n, 0));
  must(ek_linear(ctx, kv_a_, normed_, 0, l.kv_a, nullptr, n, 0));
  must(ek_linear(ctx, gates_, normed_, 0, l.gates, l.gate_bias, n, 0));
  must(ek_mla_store(ctx, kv_, index, batch_, kv_a_, l.kv_norm, l.cmp_k, l.cmp_v, kEps));
  must(ek_nsa_attention(ctx, heads_, q_, gates_, kv_, index, batch_, l.kv_b, &nsa));
  must(ek_linear(ctx, x_, heads_, 0, l.output, nullptr, n, 1));
}

void Forward::feed_forward(const Layer& l, int n) {
  must(ek_rmsnorm(d_.ctx(), normed_, x_, l.ffn_norm, n, kHidden, kEps));
  if (l.gate != nullptr) {
    must(ek_ffn_swiglu(d_.ctx(), x_, normed_, l.gate, l.up, l.down, n));
  } else {
    must(ek_moe(d_.ctx(), x_, normed_, &l.moe, n));
  }
}

void Forward::step(int start, int n) {
  ek_context* ctx = d_.ctx();
  const int32_t n_blocks = (start + n + EK_KV_BLOCK - 1) / EK_KV_BLOCK, row = n - 1;
  std::vector<int32_t> tokens(n), blocks(n_blocks);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random_() % kVocab);
  for (int32_t i = 0; i < n_blocks; i++) blocks[i] = i;
  must(ek_batch_set(ctx, batch_, rope_, 1, &start, &n, &n_blocks, blocks.data()));
  must(ek_embed(ctx, x_, embedding_, tokens.data(), n));
  for (int i = 0; i < kLayers; i++) {
    attention(i, n);
    feed_forward(layers_[i], n);
  }
  int32_t id = 0;
  float log_prob = 0;
  must(ek_gather_rows(ctx, last_, x_, &row, 1, kHidden));
  must(ek_rmsnorm(ctx, last_, last_, output_norm_, 1, kHidden, kEps));
  must(ek_linear(ctx, logits_, last_, 0, embedding_, nullptr, 1, 0));
  must(ek_argmax(ctx, logits_, 1, kVocab, &id, &log_prob));
}

void prefill(Forward& forward, int n_tokens) {
  for (int at = 0; at < n_tokens; at += kChunk) forward.step(at, std::min(kChunk, n_tokens - at));
}

double best_seconds(int rounds, const std::function<void()>& body) {
  double best = INFINITY;
  for (int i = 0; i < rounds; i++) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

void print_profile(Device& d, const char* title, int n_steps, const Limits& limits) {
  ek_op_profile entries[32];
  const int32_t n = ek_profile_read(d.ctx(), entries, 32);
  double total = 0;
  for (int32_t i = 0; i < n; i++) total += entries[i].ns;
  std::printf("\n%s: %.1f us in ops per step\n%-16s %6s %10s %6s %8s %9s %6s\n", title,
              total * 1e-3 / n_steps, "op", "calls", "us/step", "share", "GB/s", "GFLOP/s", "limit");
  for (int32_t i = 0; i < n; i++) {
    const ek_op_profile& e = entries[i];
    std::printf("%-16s %6.0f %10.1f %5.1f%% %8.1f %9.1f %5.0f%%\n", e.op,
                static_cast<double>(e.n_calls) / n_steps, e.ns * 1e-3 / n_steps, 100 * e.ns / total,
                e.bytes / e.ns, e.flops / e.ns, 100 * e.flops / e.ns / limits.gflop_per_s);
  }
}

}  // namespace

void bench_forward(Device& d, const Limits& limits) {
  Forward forward(d);
  const int n_decode = 50, n_prompt = 2000, cached = 1000;
  const double prompt = best_seconds(5, [&] { prefill(forward, n_prompt); });
  const auto decode = [&] {
    for (int i = 0; i < n_decode; i++) forward.step(cached + i, 1);
  };
  const double tokens = best_seconds(9, decode);
  const double completion = best_seconds(9, [&] {
    forward.step(cached, 1);
    for (int i = 1; i < 16; i++) forward.step(cached + i, 1);
  });
  std::printf("\nprefill of %d tokens in steps of %d: %.0f tok/s\n", n_prompt, kChunk, n_prompt / prompt);
  std::printf("decode at %d cached tokens: %.0f tok/s\n", cached, n_decode / tokens);
  std::printf("16 tokens after %d cached ones: %.1f ms\n", cached, completion * 1e3);
  ek_profile_reset(d.ctx());
  prefill(forward, n_prompt);
  print_profile(d, "prefill", (n_prompt + kChunk - 1) / kChunk, limits);
  ek_profile_reset(d.ctx());
  decode();
  print_profile(d, "decode", n_decode, limits);
}

}  // namespace ek::bench
