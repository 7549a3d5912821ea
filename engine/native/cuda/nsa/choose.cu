/* Between the pooled branch and the selected one: which blocks every query selects, and which queries every
 * block is selected by. */
#include "choose.cuh"
#include "prefill_kernels.h"

namespace ek::cuda {

namespace {

constexpr int kChooseThreads = 128;

/* One query per block. Shared: a key per block up to its own, and a factor per head and pooled tile. */
__global__ void __launch_bounds__(kChooseThreads)
    select_queries_kernel(PooledMass mass, NsaRule rule, int32_t first, int32_t* lists) {
  __shared__ int32_t list[kMostSelected];
  uint32_t* key = dynamic_shared<uint32_t>();
  const size_t query = blockIdx.x;
  const int32_t t = first + static_cast<int32_t>(blockIdx.x);
  const int32_t own = t / 64, n_tiles = (pooled_visible(t) + 63) / 64;
  float* factor = reinterpret_cast<float*>(key + own + 1);
  if (own + 1 > rule.selected) {
    for (int h = threadIdx.x / kWarp; h < kHeads; h += kChooseThreads / kWarp) {
      const size_t row = query * kHeads + h;
      const float top = mass.top[row], scale = 1.0f / mass.total[row];
      for (int32_t tile = threadIdx.x % kWarp; tile < n_tiles; tile += kWarp)
        factor[h * mass.most_tiles + tile] = exp2f(mass.base[row * mass.most_tiles + tile] - top) * scale;
    }
    __syncthreads();
    for (int32_t j = threadIdx.x; j <= own; j += kChooseThreads) {
      const int32_t tile = j / 16, place = j % 8 / 2 * 4 + j % 16 / 8 * 2 + j % 2;
      float sum = 0;
      if (!rule.is_forced(j, own)) {
#pragma unroll
        for (int h = 0; h < kHeads; h++) {
          const size_t at = (query * kHeads + h) * mass.most_tiles + tile;
          sum += __half2float(mass.mass[at * 16 + place]) * factor[h * mass.most_tiles + tile];
        }
      }
      key[j] = block_key(rule, j, own, sum);
    }
  }
  const int32_t n = list_best<kChooseThreads>(rule, t, MassKeys{key}, list);
  for (int32_t i = threadIdx.x; i < n; i += kChooseThreads) lists[query * rule.selected + i] = list[i];
}

constexpr int kPairThreads = 256;

/* Entry i % selected of the list of query i / selected, where that is a block that competes. */
struct Entry {
  int32_t query, block;
  bool competes;
};

__device__ Entry entry_of(const NsaRule& rule, const int32_t* lists, int32_t first, int32_t end) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * kPairThreads + threadIdx.x), query = i / rule.selected;
  const int32_t t = first + query;
  if (t >= end || i % rule.selected >= rule.n_selected(t)) return {query, 0, false};
  const int32_t block = lists[i];
  return {query, block, !rule.is_forced(block, t / 64)};
}

__global__ void __launch_bounds__(kPairThreads)
    count_pairs_kernel(ChosenPairs pairs, NsaRule rule, const int32_t* lists, int32_t first, int32_t end) {
  const Entry e = entry_of(rule, lists, first, end);
  if (e.competes) atomicAdd(pairs.count + e.block, 1);
}

/* Exclusive sums of a number of every thread of the block, and the sum of all. */
struct Places {
  int32_t before, total;
};
__device__ Places places_of(int32_t own) {
  __shared__ int32_t warp_total[kSelectThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int32_t upto = own, total = 0, before = 0;
  for (int d = 1; d < kWarp; d *= 2) {
    const int32_t other = __shfl_up_sync(0xffffffffu, upto, d);
    if (lane >= d) upto += other;
  }
  __syncthreads();
  if (lane == kWarp - 1) warp_total[warp] = upto;
  __syncthreads();
  for (int w = 0; w < kSelectThreads / kWarp; w++) {
    if (w < warp) before += warp_total[w];
    total += warp_total[w];
  }
  return {before + upto - own, total};
}

/* One block: where the pairs of each block begin, and their tiles. */
__global__ void __launch_bounds__(kSelectThreads) place_pairs_kernel(ChosenPairs pairs, int32_t n_blocks) {
  const int32_t each = (n_blocks + kSelectThreads - 1) / kSelectThreads;
  const int32_t begin = min(n_blocks, static_cast<int32_t>(threadIdx.x) * each),
                end = min(n_blocks, begin + each);
  int32_t n_pairs = 0, n_tiles = 0;
  for (int32_t j = begin; j < end; j++) {
    n_pairs += pairs.count[j];
    n_tiles += (pairs.count[j] + kPairTile - 1) / kPairTile;
  }
  int32_t pair = places_of(n_pairs).before;
  const Places tiles = places_of(n_tiles);
  int32_t tile = tiles.before;
  for (int32_t j = begin; j < end; j++) {
    const int32_t last = pair + pairs.count[j];
    pairs.cursor[j] = pair;
    for (; pair < last; tile++) {
      pairs.tile_block[tile] = j;
      pairs.tile_first[tile] = pair;
      pair = min(last, pair + kPairTile);
      pairs.tile_end[tile] = pair;
    }
  }
  if (threadIdx.x == 0) *pairs.n_tiles = tiles.total;
}

/* The order of a block's pairs is chance; every pair has a slot of its own, so that nothing depends on it. */
__global__ void __launch_bounds__(kPairThreads)
    scatter_pairs_kernel(ChosenPairs pairs, NsaRule rule, int32_t slots, const int32_t* lists, int32_t first,
                         int32_t end) {
  const Entry e = entry_of(rule, lists, first, end);
  if (!e.competes) return;
  /* The initial blocks lead every list, and the other forced ones end it. */
  const int32_t i = static_cast<int32_t>(blockIdx.x * kPairThreads + threadIdx.x);
  const int32_t slot = kForcedSlots + i % rule.selected - rule.initial;
  pairs.pair[atomicAdd(pairs.cursor + e.block, 1)] = e.query * slots + slot;
}

}  // namespace

void launch_select_queries(cudaStream_t stream, const PooledMass& mass, const NsaRule& rule, int32_t first,
                           int32_t end, int32_t* lists) {
  const size_t shared = sizeof(uint32_t) * static_cast<size_t>((end - 1) / 64 + 1) +
                        sizeof(float) * static_cast<size_t>(mass.most_tiles) * kHeads;
  launch(stream, "select_queries", {end - first, kChooseThreads, shared}, select_queries_kernel, mass, rule,
         first, lists);
}

void launch_pair_blocks(cudaStream_t stream, const ChosenPairs& pairs, const NsaRule& rule, int32_t slots,
                        const int32_t* lists, int32_t first, int32_t end) {
  const int32_t n_blocks = (end - 1) / 64 + 1;
  const Grid entries(ceil_div(int64_t{end - first} * rule.selected, kPairThreads));
  check(cudaMemsetAsync(pairs.count, 0, static_cast<size_t>(n_blocks) * sizeof(int32_t), stream),
        "clearing counters");
  launch(stream, "count_pairs", {entries, kPairThreads}, count_pairs_kernel, pairs, rule, lists, first, end);
  launch(stream, "place_pairs", {1, kSelectThreads}, place_pairs_kernel, pairs, n_blocks);
  launch(stream, "scatter_pairs", {entries, kPairThreads}, scatter_pairs_kernel, pairs, rule, slots, lists,
         first, end);
}

}  // namespace ek::cuda
