/* Whole models through the C ABI: block tables, copied blocks, several sequences, both layouts of W_UK,
 * misuse. On a GPU: scripts/gpu.sh; emulated: ctest. Logits against references: cuda_decode, cuda_prefill,
 * and test/e2e/cudaModel.test.ts. */
#include <algorithm>

#include "model_step.h"

using namespace ek::test;

namespace {

constexpr int kHidden = 256, kVocab = 320, kDense = 320, kExperts = 8, kFf = 128, kShared = 256, kBlocks = 8;
constexpr int kHeads = 16, kNope = 128, kRope = 64, kValue = 128, kLatent = 512, kLayers = 2;

ek_model_params params_with(const std::vector<float>& inv_freq) {
  ek_model_params p{};
  p.n_layers = kLayers;
  p.n_dense = 1;
  p.hidden = kHidden;
  p.vocab = kVocab;
  p.n_heads = kHeads;
  p.nope_dim = kNope;
  p.rope_dim = kRope;
  p.v_dim = kValue;
  p.latent_dim = kLatent;
  p.dense_ff = kDense;
  p.n_experts = kExperts;
  p.top_k = 3;
  p.ff = kFf;
  p.shared_ff = kShared;
  p.score_func = p.n_groups = p.top_groups = 1;
  p.scale = 1;
  p.eps = 1e-6f;
  p.softmax_scale = 0.1f;
  p.inv_freq = inv_freq.data();
  p.n_blocks = kBlocks;
  p.chunk = 32;
  return p;
}

/* A model with its weights, and the logits of its last step. */
class Model {
 public:
  Model(ek_type main, bool transposed, bool fp8_cache = false)
      : device_(EK_CUDA, nullptr, 0), main_(main), transposed_(transposed) {
    for (int i = 0; i < kRope / 2; i++) inv_freq_.push_back(std::pow(10000.0f, -2.0f * i / kRope));
    must(ek_buffer_alloc(device_.ctx, size_t{16} * kVocab * 4, &logits_));
    ek_model_params params = params_with(inv_freq_);
    params.fp8_cache = fp8_cache;
    std::vector<ek_model_layer> layers{layer(true), layer(false)};
    const ek_model_weights weights{matrix(kVocab, kHidden), matrix(kVocab, kHidden), norm(kHidden),
                                   layers.data()};
    must(ek_model_create(device_.ctx, &params, &weights, &model_));
  }
  ~Model() {
    ek_model_destroy(model_);
    ek_buffer_free(logits_);
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  ek_status try_step(const std::vector<ModelPart>& parts) {
    return step_model(device_.ctx, model_, parts, logits_, kVocab);
  }
  /* The wanted logits, (wanted, vocab). */
  std::vector<float> step(const std::vector<ModelPart>& parts) {
    must(try_step(parts));
    return device_.read(logits_, wanted_rows(parts) * kVocab);
  }
  void copy_block(int32_t dst, int32_t src) { must(ek_model_copy_block(device_.ctx, model_, dst, src)); }
  ek_context* context() const { return device_.ctx; }

 private:
  ek_weight* matrix(int rows, int cols, int n = 1) {
    return device_.weight(main_, n, rows, cols, seed_++, 1 / std::sqrt(static_cast<float>(cols)));
  }
  ek_buffer* norm(int n) {
    std::vector<float> values = random_floats(static_cast<size_t>(n), seed_++, 0.1f);
    for (float& v : values) v += 1;
    return device_.put(values);
  }
  /* The same values in either layout, in bf16. */
  ek_weight* w_uk() {
    const std::vector<float> values = random_floats(size_t{kHeads} * kNope * kLatent, seed_++, 0.05f);
    std::vector<uint16_t> bits(values.size());
    for (size_t i = 0; i < values.size(); i++) {
      const size_t h = i / (kNope * kLatent), row = i / kLatent % kNope, column = i % kLatent;
      const size_t to = transposed_ ? (h * kLatent + column) * kNope + row : i;
      bits[to] = static_cast<uint16_t>(ek::bits_of(values[i]) >> 16);
    }
    ek_weight* w = nullptr;
    must(ek_weight_create_from_memory(device_.ctx, bits.data(), bits.size() * 2, EK_BF16, kHeads,
                                      transposed_ ? kLatent : kNope, transposed_ ? kNope : kLatent, &w));
    device_.weights.push_back(w);
    return w;
  }
  ek_model_layer layer(bool dense) {
    const int shared = dense ? kDense : kShared;
    ek_model_layer l{};
    l.attn_norm = norm(kHidden);
    l.kv_norm = norm(kLatent);
    l.ffn_norm = norm(kHidden);
    l.q = matrix(kHeads * (kNope + kRope), kHidden);
    l.kv_a = matrix(kLatent + kRope, kHidden);
    l.k_b = w_uk();
    l.v_b = matrix(kValue, kLatent, kHeads);
    l.out = matrix(kHidden, kHeads * kValue);
    l.shared_gate = matrix(shared, kHidden);
    l.shared_up = matrix(shared, kHidden);
    l.shared_down = matrix(kHidden, shared);
    if (dense) return l;
    l.router = device_.weight(EK_F32, 1, kExperts, kHidden, seed_++, 0.06f);
    l.gate = matrix(kFf, kHidden, kExperts);
    l.up = matrix(kFf, kHidden, kExperts);
    l.down = matrix(kHidden, kFf, kExperts);
    return l;
  }

  Device device_;
  const ek_type main_;
  const bool transposed_;
  uint32_t seed_ = 1;
  std::vector<float> inv_freq_;
  ek_buffer* logits_ = nullptr;
  ek_model* model_ = nullptr;
};

std::vector<int32_t> tokens_of(int n, int seed) {
  std::vector<int32_t> out;
  for (int i = 0; i < n; i++) out.push_back((i * 37 + seed * 101) % kVocab);
  return out;
}

/* Root mean square of the differences over that of b; NaN when anything is. */
double error_of(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, square = 0;
  for (size_t i = 0; i < b.size(); i++) {
    error += (a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
    square += b[i] * static_cast<double>(b[i]);
  }
  return std::sqrt(error / square);
}

/* most: what rounding may change. */
void test_blocks(Model& m, double most) {
  const std::vector<int32_t> prompt = tokens_of(70, 1), head(prompt.begin(), prompt.begin() + 66);
  const std::vector<float> read = m.step({{0, prompt, {0, 1}}});
  const std::vector<float> decoded = m.step({{70, {5}, {0, 1}}});
  check(!same(read, decoded), "a token changes the logits");
  check(same(m.step({{0, prompt, {6, 3}}}), read), "logits do not depend on where blocks lie");
  check(same(m.step({{70, {5}, {6, 3}}}), decoded), "nor do those of a decoded token");
  m.step({{0, head, {2, 4}}});
  const ModelPart rest{66, {prompt.begin() + 66, prompt.end()}, {2, 4}}; /* short: rounded in another way */
  const std::vector<float> ended = m.step({rest});
  check(error_of(ended, read) <= most, "a cut before a short step changes more than rounding");
  m.copy_block(5, 4);
  const std::vector<float> other = m.step({{66, {9, 8, 7}, {2, 5}}});
  check(same(m.step({rest}), ended), "a fork leaves the block that it was copied from");
  m.step({{0, head, {0, 1}}});
  check(same(m.step({{66, {9, 8, 7}, {0, 1}}}), other), "a fork goes on from the copied rows");
}

void test_sequences(Model& m) {
  const std::vector<int32_t> first = tokens_of(20, 2), second = tokens_of(35, 3);
  m.step({{0, first, {0}}});
  const std::vector<float> a = m.step({{20, {11}, {0}}});
  m.step({{0, second, {1}}});
  const std::vector<float> b = m.step({{35, {12}, {1}}});
  const std::vector<float> both = m.step({{20, {11}, {0}}, {35, {12}, {1}}});
  check(same({both.begin(), both.begin() + kVocab}, a) && same({both.begin() + kVocab, both.end()}, b),
        "sequences of one step are as each alone");
}

/* Guesses of a sequence, beside another one: rows of logits as of one token a step. */
void test_drafts(Model& m) {
  const std::vector<int32_t> prompt = tokens_of(61, 5), guess{7, 8, 9, 10, 11}, other = tokens_of(30, 6);
  m.step({{0, prompt, {3}}, {0, other, {5}}});
  std::vector<float> alone;
  const auto add = [&](const std::vector<float>& row) { alone.insert(alone.end(), row.begin(), row.end()); };
  for (int i = 0; i < 5; i++) add(m.step({{61 + i, {guess[static_cast<size_t>(i)]}, {3, 2}}}));
  add(m.step({{30, {4}, {5}}}));
  m.step({{0, prompt, {3}}});
  check(same(m.step({{61, guess, {3, 2}, 5}, {30, {4}, {5}}}), alone), "guesses are as decoded one by one");
  std::vector<int32_t> tail(prompt.begin() + 40, prompt.end());
  tail.insert(tail.end(), guess.begin(), guess.begin() + 2);
  m.step({{0, {prompt.begin(), prompt.begin() + 40}, {6}}});
  const std::vector<float> mixed = m.step({{40, tail, {6}, 3}}); /* 20 are read, 3 decoded */
  m.step({{0, {prompt.begin(), prompt.begin() + 40}, {1}}, {40, {tail.begin(), tail.end() - 3}, {1}}});
  const std::vector<float> apart = m.step({{60, {tail.end() - 3, tail.end()}, {1}, 3}});
  check(same(mixed, apart), "a long part with guesses is read, then decoded");
  check(m.step({{60, {tail.end() - 3, tail.end()}, {1}, 0}}).empty(), "a part may want no logits");
}

/* More tokens than a step takes at once. */
void test_many(Model& m) {
  std::vector<ModelPart> parts;
  std::vector<float> alone;
  for (int i = 0; i < 3; i++) {
    parts.push_back({0, tokens_of(4, 20 + i), {i}, static_cast<uint8_t>(i)});
    const std::vector<float> rows = m.step({parts.back()});
    alone.insert(alone.end(), rows.begin(), rows.end());
  }
  check(same(m.step(parts), alone), "12 tokens of three sequences are as each sequence alone");
}

/* W_UK in both layouts: the values are the same, the sums are not in the same order. */
void test_layouts() {
  constexpr double kMost = 0.02;
  Model rows(EK_BF16, false), transposed(EK_BF16, true);
  for (const ModelPart& part : {ModelPart{0, tokens_of(20, 4), {0}}, ModelPart{20, {7}, {0}}}) {
    const double error = error_of(rows.step({part}), transposed.step({part}));
    check(error <= kMost, "W_UK in both layouts, from " + std::to_string(part.start) + ": error " +
                              std::to_string(error) + ", at most " + std::to_string(kMost));
  }
}

void test_misuse(Model& m) {
  refused(m.try_step({{0, {kVocab}, {0}}}), "token 0 is 320");
  refused(m.try_step({{0, {1}, {kBlocks}}}), "block id 8");
  refused(m.try_step({{64, {1}, {0}}}), "needs 2 blocks");
  refused(m.try_step({}), "n_seqs");
  refused(m.try_step({{0, {1, 2}, {0}, 3}}), "logits of 3 tokens are wanted of sequence 0, it has 2");
  std::vector<float> inv_freq(kRope / 2, 1);
  ek_model_memory memory{};
  const auto plan = [&](auto&& change) {
    ek_model_params p = params_with(inv_freq);
    change(p);
    return ek_model_plan(m.context(), &p, &memory);
  };
  must(plan([](ek_model_params&) {}));
  check(memory.cache_bytes == size_t{kLayers} * kBlocks * 68 * 576 * 2, "bytes of the cache");
  must(plan([](ek_model_params& p) { p.fp8_cache = 1; }));
  check(memory.cache_bytes == size_t{kLayers} * kBlocks * (64 * 656 + 4 * 576 * 2),
        "bytes of a cache of fp8");
  refused(plan([](ek_model_params& p) { p.n_heads = 8; }), "got 8 heads");
  refused(plan([](ek_model_params& p) { p.scale = 2; }), "scale 2");
  refused(plan([](ek_model_params& p) { p.vocab = 321; }), "vocabulary 321");
  refused(plan([](ek_model_params& p) { p.shared_ff = 0; }), "shared experts");
  size_t free_bytes = 0, total_bytes = 0;
  must(ek_device_memory(m.context(), &free_bytes, &total_bytes));
  check(free_bytes > 0 && free_bytes < total_bytes, "the card's memory");
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    Model m(EK_Q8_0, false);
    test_blocks(m, 0.03);
    test_sequences(m);
    test_drafts(m);
    test_many(m);
    test_misuse(m);
    test_layouts();
    Model fp8(EK_Q8_0, true, true);
    test_blocks(fp8, 0.06);
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return summary("cuda_model");
}
