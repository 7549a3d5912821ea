/* The shape of DeepSeek-Coder-V2-Lite, and random weights of such a model. */
#include <cmath>

#include "lite.h"
#include "random.h"

namespace ek::cuda {

LiteShape lite_shape(int32_t n_tokens) {
  LiteShape s{};
  s.n_layers = 27;
  s.n_dense = 1;
  s.hidden = 2048;
  s.dense_ff = 10944;
  s.n_experts = 64;
  s.top_k = 6;
  s.ff = 1408;
  s.shared_ff = 2 * 1408;
  s.vocab = 102400;
  s.eps = 1e-6f;
  s.softmax_scale = 0.114721f; /* 192^-1/2 (0.1 * 0.707 ln 40 + 1)^2: YaRN of factor 40 */
  s.n_blocks = ceil_div(n_tokens, 64);
  s.dense_len = 16384;
  s.dense_layers = 2;
  s.local = 16;
  s.top = 128;
  return s;
}

LiteTypes lite_types(const std::string& name) {
  /* As in the released Q4_K_M file: 1408 and 10944 are no multiples of 256, so down is Q5_0 or Q8_0. */
  if (name == "q4_k_m") return {EK_Q4_K, EK_Q8_0, {EK_Q5_0, EK_Q8_0}, {EK_Q4_K, EK_Q6_K}, EK_Q6_K, EK_Q4_K};
  if (name == "q8_0") return {EK_Q8_0, EK_Q8_0, {EK_Q8_0, EK_Q8_0}, {EK_Q8_0, EK_Q8_0}, EK_Q8_0, EK_Q8_0};
  if (name == "fp8")
    return {EK_FP8_E4M3, EK_FP8_E4M3, {EK_FP8_E4M3, EK_FP8_E4M3}, {EK_FP8_E4M3, EK_FP8_E4M3},
            EK_FP8_E4M3, EK_FP8_E4M3};
  EK_REQUIRE(name == "bf16", "expected the types q4_k_m, q8_0, fp8 or bf16, got %s", name.c_str());
  return {EK_BF16, EK_BF16, {EK_BF16, EK_BF16}, {EK_BF16, EK_BF16}, EK_BF16, EK_BF16};
}

namespace {

class Maker {
 public:
  Maker(Device& d, LiteWeights& out, uint64_t seed) : d_(d), out_(out), seed_(seed) {}

  /* used: matrices of the stack that a token reads. */
  WeightView weight(ek_type type, int32_t n_matrices, int32_t n_rows, int32_t n_cols, int32_t used) {
    const WeightShape shape{type, n_matrices, n_rows, n_cols};
    const size_t n_bytes = packed_bytes(shape);
    out_.memory.emplace_back(n_bytes);
    fill_weight(d_, shape, out_.memory.back().as<uint8_t>(), seed_++);
    out_.step_bytes += plain_bytes(type, n_rows, n_cols) * used;
    return view_planes(shape, out_.memory.back().as<uint8_t>());
  }
  const float* floats(size_t n, float mean, float deviation) {
    out_.memory.emplace_back(n * sizeof(float));
    float* data = out_.memory.back().as<float>();
    fill_floats(d_, data, n, mean, deviation, seed_++);
    out_.step_bytes += static_cast<double>(n) * sizeof(float);
    return data;
  }

 private:
  Device& d_;
  LiteWeights& out_;
  uint64_t seed_;
};

LiteLayer random_layer(Maker& m, const LiteShape& s, const LiteTypes& t, int32_t index) {
  const size_t hidden = static_cast<size_t>(s.hidden);
  LiteLayer l{};
  l.attn_norm = m.floats(hidden, 1, 0.1f);
  l.kv_norm = m.floats(kLatent, 1, 0.1f);
  l.ffn_norm = m.floats(hidden, 1, 0.1f);
  l.q = m.weight(t.main, 1, kHeads * (kNope + kRope), s.hidden, 1);
  l.kv_a = m.weight(t.main, 1, kRow, s.hidden, 1);
  l.k_b = m.weight(t.absorbed, kHeads, kLatent, kNope, kHeads);
  l.v_b = m.weight(t.absorbed, kHeads, kValue, kLatent, kHeads);
  l.out = m.weight(t.main, 1, s.hidden, kHeads * kValue, 1);
  const bool dense = index < s.n_dense;
  const int32_t shared_ff = dense ? s.dense_ff : s.shared_ff;
  const ek_type down = t.down[index % 2];
  l.shared_gate = m.weight(t.main, 1, shared_ff, s.hidden, 1);
  l.shared_up = m.weight(t.main, 1, shared_ff, s.hidden, 1);
  l.shared_down = m.weight(dense ? down : t.shared_down[index % 2], 1, s.hidden, shared_ff, 1);
  if (dense) return l;
  l.router =
      m.floats(static_cast<size_t>(s.n_experts) * hidden, 0, 1 / std::sqrt(static_cast<float>(s.hidden)));
  l.gate = m.weight(t.main, s.n_experts, s.ff, s.hidden, s.top_k);
  l.up = m.weight(t.main, s.n_experts, s.ff, s.hidden, s.top_k);
  l.down = m.weight(down, s.n_experts, s.hidden, s.ff, s.top_k);
  return l;
}

}  // namespace

namespace {

bool has_fused_kernels(ek_type type) {
  return type == EK_Q4_K || type == EK_Q5_0 || type == EK_Q6_K || type == EK_Q8_0 || type == EK_BF16 ||
         type == EK_FP8_E4M3;
}

void check_layer_types(const LiteLayer& l, size_t index) {
  const bool dense = l.router == nullptr;
  for (const WeightView* w : {&l.q, &l.kv_a, &l.k_b, &l.v_b, &l.out, &l.shared_gate, &l.shared_down})
    EK_REQUIRE(has_fused_kernels(w->type), "layer %zu: the fused kernels take %s, got type %d", index,
               kFusedTypes, static_cast<int>(w->type));
  const ek_type in = l.shared_gate.type;
  EK_REQUIRE(
      l.shared_up.type == in && (dense || (l.gate.type == in && l.up.type == in)),
      "layer %zu: the fused kernels take gate and up of one type, got types %d and %d, experts %d and %d",
      index, static_cast<int>(in), static_cast<int>(l.shared_up.type),
      static_cast<int>(dense ? in : l.gate.type), static_cast<int>(dense ? in : l.up.type));
  const ek_type shared = l.shared_down.type, routed = dense ? shared : l.down.type;
  EK_REQUIRE(has_down_kernel(routed, shared),
             "layer %zu: no fused kernel for down weights of types %d (experts) and %d (shared)", index,
             static_cast<int>(routed), static_cast<int>(shared));
}

}  // namespace

void check_lite_types(const LiteWeights& w) {
  for (size_t i = 0; i < w.layers.size(); i++) check_layer_types(w.layers[i], i);
  EK_REQUIRE(has_fused_kernels(w.head.type) && has_fused_kernels(w.embedding.type),
             "the fused kernels take %s, got head %d and embedding %d", kFusedTypes,
             static_cast<int>(w.head.type), static_cast<int>(w.embedding.type));
}

LiteWeights random_lite_weights(Device& d, const LiteShape& s, const LiteTypes& types, uint32_t seed) {
  LiteWeights w{};
  Maker m(d, w, static_cast<uint64_t>(seed) * 4096 + 1);
  for (int32_t i = 0; i < s.n_layers; i++) w.layers.push_back(random_layer(m, s, types, i));
  w.norm = m.floats(static_cast<size_t>(s.hidden), 1, 0.1f);
  w.head = m.weight(types.head, 1, s.vocab, s.hidden, 1);
  w.embedding = m.weight(types.embedding, 1, s.vocab, s.hidden, 0);
  d.wait();
  return w;
}

}  // namespace ek::cuda
