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

constexpr int kKeyGroups = kWarp, kMostFound = 256;

/* A mass that at least `top` of the blocks have, at most kKeyGroups, as the upper half of a key: the top-th
 * largest of the largest masses of kKeyGroups groups. Few blocks have it, where none stand together that were
 * chosen together. All Threads threads of the block call. */
template <int Threads>
__device__ uint32_t least_mass(const uint64_t* key, int32_t n, int32_t top) {
  constexpr int kGroupLanes = Threads / kKeyGroups;
  static_assert(kGroupLanes * kKeyGroups == Threads && kGroupLanes <= kWarp, "whole groups in a warp");
  __shared__ uint4 most[kKeyGroups / 4];
  uint32_t own = 0;
  for (int32_t j = threadIdx.x; j < n; j += Threads) own = max(own, static_cast<uint32_t>(key[j] >> 32));
  /* Lanes far apart are a group: blocks beside each other often have much mass together. */
  for (int d = kWarp / kGroupLanes; d < kWarp; d *= 2) own = max(own, __shfl_xor_sync(0xffffffffu, own, d));
  constexpr int kWarpGroups = kWarp / kGroupLanes;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  uint32_t* largest = reinterpret_cast<uint32_t*>(most);
  if (lane < kWarpGroups) largest[warp * kWarpGroups + lane] = own;
  __syncthreads();
  const uint32_t mine = largest[lane];
  int32_t before = 0;
#pragma unroll
  for (int i = 0; i < kKeyGroups / 4; i++) {
    const uint4 v = most[i];
    const uint32_t of[4] = {v.x, v.y, v.z, v.w};
    for (int k = 0; k < 4; k++) before += of[k] > mine || (of[k] == mine && i * 4 + k < lane);
  }
  const uint32_t holder = __ballot_sync(0xffffffffu, before == top - 1);
  return __shfl_sync(0xffffffffu, mine, 31 - __clz(static_cast<int>(holder)));
}

/* best[i] (shared) = the block with the i-th largest key of n, i < top; no key is 0 but of those that do not
 * compete, and no two others are equal. All Threads threads of the block call; complete behind a barrier. */
template <int Threads>
__device__ void rank_best(const uint64_t* key, int32_t n, int32_t top, int32_t* best) {
  __shared__ uint64_t found[kMostFound];
  __shared__ int32_t n_found;
  const auto find = [&](uint64_t least) {
    for (int32_t j = threadIdx.x; j < n; j += Threads) {
      if (key[j] == 0 || key[j] < least) continue;
      const int32_t i = atomicAdd(&n_found, 1);
      if (i < kMostFound) found[i] = key[j];
    }
    __syncthreads();
  };
  if (threadIdx.x == 0) n_found = 0;
  if (top <= kKeyGroups) {
    find(static_cast<uint64_t>(least_mass<Threads>(key, n, top)) << 32);
  } else {
    __syncthreads();
  }
  const bool complete = top <= kKeyGroups && n_found <= kMostFound;
  if (!complete) {
    const uint64_t least = least_of_best<Threads>(key, n, top);
    if (threadIdx.x == 0) n_found = 0;
    __syncthreads();
    find(least);
  }
  for (int32_t i = threadIdx.x; i < n_found; i += Threads) {
    int32_t before = 0;
    for (int32_t k = 0; k < n_found; k++) before += found[k] > found[i];
    if (before < top) best[before] = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(found[i]));
  }
}

/* list (kMostSelected, shared) = the blocks of the token at t in ascending order; returns how many. The
 * caller has written key(j) of every block up to the token's own, if these are more than are selected. All
 * Threads threads of the block call. */
template <int Threads>
__device__ int32_t list_best(const NsaRule& rule, int32_t t, const uint64_t* key, int32_t* list) {
  __shared__ int32_t best[kMostSelected];
  const int32_t own = t / 64, n = rule.n_selected(t);
  if (n == own + 1) {
    for (int32_t j = threadIdx.x; j < n; j += Threads) list[j] = j;
    __syncthreads();
    return n;
  }
  __syncthreads();
  const int32_t free = n - rule.initial - rule.local;
  if (free > 0) rank_best<Threads>(key, own + 1, free, best);
  for (int32_t i = threadIdx.x; i < n; i += Threads) {
    if (i < rule.initial) list[i] = i;
    if (i >= n - rule.local) list[i] = own + 1 - n + i;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < free; i += Threads) {
    int32_t before = 0;
    for (int32_t k = 0; k < free; k++) before += best[k] < best[i];
    list[rule.initial + before] = best[i];
  }
  __syncthreads();
  return n;
}

}  // namespace ek::cuda
#endif
