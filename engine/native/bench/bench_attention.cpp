/* What one layer's attention costs at the shape of tidepool-mini, without the rest of the model.
 *
 *   node scripts/native.mjs && build/native/bench_attention [THREADS]
 *
 * Prints microseconds per layer of mla_store and nsa_attention, the best of several rounds, for steps of 1 to
 * 512 new tokens after 0 to 16000 cached ones. The machine must be idle; compare two builds alternately. */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "bench_device.h"

namespace {

using ek::bench::must;

constexpr int kHeads = 6, kNope = 32, kRope = 32, kValue = 64, kLatent = 128, kWidth = kLatent + kRope;
constexpr int kMost = 512, kContext = 16000 + kMost, kBlocks = (kContext + 63) / 64;

struct Layer {
  ek_kv_cache* kv = nullptr;
  ek_rope* rope = nullptr;
  ek_batch* batch = nullptr;
  ek_buffer *kv_a, *norm, *cmp_k, *cmp_v, *q, *gates, *out;
  ek_weight* kv_b;
};

Layer make_layer(ek::bench::Device& d) {
  Layer l;
  const ek_kv_params params{1, kLatent, kRope, kBlocks, 32, 16, EK_F16};
  must(ek_kv_create(d.ctx(), &params, &l.kv));
  float inv_freq[kRope / 2];
  for (int i = 0; i < kRope / 2; i++) inv_freq[i] = std::pow(10000.0f, -2.0f * static_cast<float>(i) / kRope);
  must(ek_rope_create(d.ctx(), inv_freq, kRope, &l.rope));
  must(ek_batch_create(d.ctx(), &l.batch));
  l.kv_a = d.floats(kMost * kWidth, 1.0f);
  l.norm = d.floats(kLatent, 1.0f);
  l.cmp_k = d.floats(32 * kWidth, 0.2f);
  l.cmp_v = d.floats(32 * kLatent, 0.2f);
  l.q = d.floats(kMost * kHeads * (kNope + kRope), 1.0f);
  l.gates = d.floats(kMost * kHeads * 3, 1.0f);
  l.out = d.floats(kMost * kHeads * kValue, 1.0f);
  l.kv_b = d.weight(EK_Q4_0, 1, kHeads * (kNope + kValue), kLatent);
  return l;
}

void set_step(ek::bench::Device& d, Layer& l, int32_t start, int32_t n) {
  const int32_t n_blocks = (start + n + EK_KV_BLOCK - 1) / EK_KV_BLOCK;
  std::vector<int32_t> blocks(n_blocks);
  for (int32_t i = 0; i < n_blocks; i++) blocks[i] = i;
  must(ek_batch_set(d.ctx(), l.batch, l.rope, 1, &start, &n, &n_blocks, blocks.data()));
}

void store(ek::bench::Device& d, Layer& l) {
  must(ek_mla_store(d.ctx(), l.kv, 0, l.batch, l.kv_a, l.norm, l.cmp_k, l.cmp_v, 1e-6f));
}

void attend(ek::bench::Device& d, Layer& l) {
  const ek_nsa_params nsa{kHeads, kNope, kValue, 0.125f, EK_KV_BLOCK, 16, 512, 1, 2};
  must(ek_nsa_attention(d.ctx(), l.out, l.q, l.gates, l.kv, 0, l.batch, l.kv_b, &nsa));
}

/* Best microseconds of a call over about 60 ms of rounds. */
template <class Body>
double best_us(Body&& body) {
  using Clock = std::chrono::steady_clock;
  double best = INFINITY, spent = 0;
  for (int i = 0; i < 5 || spent < 60e3; i++) {
    const auto begin = Clock::now();
    body();
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
    best = std::min(best, us);
    spent += us;
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  ek::bench::Device d(argc > 1 ? std::atoi(argv[1]) : 0, "");
  Layer l = make_layer(d);
  for (int32_t at = 0; at < kContext; at += kMost) {
    set_step(d, l, at, std::min(kMost, kContext - at));
    store(d, l);
  }
  std::printf("%s\n%8s %6s %12s %12s %14s\n", ek_context_describe(d.ctx()), "cached", "new", "store us",
              "attention us", "us per token");
  for (int32_t cached : {0, 1000, 2000, 4000, 8000, 16000}) {
    for (int32_t n : {1, 4, 16, 32, 47, 48, 64, 128, 512}) {
      set_step(d, l, cached, n);
      const double stored = best_us([&] { store(d, l); }), attended = best_us([&] { attend(d, l); });
      std::printf("%8d %6d %12.1f %12.1f %14.2f\n", cached, n, stored, attended, attended / n);
    }
  }
  ek_batch_destroy(l.batch);
  ek_rope_destroy(l.rope);
  ek_kv_destroy(l.kv);
  return 0;
}
