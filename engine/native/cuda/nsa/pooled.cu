/* The pooled branch of tiles of 128 queries of a head, and the masses by which they select. */
#include "queries.cuh"

namespace ek::cuda {

namespace {

/* With weights of at most 2^12 masses are at most 2^15: so they fit into f16, and small ones keep their bits.
 * bf16 would be too coarse for blocks that are nearly equal. */
constexpr int kMassWeightLog2 = 12;

/* Columns behind the values: what a tile's pooled rows count for in the masses of the blocks that begin with
 * rows 0, 4, 8, …: a block has twice its rows 0 to 2, its row 3, and the row before it. */
template <class P>
__device__ void write_factors(__nv_bfloat16* to) {
  for (int i = threadIdx.x; i < 16 * kBlockRows; i += QueryTile<P>::kThreads) {
    const int row = i / 16, block = i % 16, ahead = row - 4 * block;
    const float factor = ahead >= 0 && ahead < 3 ? 2.0f : ahead == 3 || ahead == -1 ? 1.0f : 0.0f;
    to[P::More::at(row, block / 8) + block % 8] = __float2bfloat16_rn(factor);
  }
}

/* Place of the tile's first query among those of the run that are the first of theirs. */
template <class P>
__device__ int32_t chooser_of(const QueryTile<P>& tile) {
  return (tile.at - tile.first) / kTileQueries;
}

/* Stores the masses of each block of pooled rows, for attend_blocks: sums of the weights that values meet, in
 * bf16. kFirst: of the tile's first query alone, which selects for all of them. */
template <class P, bool kFirst>
struct StoreMasses {
  static constexpr int kWeightLog2 = kMassWeightLog2;
  const PooledMass& to;
  const QueryTile<P>& tile;

  template <class>
  __device__ void add_values(int32_t entry, QuerySums<P>& sums, const PackedWeights<P>& weights,
                             const ExpandedShared& s) const {
    if constexpr (kFirst) {
      P::add_values(sums.out, weights, s);
      if (thread_now() < kWarp && tile.is_new(tile.at)) store_first(entry, sums.top[0][0], weights);
    } else {
      MoreSums<P> mass = {};
      P::add_all_values(sums.out, mass, weights, s);
      store_all(entry, sums, weights, mass);
    }
  }

  __device__ void store_all(int32_t entry, const QuerySums<P>& sums, const PackedWeights<P>& weights,
                            const MoreSums<P>& mass) const {
    const int thread = thread_now(), lane = thread % kWarp;
    const int32_t position = tile.at + thread / kWarp * QueryTile<P>::kWarpQueries + lane / 4;
    const size_t first = to.place(tile.head, entry) + static_cast<size_t>(position - tile.first);
#pragma unroll
    for (int r = 0; r < QueryTile<P>::kRows; r++) {
      if (!tile.is_new(position + 8 * r)) continue;
      const int m = r / 2, i = r % 2;
      const size_t row = first + 8 * r;
      const float base = sums.top[m][i] == -INFINITY ? 0.0f : sums.top[m][i];
      if (lane % 4 == 3) to.base[row] = {base, bf16_value(weights[3][m][2 + i] >> 16)};
      const auto pair = [&](int n) { return pack_f16(mass[m][n][2 * i], mass[m][n][2 * i + 1]); };
      *reinterpret_cast<uint2*>(to.mass + row * 16 + lane % 4 * 4) = {pair(0), pair(1)};
    }
  }

  /* All lanes of a warp call; the query's are the first four, which have all weights. Lanes 0 and 1 have the
   * first four of eight rows, lanes 2 and 3 the others: the even one finds the mass of the block that begins
   * there. */
  __device__ void store_first(int32_t entry, float top, const PackedWeights<P>& weights) const {
    const int lane = thread_now();
    const size_t row = to.place(tile.head, entry) + static_cast<size_t>(chooser_of(tile));
    float last = 0; /* of the eight rows before */
#pragma unroll
    for (int eight = 0; eight < kBlockRows / 8; eight++) {
      const uint32_t pair = weights[eight / 2][0][eight % 2 * 2];
      const float even = bf16_value(pair & 0xffff), odd = bf16_value(pair >> 16);
      const float own = lane % 2 == 0 ? 2 * (even + odd) : 2 * even + odd;
      const float before = __shfl_up_sync(0xffffffffu, odd, 1),
                  behind = __shfl_down_sync(0xffffffffu, own, 1);
      const float mass = own + behind + (lane == 0 ? last : before);
      if (lane < 4 && lane % 2 == 0)
        to.mass[row * 16 + eight % 4 * 4 + eight / 4 * 2 + lane / 2] = __float2half_rn(mass);
      last = __shfl_sync(0xffffffffu, odd, 3);
    }
    if (lane == 0) to.base[row] = {top == -INFINITY ? 0.0f : top, last};
  }
};

/* Stores the gated pooled branch (n, heads, value), and the masses of blocks: kFirst: of each tile's first
 * query. q: a part of the run, whose queries, gates and branch begin with its own. grid (tiles, heads) */
template <class P, bool kFirst>
__global__ void __launch_bounds__(QueryTile<P>::kThreads, 2)
    pooled_prefill_kernel(PrefillQueries q, ExpandedRows pooled, PooledMass mass, __nv_bfloat16* branch) {
  const ExpandedShared s = expanded_shared<P>();
  const QueryTile<P> tile = tile_of_block<P>(q.first, q.end);
  /* Complete behind the barriers of attend_blocks. */
  if constexpr (!kFirst) write_factors<P>(s.value + P::kValueSize);
  const int32_t n_rows = pooled_visible(tile.last());
  if (n_rows > 0) load_queries(s, q.query, tile);
  QuerySums<P> sums;
  clear(sums);
  attend_blocks(s, pooled, BlocksInOrder{0}, (n_rows + kBlockRows - 1) / kBlockRows, n_rows, tile,
                PooledBefore{}, sums, StoreMasses<P, kFirst>{mass, tile});
  join_totals(sums);
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    const int32_t position = tile.position(r);
    if (threadIdx.x % 4 != 0 || !tile.is_new(position) || (kFirst && position != tile.at)) continue;
    const size_t row = kFirst ? static_cast<size_t>(chooser_of(tile)) * kHeads + tile.head : tile.row(r);
    mass.total[row] = sums.top[r / 2][r % 2] + log2f(sums.total[r / 2][r % 2]);
  }
  store_branch(branch, q, tile, sums, 0);
}

}  // namespace

void launch_attend_pooled(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& pooled,
                          const NsaRule& rule, const PooledMass& mass, __nv_bfloat16* branch) {
  const bool shared = rule.sharing > 1;
  with_products([&]<class P>(P) {
    const size_t factors = shared ? 0 : sizeof(__nv_bfloat16) * P::kMoreSize;
    launch(stream, "pooled_prefill",
           {{n_tiles_of(q.first, q.end), kHeads}, QueryTile<P>::kThreads, kExpandedShared<P> + factors},
           shared ? pooled_prefill_kernel<P, true> : pooled_prefill_kernel<P, false>, q, pooled, mass,
           branch);
  });
}

}  // namespace ek::cuda
