/* The card's own limits, which benchmarks print their share of. */
#include <algorithm>

#include "../device/ptx.cuh"
#include "../device/stopwatch.h"
#include "ops.h"

namespace ek::cuda {

namespace {

__global__ void copy_kernel(uint4* out, const uint4* in, size_t n) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    out[i] = in[i];
}

constexpr int kAccumulators = 16, kRounds = 4096;

__global__ void multiply_add_kernel(float* out, float a, float b) {
  float x[kAccumulators];
  for (int i = 0; i < kAccumulators; i++) x[i] = static_cast<float>(threadIdx.x + i);
  for (int r = 0; r < kRounds; r++) {
    for (int i = 0; i < kAccumulators; i++) x[i] = fmaf(x[i], a, b);
  }
  float sum = 0;
  for (int i = 0; i < kAccumulators; i++) sum += x[i];
  if (sum == 1e30f) out[0] = sum; /* never: keeps the loop */
}

constexpr int kProducts = 8, kProductRounds = 2048;

/* Independent products of a warp, with nothing to load. */
__global__ void matrix_kernel(float* out) {
  float c[kProducts][4] = {};
  const uint32_t one = 0x3f803f80u * (threadIdx.x < 1024); /* pairs of 1, unknown to the compiler */
  for (int r = 0; r < kProductRounds; r++) {
#pragma unroll
    for (int i = 0; i < kProducts; i++) mma_bf16(c[i], one, one, one, one, one, one);
  }
  float sum = 0;
  for (int i = 0; i < kProducts; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
  if (sum == 1e30f) out[0] = sum; /* never: keeps the loop */
}

constexpr int kGroupThreads = 128, kGroupRounds = 512, kTileBytes = 16 * 128 * 2;

/* Products of a group of warps, 64 x 128 with 16 columns summed; the right matrix lies in shared memory. */
__global__ void matrix_groups_kernel(float* out) {
  uint32_t* tile = aligned_shared<uint32_t>();
  const uint32_t one = 0x3f803f80u * (threadIdx.x < 1024), left[4] = {one, one, one, one};
  for (int i = threadIdx.x; i < kTileBytes / 4; i += kGroupThreads) tile[i] = one;
  publish_shared();
  __syncthreads();
  float c[16][4] = {};
  for (int r = 0; r < kGroupRounds; r++) {
    begin_group_products();
#pragma unroll
    for (int i = 0; i < kProducts; i++) multiply_group(c, left, shared_tile(tile, kTileBytes / 2));
    commit_group_products();
    wait_for_group_products<0>();
  }
  float sum = 0;
  for (int n = 0; n < 16; n++) sum += c[n][0] + c[n][1] + c[n][2] + c[n][3];
  if (sum == 1e30f) out[0] = sum; /* never: keeps the loop */
}

constexpr int kTries = 5;

/* TFLOP/s of `products` of so many operations in a time. */
double rate(double products, double operations, float ms) { return products * operations / ms * 1e-9; }

}  // namespace

double measure_matrix_rate(Device& d) {
  DeviceMemory out(sizeof(float));
  const int blocks = d.n_multiprocessors() * 4, warps = 8;
  const float ms = best_ms(d, kTries, [&] {
    launch(d.stream, "matrix_kernel", {blocks, warps * 32}, matrix_kernel, out.as<float>());
  });
  const double by_warps =
      rate(static_cast<double>(kProducts) * kProductRounds * warps * blocks, 2 * 16 * 8 * 16, ms);
  if (!multiplies_in_groups()) return by_warps;
  const float groups_ms = best_ms(d, kTries, [&] {
    launch(d.stream, "matrix_groups_kernel", {blocks, kGroupThreads, kTileBytes}, matrix_groups_kernel,
           out.as<float>());
  });
  return std::max(by_warps,
                  rate(static_cast<double>(kProducts) * kGroupRounds * blocks, 2 * 64 * 128 * 16, groups_ms));
}

void measure_limits(Device& d, size_t n_bytes, double* gb_per_s, double* gflop_per_s) {
  const size_t n = n_bytes / 2 / sizeof(uint4);
  DeviceMemory from(n * sizeof(uint4)), to(n * sizeof(uint4));
  check(cudaMemsetAsync(from.as(), 1, from.n_bytes(), d.stream), "filling memory");
  const int blocks = d.n_multiprocessors() * 8;
  const float copy_ms = best_ms(d, kTries, [&] {
    launch(d.stream, "copy_kernel", {blocks, 512}, copy_kernel, to.as<uint4>(), from.as<uint4>(), n);
  });
  const float flop_ms = best_ms(d, kTries, [&] {
    launch(d.stream, "multiply_add_kernel", {blocks, 256}, multiply_add_kernel, to.as<float>(), 0.999f, 0.5f);
  });
  *gb_per_s = 2.0 * static_cast<double>(n) * sizeof(uint4) / copy_ms * 1e-6;
  *gflop_per_s = 2.0 * kAccumulators * kRounds * 256.0 * blocks / flop_ms * 1e-6;
}

}  // namespace ek::cuda
