/* Sums and maxima over a warp or a block, in an order that never changes. */
#ifndef EK_CUDA_OPS_REDUCE_CUH
#define EK_CUDA_OPS_REDUCE_CUH
#include "../device/ptx.cuh"

namespace ek::cuda {

constexpr int kWarp = 32;

__device__ inline float warp_sum(float x) {
  for (int d = kWarp / 2; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

__device__ inline float warp_max(float x) {
  for (int d = kWarp / 2; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}

/* Every thread of a block of Threads gets the result. All threads must call; shared: Threads / 32 floats. */
template <int Threads>
__device__ float block_sum(float x, float* shared) {
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < Threads / kWarp; i++) total += shared[i];
  __syncthreads();
  return total;
}

template <int Threads>
__device__ float block_max(float x, float* shared) {
  x = warp_max(x);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  float top = shared[0];
  for (int i = 1; i < Threads / kWarp; i++) top = fmaxf(top, shared[i]);
  __syncthreads();
  return top;
}

/* A value and its index; the larger value wins, of equal ones the lower index. index -1: nothing. */
struct Candidate {
  float value;
  int32_t index;
};

__device__ inline Candidate better(Candidate a, Candidate b) {
  if (b.index < 0) return a;
  if (a.index < 0) return b;
  if (a.value != b.value) return a.value > b.value ? a : b;
  return a.index < b.index ? a : b;
}

__device__ inline Candidate warp_best(Candidate c) {
  for (int d = kWarp / 2; d > 0; d /= 2) {
    const Candidate other{__shfl_xor_sync(0xffffffffu, c.value, d), __shfl_xor_sync(0xffffffffu, c.index, d)};
    c = better(c, other);
  }
  return c;
}

/* shared: Threads / 32 candidates. */
template <int Threads>
__device__ Candidate block_best(Candidate c, Candidate* shared) {
  c = warp_best(c);
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = c;
  __syncthreads();
  Candidate best = shared[0];
  for (int i = 1; i < Threads / kWarp; i++) best = better(best, shared[i]);
  __syncthreads();
  return best;
}

}  // namespace ek::cuda
#endif
