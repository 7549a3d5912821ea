/* One op at a time, its weights warm in the caches. Bytes are the weights read once, as the profile counts
 * them. */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>

#include "bench_device.h"

namespace ek::bench {

namespace {

using Clock = std::chrono::steady_clock;

/* Nanoseconds of a call in the best of 25 rounds of about 1 ms each: other programs only ever add time. */
double best_ns(const std::function<void()>& call) {
  double best = INFINITY;
  int n_calls = 1, n_rounds = 0;
  while (n_rounds < 25) {
    const auto begin = Clock::now();
    for (int i = 0; i < n_calls; i++) call();
    const double ns = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
    if (ns < 1e6 && n_calls < (1 << 20)) {
      n_calls *= 2;
    } else {
      best = std::min(best, ns / n_calls);
      n_rounds++;
    }
  }
  return best;
}

struct Shape {
  const char* name;
  ek_type type;
  int n_out, n_in, most_rows;
};

void print_line(const char* name, int n_rows, double ns, double bytes, double flops, const Limits& limits) {
  const double gb = bytes / ns, gflop = flops / ns;
  std::printf("%-22s %5d %10.1f %8.1f %5.0f%% %9.1f %5.0f%%\n", name, n_rows, ns * 1e-3, gb,
              100 * gb / limits.gb_per_s, gflop, 100 * gflop / limits.gflop_per_s);
}

double weight_bytes(ek_type type, double n) { return type == EK_F32 ? 4 * n : n * 18 / 32; }

void bench_linear(Device& d, const Limits& limits, const Shape& shape, int n_rows) {
  const double n = static_cast<double>(shape.n_out) * shape.n_in;
  const ek_weight* w = d.weight(shape.type, 1, shape.n_out, shape.n_in);
  ek_buffer* out = d.floats(static_cast<size_t>(n_rows) * shape.n_out, 1.0f);
  const ek_buffer* x = d.floats(static_cast<size_t>(n_rows) * shape.n_in, 1.0f);
  const double ns = best_ns([&] { must(ek_linear(d.ctx(), out, x, 0, w, nullptr, n_rows, 0)); });
  print_line(shape.name, n_rows, ns, weight_bytes(shape.type, n), 2 * n * n_rows, limits);
}

void bench_moe(Device& d, const Limits& limits, int n_rows) {
  const int dim = 384, ff = 128, n_experts = 16;
  ek_moe_params p{};
  p.router = d.weight(EK_F32, 1, n_experts, dim);
  p.router_bias = d.floats(n_experts, 0.01f);
  p.gate = d.weight(EK_Q4_0, n_experts, ff, dim);
  p.up = d.weight(EK_Q4_0, n_experts, ff, dim);
  p.down = d.weight(EK_Q4_0, n_experts, dim, ff);
  p.shared_gate = d.weight(EK_Q4_0, 1, ff, dim);
  p.shared_up = d.weight(EK_Q4_0, 1, ff, dim);
  p.shared_down = d.weight(EK_Q4_0, 1, dim, ff);
  p.top_k = 3;
  p.score_func = 2;
  p.n_groups = p.top_groups = 1;
  p.normalize = 1;
  p.scale = 1.0f;
  ek_buffer* out = d.floats(static_cast<size_t>(n_rows) * dim, 1.0f);
  const ek_buffer* x = d.floats(static_cast<size_t>(n_rows) * dim, 1.0f);
  const double ns = best_ns([&] { must(ek_moe(d.ctx(), out, x, &p, n_rows)); });
  const double one = 3.0 * dim * ff, used = std::min(16.0, 3.0 * n_rows);
  print_line("moe 3 of 16 + shared", n_rows, ns, weight_bytes(EK_Q4_0, one * (used + 1)),
             (8 * one + 2.0 * n_experts * dim) * n_rows, limits);
}

void bench_ffn(Device& d, const Limits& limits, int n_rows) {
  const int dim = 384, ff = 1024;
  const ek_weight *gate = d.weight(EK_Q4_0, 1, ff, dim), *up = d.weight(EK_Q4_0, 1, ff, dim),
                  *down = d.weight(EK_Q4_0, 1, dim, ff);
  ek_buffer* out = d.floats(static_cast<size_t>(n_rows) * dim, 1.0f);
  const ek_buffer* x = d.floats(static_cast<size_t>(n_rows) * dim, 1.0f);
  const double ns = best_ns([&] { must(ek_ffn_swiglu(d.ctx(), out, x, gate, up, down, n_rows)); });
  const double n = 3.0 * dim * ff;
  print_line("ffn 384-1024-384", n_rows, ns, weight_bytes(EK_Q4_0, n), 2 * n * n_rows, limits);
}

void bench_small(Device& d, const Limits& limits, int n_rows) {
  const int dim = 384, vocab = 16384;
  ek_buffer* out = d.floats(static_cast<size_t>(n_rows) * dim, 1.0f);
  const ek_buffer *x = d.floats(static_cast<size_t>(n_rows) * dim, 1.0f), *scale = d.floats(dim, 1.0f);
  const double ns = best_ns([&] { must(ek_rmsnorm(d.ctx(), out, x, scale, n_rows, dim, 1e-6f)); });
  print_line("rmsnorm 384", n_rows, ns, 4.0 * n_rows * dim, 4.0 * n_rows * dim, limits);
  if (n_rows > 16) return;
  const ek_buffer* logits = d.floats(static_cast<size_t>(n_rows) * vocab, 1.0f);
  std::vector<int32_t> ids(n_rows);
  std::vector<float> log_probs(n_rows);
  const double argmax_ns =
      best_ns([&] { must(ek_argmax(d.ctx(), logits, n_rows, vocab, ids.data(), log_probs.data())); });
  print_line("argmax 16384", n_rows, argmax_ns, 4.0 * n_rows * vocab, 0, limits);
}

}  // namespace

void bench_each_op(Device& d, const Limits& limits) {
  const Shape shapes[] = {{"linear 384-384", EK_Q4_0, 384, 384, 512},
                          {"linear 384-160", EK_Q4_0, 160, 384, 512},
                          {"linear 384-18 f32", EK_F32, 18, 384, 512},
                          {"linear 384-16384", EK_Q4_0, 16384, 384, 64}};
  std::printf("%-22s %5s %10s %8s %6s %9s %6s\n", "op", "rows", "us", "GB/s", "limit", "GFLOP/s", "limit");
  for (const Shape& shape : shapes) {
    for (int n_rows : {1, 4, 16, 64, 512}) {
      if (n_rows <= shape.most_rows) bench_linear(d, limits, shape, n_rows);
    }
  }
  for (int n_rows : {1, 4, 16, 64, 512}) bench_moe(d, limits, n_rows);
  for (int n_rows : {1, 4, 16, 64, 512}) bench_ffn(d, limits, n_rows);
  for (int n_rows : {1, 4, 16, 64, 512}) bench_small(d, limits, n_rows);
}

}  // namespace ek::bench
