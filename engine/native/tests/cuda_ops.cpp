/* Every op of the CUDA backend against the reference through the C ABI. On a GPU: scripts/gpu.sh; emulated:
 * ctest. */
#include <chrono>

#include "cuda_check.h"
#include "op_cases.h"

using namespace ek::test;

namespace {

/* A device per run, so that one failed case leaves the others their own. */
template <class Op>
void against_reference(const std::string& name, double absolute, double relative, Op&& op) {
  Device ref(EK_REFERENCE, nullptr, 1), cuda(EK_CUDA, nullptr, 0);
  const std::vector<float> actual = op(cuda);
  check_close(name, actual, op(ref), absolute, relative);
  const std::vector<float> again = op(cuda);
  check(std::memcmp(actual.data(), again.data(), actual.size() * 4) == 0,
        name + ": a second run gives other bits");
}

std::vector<float> run_embed(Device& d, ek_type type, int vocab, int dim) {
  const std::vector<int32_t> tokens{vocab - 1, 0, 5, 3, 5};
  ek_buffer* out = d.put(std::vector<float>(tokens.size() * dim, NAN));
  must(ek_embed(d.ctx, out, d.weight(type, 1, vocab, dim, 31, 1.0f), tokens.data(), 5));
  return d.read(out, tokens.size() * dim);
}

std::vector<float> run_copies(Device& d) {
  const std::vector<int32_t> rows{4, 0, 4};
  ek_buffer *out = d.put(std::vector<float>(5 * 14, NAN)), *left = d.put(random_floats(35, 32));
  must(ek_gather_rows(d.ctx, out, left, rows.data(), 3, 7));
  std::vector<float> result = d.read(out, 3 * 7);
  must(ek_concat(d.ctx, out, left, d.put(random_floats(35, 33)), 5, 7));
  for (float x : d.read(out, 5 * 14)) result.push_back(x);
  return result;
}

void test_linear_types() {
  for (ek_type type : kWeightTypes) {
    const std::string t = " type " + std::to_string(type);
    const int in = ek::block_columns(type) == 256 ? 512 : 96;
    for (int rows : {1, 3, 16, 17, 130}) {
      against_reference("linear" + t + ", " + std::to_string(rows) + " rows", 3e-4, 3e-4,
                        [&](Device& d) { return run_linear(d, type, rows, 37, in); });
    }
    against_reference("linear" + t + ", wide", 1e-3, 1e-3,
                      [&](Device& d) { return run_linear(d, type, 2, 70, 1536); });
    against_reference("embed" + t, 1e-6, 1e-6, [&](Device& d) { return run_embed(d, type, 37, in); });
  }
}

void test_ops() {
  for (ek_type type : {EK_F32, EK_F16, EK_Q4_0, EK_Q8_0}) {
    const std::string t = " type " + std::to_string(type);
    for (int rows : {1, 3, 13, 241}) {
      against_reference("moe" + t + ", " + std::to_string(rows) + " rows", 5e-3, 5e-4,
                        [&](Device& d) { return run_moe(d, type, rows, rows % 2 == 1); });
    }
    against_reference("ffn" + t, 5e-4, 5e-4, [&](Device& d) { return run_ffn(d, type, 5, 32, 96); });
  }
  for (const Routing& r : kRoutings) {
    const std::string name = "moe of " + std::to_string(r.top_groups) + " of " + std::to_string(r.n_groups) +
                             " groups, score " + std::to_string(r.score_func);
    against_reference(name, 5e-3, 5e-4, [&](Device& d) { return run_moe(d, EK_F32, 7, true, r); });
  }
  against_reference("linear of odd width", 2e-4, 2e-4,
                    [](Device& d) { return run_linear(d, EK_F32, 2, 1, 7); });
  against_reference("ffn of odd width", 2e-4, 2e-4, [](Device& d) { return run_ffn(d, EK_F32, 1, 5, 7); });
  for (int dim : {1, 17, 384, 2048}) {
    against_reference("rmsnorm of " + std::to_string(dim), 1e-5, 1e-5,
                      [&](Device& d) { return run_rmsnorm(d, 3, dim); });
  }
  against_reference("gather and concat", 0, 0, [](Device& d) { return run_copies(d); });
}

struct Choice {
  int32_t id;
  float log_prob;
};

Choice argmax_of(Device& d, const std::vector<float>& logits) {
  Choice c{-1, 0};
  must(ek_argmax(d.ctx, d.put(logits), 1, static_cast<int32_t>(logits.size()), &c.id, &c.log_prob));
  return c;
}

void test_argmax() {
  Device cuda(EK_CUDA, nullptr, 0), ref(EK_REFERENCE, nullptr, 1);
  std::vector<size_t> sizes{1, 15, 33, 1000, 1025, 16384};
  if (!kSmallShapes) sizes.insert(sizes.end(), {102400, 200001});
  for (size_t n : sizes) {
    std::vector<std::vector<float>> rows{std::vector<float>(n, -3.0f), random_floats(n, 34),
                                         std::vector<float>(n, NAN), std::vector<float>(n, -INFINITY)};
    rows.push_back(rows[1]);
    rows.back()[n / 2] = NAN;
    rows.push_back(rows[1]);
    rows.back()[n - 1] = INFINITY;
    for (size_t i = 0; i < rows.size(); i++) {
      const Choice a = argmax_of(cuda, rows[i]), b = argmax_of(ref, rows[i]);
      const bool both_nan = std::isnan(a.log_prob) && std::isnan(b.log_prob);
      check(a.id == b.id && (both_nan || std::fabs(a.log_prob - b.log_prob) < 1e-4),
            "argmax of " + std::to_string(n) + ", row " + std::to_string(i) + ": " + std::to_string(a.id) +
                " " + std::to_string(a.log_prob) + ", expected " + std::to_string(b.id) + " " +
                std::to_string(b.log_prob));
    }
  }
}

/* Running out of memory fails one call and nothing after it. */
void test_out_of_memory() {
  Device cuda(EK_CUDA, nullptr, 0);
  ek_buffer* huge = nullptr;
  check(ek_buffer_alloc(cuda.ctx, size_t{1} << 45, &huge) == EK_ERR_OOM, "32 TiB are out of memory");
  ek_kv_cache* kv = nullptr;
  const ek_kv_params params{1000, 512, 64, 1 << 20, 32, 16, EK_F16};
  check(ek_kv_create(cuda.ctx, &params, &kv) == EK_ERR_OOM, "a cache of 80 TiB is out of memory");
  const std::vector<float> x = random_floats(100, 3);
  check(cuda.read(cuda.put(x), 100) == x, "memory works after running out of it");
}

/* Microseconds per call at the shapes of tidepool-mini, launch included. */
void time_ops() {
  Device d(EK_CUDA, nullptr, 0);
  for (int rows : {1, 512}) {
    ek_buffer *x = d.put(random_floats(static_cast<size_t>(rows) * 384, 1)),
              *y = d.put(std::vector<float>(static_cast<size_t>(rows) * 384));
    const ek_weight* w = d.weight(EK_Q4_0, 1, 384, 384, 2, 0.1f);
    const auto time = [&](const char* name, auto&& body) {
      for (int i = 0; i < 10; i++) body();
      ek_profile_reset(d.ctx);
      const auto begin = std::chrono::steady_clock::now();
      for (int i = 0; i < 100; i++) body();
      d.read(y, 1);
      const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - begin;
      std::printf("time %s, %d rows: %.1f us\n", name, rows, us.count() / 100);
    };
    time("linear 384x384 q4_0", [&] { must(ek_linear(d.ctx, y, x, 0, w, nullptr, rows, 0)); });
    const ek_buffer* norm = d.put(random_floats(384, 6));
    time("rmsnorm 384", [&] { must(ek_rmsnorm(d.ctx, y, x, norm, rows, 384, 1e-6f)); });
  }
  double gb = 0, gflop = 0;
  must(ek_measure_limits(d.ctx, size_t{2} << 30, &gb, &gflop));
  std::printf("copy %.0f GB/s, f32 %.1f TFLOP/s\n%s\n", gb, gflop / 1000, ek_context_describe(d.ctx));
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  test_argmax();
  test_out_of_memory();
  test_ops();
  test_linear_types();
  if (!kSmallShapes) time_ops();
  return summary("cuda_ops");
}
