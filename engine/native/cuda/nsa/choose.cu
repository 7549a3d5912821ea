/* Between the pooled branch and the selected one: which blocks every query selects, and which queries every
 * block is selected by. */
#include "choose.cuh"
#include "prefill_kernels.h"

namespace ek::cuda {

namespace {

constexpr int kChooseThreads = 128, kHeadsAtOnce = 4;

/* The keys of eight blocks of a tile, two of each four: lanes 2 i and 2 i + 1, pairs 0 and 1, have those of a
 * tile. Of a head, lane 2 i finds what a tile's masses are worth in the softmax over all pooled rows, and the
 * other one that of the tile before, whose last row counts for the first block. All lanes of a warp call. */
__device__ void find_keys(const PooledMass& mass, const NsaRule& rule, size_t query, int32_t own,
                          int32_t tile, int32_t n_tiles, uint32_t* key) {
  constexpr int kMasses = 8;
  const int32_t pair = threadIdx.x % 2, of = tile - pair;
  const bool exists = tile < n_tiles, has_base = of >= 0 && of < n_tiles;
  float sum[kMasses] = {};
#pragma unroll 1
  for (int first = 0; first < kHeads; first += kHeadsAtOnce) {
    uint4 masses[kHeadsAtOnce];
    TileBase base[kHeadsAtOnce];
    float total[kHeadsAtOnce];
#pragma unroll
    for (int h = 0; h < kHeadsAtOnce; h++) {
      const __half* from = mass.mass + (mass.place(first + h, tile) + query) * 16 + pair * kMasses;
      masses[h] = exists ? *reinterpret_cast<const uint4*>(from) : uint4{};
      base[h] = has_base ? mass.base[mass.place(first + h, of) + query] : TileBase{-INFINITY, 0};
      total[h] = mass.total[query * kHeads + first + h];
    }
#pragma unroll
    for (int h = 0; h < kHeadsAtOnce; h++) {
      const float worth = exp2_approx(base[h].base - total[h]), carry = base[h].last * worth;
      const float other_worth = __shfl_xor_sync(0xffffffffu, worth, 1),
                  other_carry = __shfl_xor_sync(0xffffffffu, carry, 1);
      const float factor = pair == 0 ? worth : other_worth;
      if (pair == 0) sum[0] += other_carry;
      for (int i = 0; i < kMasses; i++)
        sum[i] += __half2float(reinterpret_cast<const __half*>(&masses[h])[i]) * factor;
    }
  }
#pragma unroll
  for (int i = 0; i < kMasses; i++) {
    const int32_t j = tile * 16 + i % 4 / 2 * 8 + pair * 4 + i / 4 * 2 + i % 2;
    if (j <= own) key[j] = block_key(rule, j, own, sum[i]);
  }
}

/* Counts the blocks of a list that compete, and gives each of its pairs a number among those of the block. */
__device__ void count_pairs(const ChosenPairs& pairs, const NsaRule& rule, int32_t query, int32_t own,
                            int32_t n, const int32_t* list) {
  for (int32_t i = threadIdx.x; i < n; i += kChooseThreads) {
    if (rule.is_forced(list[i], own)) continue;
    pairs.number[query * rule.selected + i] = atomicAdd(pairs.count + list[i], 1);
  }
}

/* `together` of the n choosers per block, whose masses lie beside each other: 1, 2 or 4. Shared: a key of
 * each per block up to the last one's own, n_keys. in_group: the first one's place in its group; without
 * pairs nothing is counted. */
__global__ void __launch_bounds__(kChooseThreads)
    select_blocks_kernel(PooledMass mass, ChosenPairs pairs, NsaRule rule, int32_t first, int32_t all,
                         int32_t in_group, int32_t together, int32_t n_keys, int32_t* lists) {
  __shared__ int32_t list[kMostSelected];
  uint32_t* key = dynamic_shared<uint32_t>();
  const int32_t query = static_cast<int32_t>(blockIdx.x) * together, n = min(together, all - query);
  const int32_t last_own = (first + (query + n - 1) * rule.sharing) / 64;
  if (last_own + 1 > rule.selected) {
    const int32_t own_query = static_cast<int32_t>(threadIdx.x) / 2 % together;
    const int32_t chooser = query + min(own_query, n - 1), t = first + chooser * rule.sharing,
                  step = kChooseThreads / 2 / together;
    for (int32_t tile = 0; tile <= last_own / 16; tile += step)
      find_keys(mass, rule, static_cast<size_t>(chooser), t / 64,
                tile + static_cast<int32_t>(threadIdx.x) / 2 / together, (pooled_visible(t) + 63) / 64,
                key + own_query * n_keys);
  }
  for (int32_t i = 0; i < n; i++) {
    const int32_t t = first + (query + i) * rule.sharing;
    const int32_t n_selected = list_best<kChooseThreads>(rule, t, MassKeys{key + i * n_keys}, list);
    if (pairs.count != nullptr) count_pairs(pairs, rule, in_group + query + i, t / 64, n_selected, list);
    for (int32_t k = threadIdx.x; k < n_selected; k += kChooseThreads)
      lists[(query + i) * rule.selected + k] = list[k];
    __syncthreads(); /* nobody needs the list */
  }
}

constexpr int kPairThreads = 256;

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
    pairs.first[j] = pair;
    for (; pair < last; tile++) {
      const int32_t tile_end = min(last, pair + kPairTile);
      pairs.tile[tile] = {j, pair, tile_end};
      pair = tile_end;
    }
  }
  if (threadIdx.x == 0) *pairs.n_tiles = tiles.total;
}

/* A thread per entry of a list. The order of a block's pairs is chance; every pair has a slot of its own, so
 * that nothing depends on it. */
__global__ void __launch_bounds__(kPairThreads)
    scatter_pairs_kernel(ChosenPairs pairs, NsaRule rule, int32_t slots, const int32_t* lists, int32_t first,
                         int32_t end) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * kPairThreads + threadIdx.x), query = i / rule.selected,
                entry = i % rule.selected, t = first + query;
  if (t >= end || entry >= rule.n_selected(t)) return;
  const int32_t block = lists[i];
  if (rule.is_forced(block, t / 64)) return;
  /* The initial blocks lead every list, and the other forced ones end it. */
  pairs.pair[pairs.first[block] + pairs.number[i]] = query * slots + kForcedSlots + entry - rule.initial;
}

}  // namespace

void launch_select_blocks(cudaStream_t stream, const PooledMass& mass, const ChosenPairs& pairs,
                          const NsaRule& rule, int32_t group, int32_t first, int32_t end, int32_t* lists) {
  const int32_t n = ceil_div(end - first, rule.sharing), n_keys = (end - 1) / 64 + 1,
                together = n_keys <= 2048 ? 4 : 1;
  launch(stream, "select_blocks",
         {ceil_div(n, together), kChooseThreads, sizeof(uint32_t) * static_cast<size_t>(n_keys * together)},
         select_blocks_kernel, mass, pairs, rule, first, n, first - group, together, n_keys, lists);
}

void launch_clear_pairs(cudaStream_t stream, const ChosenPairs& pairs, int32_t end) {
  check(cudaMemsetAsync(pairs.count, 0, static_cast<size_t>((end - 1) / 64 + 1) * sizeof(int32_t), stream),
        "clearing counters");
}

void launch_pair_blocks(cudaStream_t stream, const ChosenPairs& pairs, const NsaRule& rule, int32_t slots,
                        const int32_t* lists, int32_t first, int32_t end) {
  const Grid entries(ceil_div(int64_t{end - first} * rule.selected, kPairThreads));
  launch(stream, "place_pairs", {1, kSelectThreads}, place_pairs_kernel, pairs, (end - 1) / 64 + 1);
  launch(stream, "scatter_pairs", {entries, kPairThreads}, scatter_pairs_kernel, pairs, rule, slots, lists,
         first, end);
}

}  // namespace ek::cuda
