/* The blocks that a token selects, from the mass of each. */
#ifndef EK_CUDA_NSA_CHOOSE_CUH
#define EK_CUDA_NSA_CHOOSE_CUH
#include "../decode/select.cuh"
#include "rule.h"

namespace ek::cuda {

/* Below the normal range blocks tie, as in the reference; a mass that is no number loses to all others. */
__device__ inline float comparable_mass(float mass) { return mass >= 1.17549435e-38f ? mass : 0.0f; }

/* What a block competes with: its mass, from 1 on; 0 does not compete. */
__device__ inline uint32_t block_key(const NsaRule& rule, int32_t block, int32_t own, float mass) {
  return rule.is_forced(block, own) ? 0 : __float_as_uint(comparable_mass(mass)) + 1;
}

/* Keys that all differ: of equal masses the lower block has the larger one. */
__device__ inline uint64_t ordered_key(uint32_t key, int32_t block) {
  return key == 0 ? 0 : static_cast<uint64_t>(key) << 32 | (0xffffffffu - static_cast<uint32_t>(block));
}
__device__ inline int32_t block_of_key(uint64_t key) {
  return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key));
}

/* The keys of all blocks as least_of_best takes them. */
struct MassKeys {
  const uint32_t* key; /* of block_key */

  __device__ uint64_t operator[](int32_t block) const { return ordered_key(key[block], block); }
};

constexpr int kKeyGroups = kWarp, kMostFound = 256;

/* The top-th largest of a number of each of kKeyGroups groups, in shared memory. A warp. */
__device__ inline uint32_t least_of_groups(const uint4* most, int32_t top) {
  const uint32_t mine = reinterpret_cast<const uint32_t*>(most)[threadIdx.x % kWarp];
  int32_t before = 0;
#pragma unroll
  for (int i = 0; i < kKeyGroups / 4; i++) {
    const uint4 v = most[i];
    before += (v.x > mine) + (v.y > mine) + (v.z > mine) + (v.w > mine);
  }
  return __reduce_min_sync(0xffffffffu, before < top ? mine : 0xffffffffu);
}

/* A key that at least `top` of the blocks reach, at most kKeyGroups: the top-th largest of the largest keys
 * of kKeyGroups groups. Few blocks reach it, where none stand together that were chosen together. All Threads
 * threads of the block call. */
template <int Threads>
__device__ uint32_t least_mass(const MassKeys& keys, int32_t n, int32_t top) {
  constexpr int kGroupLanes = Threads / kKeyGroups;
  static_assert(kGroupLanes * kKeyGroups == Threads && kGroupLanes <= kWarp, "whole groups in a warp");
  __shared__ uint4 most[kKeyGroups / 4];
  uint32_t own = 0;
  for (int32_t j = threadIdx.x; j < n; j += Threads) own = max(own, keys.key[j]);
  /* Lanes far apart are a group: blocks beside each other often have much mass together. */
  for (int d = kWarp / kGroupLanes; d < kWarp; d *= 2) own = max(own, __shfl_xor_sync(0xffffffffu, own, d));
  constexpr int kWarpGroups = kWarp / kGroupLanes;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (lane < kWarpGroups) reinterpret_cast<uint32_t*>(most)[warp * kWarpGroups + lane] = own;
  __syncthreads();
  return least_of_groups(most, top);
}

/* best[i] (shared) = the block with the i-th largest key of n, i < top; no key is 0 but of those that do not
 * compete, and no two others are equal. All Threads threads of the block call; complete behind a barrier. */
template <int Threads>
__device__ void rank_best(const MassKeys& key, int32_t n, int32_t top, int32_t* best) {
  __shared__ uint64_t found[kMostFound];
  __shared__ int32_t n_found;
  const auto find = [&](uint64_t least) {
    for (int32_t j = threadIdx.x; j < n; j += Threads) {
      const uint64_t own = key[j];
      if (own == 0 || own < least) continue;
      const int32_t i = atomicAdd(&n_found, 1);
      if (i < kMostFound) found[i] = own;
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
    if (before < top) best[before] = block_of_key(found[i]);
  }
}

/* list (kMostSelected, shared) = the blocks of the token at t in ascending order; returns how many. The
 * caller has written key(j) of every block up to the token's own, if these are more than are selected. All
 * Threads threads of the block call. */
template <int Threads>
__device__ int32_t list_best(const NsaRule& rule, int32_t t, const MassKeys& key, int32_t* list) {
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
