/* The blocks that a token selects, from the mass of each. */
#ifndef EK_CUDA_NSA_CHOOSE_CUH
#define EK_CUDA_NSA_CHOOSE_CUH
#include "../decode/select.cuh"
#include "rule.h"

namespace ek::cuda {

/* Below the normal range blocks tie, as in the reference; a mass that is no number loses to all others. */
__device__ inline float comparable_mass(float mass) { return mass >= 1.17549435e-38f ? mass : 0.0f; }

/* What least_of_best compares blocks by: of equal masses the lower index wins, and 0 does not compete. */
__device__ inline uint64_t block_key(const NsaRule& rule, int32_t block, int32_t own, float mass) {
  if (rule.is_forced(block, own)) return 0;
  return static_cast<uint64_t>(__float_as_uint(comparable_mass(mass))) << 32 |
         (0xffffffffu - static_cast<uint32_t>(block));
}

/* list (kMostSelected, shared) = the blocks of the token at t in ascending order; returns how many. The
 * caller has written key(j) of every block up to the token's own, if these are more than are selected. All
 * Threads threads of the block call. */
template <int Threads>
__device__ int32_t list_best(const NsaRule& rule, int32_t t, const uint64_t* key, int32_t* list) {
  __shared__ int32_t found[kMostSelected], n_found;
  const int32_t own = t / 64, n = rule.n_selected(t);
  if (n == own + 1) {
    for (int32_t j = threadIdx.x; j < n; j += Threads) list[j] = j;
    __syncthreads();
    return n;
  }
  if (threadIdx.x == 0) n_found = 0;
  __syncthreads();
  const int32_t free = n - rule.initial - rule.local;
  const uint64_t least = free > 0 ? least_of_best<Threads>(key, own + 1, free) : ~uint64_t{0};
  for (int32_t j = threadIdx.x; j <= own; j += Threads) {
    if (key[j] >= least || rule.is_forced(j, own)) found[atomicAdd(&n_found, 1)] = j;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < n; i += Threads) {
    int32_t before = 0;
    for (int32_t k = 0; k < n; k++) before += found[k] < found[i];
    list[before] = found[i];
  }
  __syncthreads();
  return n;
}

}  // namespace ek::cuda
#endif
