/* Decode speed of the exact shape of tidepool-mini with random weights of its types, batch 1.
 *
 *   cuda_bench_mini [--context N]... [--steps N] [--kernels] [--json]
 *
 * Prints per context microseconds of a step when graphs follow each other, and when every step is asked for
 * by itself, logits copied and the token chosen and brought to the host, as the engine does; tokens per
 * second of the latter, the bytes that a token reads, their rate, and its share of the copy rate that the
 * card itself reached in this run. --kernels: microseconds of each kernel of a step, without overlap. */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "../cuda/model/narrow_model.h"
#include "../cuda/ops/ops.h"
#include "../tests/device.h"
#include "arguments.h"

namespace {

using namespace ek::cuda;

constexpr int32_t kHidden = 384, kVocab = 16384, kHeads = 6, kDense = 1024, kExperts = 16, kFf = 128;

struct Options {
  std::vector<int32_t> contexts;
  int32_t steps = 400;
  bool kernels = false, json = false;
};

Options parse(int argc, char** argv) {
  Options o;
  for (ek::bench::Arguments a(argc, argv); a.next();) {
    if (a.is("--context")) {
      o.contexts.push_back(a.number(0));
    } else if (a.is("--steps")) {
      o.steps = a.number(1);
    } else if (a.is("--kernels")) {
      o.kernels = true;
    } else if (a.is("--json")) {
      o.json = true;
    } else {
      a.refuse();
    }
  }
  if (o.contexts.empty()) o.contexts = {0, 1000, 4096, 15900};
  return o;
}

ek_model_params mini_params(int32_t n_tokens, const std::vector<float>& inv_freq) {
  ek_model_params p{};
  p.n_layers = 12;
  p.n_dense = 1;
  p.hidden = kHidden;
  p.vocab = kVocab;
  p.n_heads = kHeads;
  p.nope_dim = p.rope_dim = 32;
  p.v_dim = 64;
  p.latent_dim = 128;
  p.dense_ff = kDense;
  p.n_experts = kExperts;
  p.top_k = 3;
  p.ff = p.shared_ff = kFf;
  p.score_func = 2;
  p.n_groups = p.top_groups = p.normalize = 1;
  p.scale = 1;
  p.eps = 1e-6f;
  p.softmax_scale = 0.125f;
  p.inv_freq = inv_freq.data();
  p.n_blocks = n_tokens * 5 / 4 / EK_KV_BLOCK + 16; /* as the engine reserves for a context */
  p.chunk = 512;
  p.sparse = {32, 16, 16, 512, 1, 2};
  return p;
}

/* Random weights of the model's types in device memory. */
class Maker {
 public:
  narrow::Weights weights(const ek_model_params& p) {
    narrow::Weights w{};
    w.embedding = w.head = matrix(EK_Q4_0, 1, kVocab, kHidden, 1.0f);
    w.norm = vector(kHidden);
    for (int32_t i = 0; i < p.n_layers; i++) w.layers.push_back(layer(p, i < p.n_dense));
    w.step_bytes = narrow::weight_bytes(w, p.top_k);
    return w;
  }

 private:
  WeightView matrix(ek_type type, int32_t n, int32_t rows, int32_t cols, float size = 0) {
    const ek::WeightShape shape{type, n, rows, cols};
    const size_t values = static_cast<size_t>(n) * static_cast<size_t>(rows) * static_cast<size_t>(cols);
    const float scale = size > 0 ? size : 1 / std::sqrt(static_cast<float>(cols));
    const std::vector<uint8_t> file = ek::test::random_weight(type, values, seed_++, scale);
    std::vector<uint8_t> packed(packed_bytes(shape));
    pack_planes(shape, file.data(), packed.data());
    return view_planes(shape, put(packed.data(), packed.size()));
  }
  /* Around 1. */
  const float* vector(int32_t n) {
    std::vector<float> values = ek::test::random_floats(static_cast<size_t>(n), seed_++, 0.1f);
    for (float& v : values) v += 1;
    return reinterpret_cast<const float*>(put(values.data(), values.size() * sizeof(float)));
  }
  const uint8_t* put(const void* from, size_t n_bytes) {
    memory_.emplace_back(n_bytes);
    check(cudaMemcpy(memory_.back().as(), from, n_bytes, cudaMemcpyHostToDevice), "uploading a weight");
    check(cudaStreamSynchronize(nullptr), "uploading a weight"); /* the device's stream does not wait */
    return memory_.back().as<const uint8_t>();
  }
  narrow::Layer layer(const ek_model_params& p, bool dense) {
    constexpr int32_t kRow = 160;
    const int32_t shared = dense ? kDense : kFf;
    narrow::Layer l{};
    l.attn_norm = vector(kHidden);
    l.kv_norm = vector(128);
    l.ffn_norm = vector(kHidden);
    l.q = matrix(EK_Q4_0, 1, kHeads * 64, kHidden);
    l.kv_a = matrix(EK_Q4_0, 1, kRow, kHidden);
    l.kv_b = matrix(EK_Q4_0, 1, kHeads * 96, 128);
    l.out = matrix(EK_Q4_0, 1, kHidden, kHeads * 64);
    l.attn_gate = matrix(EK_F32, 1, kHeads * 3, kHidden);
    l.attn_gate_bias = vector(kHeads * 3);
    l.cmp_k = vector(32 * kRow);
    l.cmp_v = vector(32 * 128);
    l.shared_gate = matrix(EK_Q4_0, 1, shared, kHidden);
    l.shared_up = matrix(EK_Q4_0, 1, shared, kHidden);
    l.shared_down = matrix(EK_Q4_0, 1, kHidden, shared);
    if (dense) return l;
    l.router = matrix(EK_F32, 1, kExperts, kHidden);
    l.router_bias = vector(kExperts);
    l.gate = matrix(EK_Q4_0, p.n_experts, kFf, kHidden);
    l.up = matrix(EK_Q4_0, p.n_experts, kFf, kHidden);
    l.down = matrix(EK_Q4_0, p.n_experts, kHidden, kFf);
    return l;
  }

  std::vector<DeviceMemory> memory_;
  uint32_t seed_ = 1;
};

/* Best seconds per step of three rounds. */
template <class Steps>
double best_per_step(int32_t n, Steps&& steps) {
  double best = 1e9;
  for (int round = 0; round < 3; round++) {
    steps(8);
    const auto begin = std::chrono::steady_clock::now();
    steps(n);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best = std::min(best, time.count() / n);
  }
  return best;
}

/* Steps as the engine asks for them, each with its logits and its choice. */
class Asked {
 public:
  Asked(Device& d, narrow::Model& model, int32_t n_blocks)
      : device_(d), model_(model), logits_(kVocab * sizeof(float)) {
    for (int32_t i = 0; i < n_blocks; i++) blocks_.push_back(i);
  }
  void run(int32_t context, int32_t n) {
    int32_t token = 1;
    for (int32_t i = 0; i < n; i++) token = step(token, context + i);
  }

 private:
  int32_t step(int32_t token, int32_t position) {
    const std::vector<ek::Sequence> sequences{{position, 1, 0, blocks_.data(), position / EK_KV_BLOCK + 1}};
    const uint8_t wants = 1;
    model_.begin({sequences, &token, &wants, logits_.as<float>(), 1, nullptr, nullptr});
    device_.scratch.reset();
    int32_t* best = device_.scratch.take<int32_t>(2);
    argmax(device_, logits_.as<float>(), 1, kVocab, best, reinterpret_cast<float*>(best + 1));
    int32_t chosen[2];
    check(cudaMemcpyAsync(chosen, best, sizeof chosen, cudaMemcpyDeviceToHost, device_.stream),
          "reading the choice");
    device_.wait();
    return chosen[0];
  }

  Device& device_;
  narrow::Model& model_;
  DeviceMemory logits_;
  std::vector<int32_t> blocks_;
};

void bench(Device& d, const Options& o, double copy_rate) {
  const int32_t most = *std::max_element(o.contexts.begin(), o.contexts.end());
  std::vector<float> inv_freq;
  for (int i = 0; i < 16; i++) inv_freq.push_back(std::pow(10000.0f, -static_cast<float>(i) / 16));
  const ek_model_params params = mini_params(std::max(16384, most + o.steps + 8), inv_freq);
  Maker maker;
  narrow::Model model(d, params, maker.weights(params));
  narrow::Decoder& decoder = model.decoder();
  model.fill_cache(params.n_blocks * EK_KV_BLOCK, 2);
  Asked asked(d, model, params.n_blocks);
  for (int32_t context : o.contexts) {
    const double chain = best_per_step(o.steps, [&](int32_t n) {
      decoder.set(1, context);
      decoder.run(n);
      d.wait();
    });
    const double seconds = best_per_step(o.steps, [&](int32_t n) { asked.run(context, n); });
    const double bytes = decoder.weights.step_bytes + decoder.cache_bytes(context + o.steps / 2);
    const double rate = bytes / seconds * 1e-9;
    int32_t bad = 0;
    for (float x : decoder.logits()) bad += !std::isfinite(x);
    std::printf(o.json
                    ? "{\"context\":%d,\"tokensPerSecond\":%.1f,\"usPerToken\":%.1f,\"usPerGraph\":%.1f,"
                      "\"kernels\":%d,\"mbPerToken\":%.2f,\"gbPerSecond\":%.0f,\"percentOfCopy\":%.2f,"
                      "\"logitsNotFinite\":%d}\n"
                    : "@%-6d %8.1f tok/s  %7.1f us  %7.1f us between graphs of %d kernels  %6.2f MB/token  "
                      "%5.0f GB/s  %5.2f %% of copy  %d bad logits\n",
                context, 1 / seconds, seconds * 1e6, chain * 1e6, decoder.kernels_per_step(), bytes * 1e-6,
                rate, 100 * rate / copy_rate, bad);
    if (o.kernels) decoder.time_kernels(context);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    const Options o = parse(argc, argv);
    Device d(0);
    double gb_per_s = 0, gflop_per_s = 0;
    measure_limits(d, size_t{4} << 30, &gb_per_s, &gflop_per_s);
    if (!o.json) std::printf("%s: copy %.0f GB/s, read and written\n", d.properties.name, gb_per_s);
    bench(d, o, gb_per_s);
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_bench_mini: %s\n", e.what());
  }
  return 1;
}
