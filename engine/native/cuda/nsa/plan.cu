/* Between the pooled branch and the selected one: what every query selects, and what a tile of them needs. */
#include "choose.cuh"
#include "prefill.h"

namespace ek::cuda {

namespace {

constexpr int kChooseThreads = 128;

/* One query per block. Shared: a key per block up to its own, and a factor per pooled tile and head. */
__global__ void __launch_bounds__(kChooseThreads)
    select_queries_kernel(PooledMass mass, NsaRule rule, int32_t first, int32_t* lists) {
  __shared__ int32_t list[kMostSelected];
  uint64_t* key = dynamic_shared<uint64_t>();
  const size_t query = blockIdx.x;
  const int32_t t = first + static_cast<int32_t>(blockIdx.x);
  const int32_t n_tiles = (pooled_visible(t) + 63) / 64;
  float* factor = reinterpret_cast<float*>(key + t / 64 + 1);
  if (t / 64 + 1 > rule.selected) {
    for (int32_t i = threadIdx.x; i < n_tiles * kHeads; i += kChooseThreads) {
      const size_t row = query * kHeads + i % kHeads;
      factor[i] = exp2f(mass.base[row * mass.most_tiles + i / kHeads] - mass.top[row]) / mass.total[row];
    }
    __syncthreads();
  }
  const int32_t n = choose_blocks<kChooseThreads>(rule, t, key, list, [&](int32_t j) {
    const int32_t tile = j / 16, place = j % 2 * 8 + j % 16 / 2;
    float sum = 0;
#pragma unroll
    for (int h = 0; h < kHeads; h++) {
      const size_t at = (query * kHeads + h) * mass.most_tiles + tile;
      sum += mass.mass[at * 16 + place] * factor[tile * kHeads + h];
    }
    return sum;
  });
  for (int32_t i = threadIdx.x; i < n; i += kChooseThreads) lists[query * rule.selected + i] = list[i];
}

/* One tile of queries per block. Shared: members of each block of the sequence, and a mark. */
__global__ void __launch_bounds__(kSelectThreads)
    plan_tiles_kernel(TilePlans plans, NsaRule rule, const int32_t* lists, int32_t first, int32_t end) {
  uint32_t* member = dynamic_shared<uint32_t>();
  const int32_t at = (first / kTileQueries + static_cast<int32_t>(blockIdx.x)) * kTileQueries;
  const int32_t last = min(end, at + kTileQueries) - 1, n_blocks = last / 64 + 1;
  uint8_t* marked = reinterpret_cast<uint8_t*>(member + 4 * n_blocks);
  for (int32_t i = threadIdx.x; i < 4 * n_blocks; i += kSelectThreads) member[i] = 0;
  __syncthreads();
  for (int32_t i = threadIdx.x; i < kTileQueries * rule.selected; i += kSelectThreads) {
    const int32_t row = i / rule.selected, t = at + row;
    if (t < first || t > last || i % rule.selected >= rule.n_selected(t)) continue;
    const int32_t block = lists[static_cast<size_t>(t - first) * rule.selected + i % rule.selected];
    atomicAdd(member + block * 4 + row / 32, 1u << row % 32); /* each bit once */
  }
  __syncthreads();
  for (int32_t j = threadIdx.x; j < n_blocks; j += kSelectThreads)
    marked[j] = (member[4 * j] | member[4 * j + 1] | member[4 * j + 2] | member[4 * j + 3]) != 0;
  __syncthreads();
  const size_t plan = static_cast<size_t>(blockIdx.x) * plans.most;
  const int32_t n = visit_marked(marked, n_blocks, [&](int32_t i, int32_t j) {
    plans.block[plan + i] = j;
    plans.member[plan + i] = {member[4 * j], member[4 * j + 1], member[4 * j + 2], member[4 * j + 3]};
  });
  if (threadIdx.x == kSelectThreads - 1) plans.n[blockIdx.x] = n;
}

}  // namespace

void launch_select_queries(cudaStream_t stream, const PooledMass& mass, const NsaRule& rule, int32_t first,
                           int32_t end, int32_t* lists) {
  const size_t shared = sizeof(uint64_t) * static_cast<size_t>((end - 1) / 64 + 1) +
                        sizeof(float) * static_cast<size_t>(mass.most_tiles) * kHeads;
  launch(stream, "select_queries", {end - first, kChooseThreads, shared}, select_queries_kernel, mass, rule,
         first, lists);
}

void launch_plan_tiles(cudaStream_t stream, const TilePlans& plans, const NsaRule& rule, const int32_t* lists,
                       int32_t first, int32_t end) {
  const int32_t n_tiles = (end - 1) / kTileQueries - first / kTileQueries + 1;
  const size_t shared = (4 * sizeof(uint32_t) + 1) * static_cast<size_t>((end - 1) / 64 + 1);
  launch(stream, "plan_tiles", {n_tiles, kSelectThreads, shared}, plan_tiles_kernel, plans, rule, lists,
         first, end);
}

}  // namespace ek::cuda
