#include "cpu_backend.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "../core/check.h"

namespace ek::cpu {

std::string CpuBackend::describe() const {
  return format("CPU, %s, %d thread%s", k_.name, pool_.n_threads(), pool_.n_threads() == 1 ? "" : "s");
}

void CpuBackend::rmsnorm(float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
                         float eps) {
  pool_.run(n_rows, [&](int r, int) {
    const float* from = x + static_cast<size_t>(r) * dim;
    float* to = out + static_cast<size_t>(r) * dim;
    float part[kLanes] = {};
    for (int32_t c = 0; c < dim; c++) part[c % kLanes] += from[c] * from[c];
    float sum = 0;
    for (float value : part) sum += value;
    const float scale = 1 / std::sqrt(sum / static_cast<float>(dim) + eps);
    for (int32_t c = 0; c < dim; c++) to[c] = from[c] * scale * weight[c];
  });
}

void CpuBackend::argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) {
  const int32_t padded = round_up(vocab, kLanes);
  reserve(padded);
  pool_.run(n_rows, [&](int r, int thread) {
    const float* row = logits + static_cast<size_t>(r) * vocab;
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++) {
      if (row[i] > row[best]) best = i;
    }
    float* e = scratch(thread);
    std::memcpy(e, row, sizeof(float) * vocab);
    for (int32_t i = vocab; i < padded; i++) e[i] = -INFINITY;
    ids[r] = best;
    log_probs[r] = -std::log(k_.exp_sum(e, padded, row[best]));
  });
}

void CpuBackend::measure_limits(size_t n_bytes, double* gb_per_s, double* gflop_per_s) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  const int n = pool_.n_threads();
  const size_t part = n_bytes / n / 64 * 16;
  std::vector<float> data(part * n, 1.0f), sink(static_cast<size_t>(n) * kLanes * 12);
  const std::vector<float> ones(12 * 256, 1.0f), panel(256 * 32, 1.0f);
  double best_read = 1e9, best_flop = 1e9;
  for (int round = 0; round < 5; round++) {
    auto begin = Clock::now();
    pool_.run(n, [&](int i, int) { /* a product of one row with the data reads all of it once */
                                   k_.gemm(1, kLanes, static_cast<int32_t>(part / kLanes),
                                           data.data() + i * part, 0, data.data() + i * part, kLanes,
                                           &sink[static_cast<size_t>(i) * kLanes * 12], kLanes, false);
    });
    best_read = std::min(best_read, seconds(begin));
    begin = Clock::now();
    pool_.run(n, [&](int i, int) {
      for (int j = 0; j < 200; j++) {
        k_.gemm(12, kLanes, 256, ones.data(), 256, panel.data(), kLanes,
                &sink[static_cast<size_t>(i) * kLanes * 12], kLanes, false);
      }
    });
    best_flop = std::min(best_flop, seconds(begin));
  }
  *gb_per_s = static_cast<double>(part) * n * 4 / best_read * 1e-9;
  *gflop_per_s = 2.0 * 12 * kLanes * 256 * 200 * n / best_flop * 1e-9;
}

namespace {

const Kernels& kernels_for(const char* isa) {
  const std::string wanted = isa == nullptr ? "" : isa;
  EK_REQUIRE(wanted.empty() || wanted == "scalar" || wanted == "avx2" || wanted == "avx512",
             "ek_context_create: isa must be scalar, avx2 or avx512, got %s", wanted.c_str());
#if defined(__x86_64__)
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && (wanted.empty() || wanted == "avx512")) return kAvx512;
  if (avx2 && (wanted.empty() || wanted == "avx2")) return kAvx2;
#endif
  if (wanted.empty() || wanted == "scalar") return kScalar;
  throw DeviceError(format("ek_context_create: this machine has no %s", wanted.c_str()));
}

}  // namespace

}  // namespace ek::cpu

namespace ek {

std::shared_ptr<Backend> make_cpu_backend(int32_t n_threads, const char* isa) {
  const int available = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return std::make_shared<cpu::CpuBackend>(cpu::kernels_for(isa), n_threads == 0 ? available : n_threads);
}

}  // namespace ek
