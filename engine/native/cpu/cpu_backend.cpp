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
  constexpr int32_t kRows = 16; /* rows per item: some microseconds */
  pool_.run((n_rows + kRows - 1) / kRows, [&](int item, int) {
    for (int32_t r = item * kRows; r < std::min(n_rows, (item + 1) * kRows); r++) {
      k_.rmsnorm(out + static_cast<size_t>(r) * dim, x + static_cast<size_t>(r) * dim, weight, dim, eps);
    }
  });
}

void CpuBackend::argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) {
  const int32_t padded = round_up(vocab, kLanes);
  reserve(padded);
  pool_.run(n_rows, [&](int r, int thread) {
    const float* row = logits + static_cast<size_t>(r) * vocab;
    const float top = k_.largest(row, vocab);
    const float* best = std::find(row, row + vocab, top);
    float* e = scratch(thread);
    std::memcpy(e, row, sizeof(float) * vocab);
    std::fill(e + vocab, e + padded, -INFINITY);
    /* A NaN is never chosen, and makes the log-probability NaN; a row of nothing else gives 0. */
    ids[r] = best == row + vocab ? 0 : static_cast<int32_t>(best - row);
    log_probs[r] = -std::log(k_.exp_sum(e, padded, top));
  });
}

void CpuBackend::measure_limits(size_t n_bytes, double* gb_per_s, double* gflop_per_s) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from) {
    return std::chrono::duration<double>(Clock::now() - from).count();
  };
  constexpr int32_t kColumns = 256, kRows = 12, kRepeats = 200, kGroups = 4;
  const int n = pool_.n_threads();
  const int32_t n_cols = static_cast<int32_t>(n_bytes / n / (sizeof(float) * kLanes * kGroups)) + 1;
  const size_t group_bytes = sizeof(float) * kLanes * n_cols, width = static_cast<size_t>(kLanes) * kPanels;
  Aligned<uint8_t> data;
  std::memset(data.reserve(group_bytes * kGroups * n), 0, group_bytes * kGroups * n);
  const std::vector<float> ones(std::max(n_cols, kRows * kColumns), 1.0f), panels(width * kColumns, 1.0f);
  reserve(kRows * width + kGroups * kLanes);
  double best_read = INFINITY, best_flop = INFINITY;
  for (int round = 0; round < 5; round++) {
    auto begin = Clock::now();
    pool_.run(n, [&](int i, int thread) {
      const float* x = ones.data();
      float* out = scratch(thread);
      k_.matvec(EK_F32, data.data() + i * kGroups * group_bytes, group_bytes, kGroups, n_cols, &x, &out, 1);
    });
    best_read = std::min(best_read, seconds(begin));
    begin = Clock::now();
    pool_.run(n, [&](int, int thread) {
      for (int j = 0; j < kRepeats; j++) {
        k_.gemm_panels(kRows, kPanels, kColumns, ones.data(), kColumns, panels.data(), scratch(thread),
                       width);
      }
    });
    best_flop = std::min(best_flop, seconds(begin));
  }
  *gb_per_s = static_cast<double>(group_bytes) * kGroups * n / best_read * 1e-9;
  *gflop_per_s = 2.0 * kRows * static_cast<double>(width) * kColumns * kRepeats * n / best_flop * 1e-9;
}

namespace {

const Kernels& kernels_for(const char* isa) {
  const std::string wanted = isa == nullptr ? "" : isa;
  EK_REQUIRE(
      wanted.empty() || wanted == "scalar" || wanted == "avx2" || wanted == "avx512" || wanted == "neon",
      "ek_context_create: isa must be scalar, avx2, avx512 or neon, got %s", wanted.c_str());
#if defined(__x86_64__)
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && (wanted.empty() || wanted == "avx512")) return kAvx512;
  if (avx2 && (wanted.empty() || wanted == "avx2")) return kAvx2;
#elif defined(__aarch64__)
  if (wanted.empty() || wanted == "neon") return kNeon;
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
