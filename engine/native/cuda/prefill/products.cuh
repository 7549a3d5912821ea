/* Products of a tile of queries with blocks of keys and values in shared memory, in two ways: by warps, on
 * every GPU that there are kernels for, or by groups of four warps, on sm_90. Both leave sums in the same
 * places of a lane, so what is done with scores, weights and sums is written once, for a way P. */
#ifndef EK_CUDA_PREFILL_PRODUCTS_CUH
#define EK_CUDA_PREFILL_PRODUCTS_CUH
#include "../device/device.h"
#include "query_tile.cuh"

namespace ek::cuda {

constexpr int kKeyWidth = kNope + kRope, kBlockRows = 64;

struct ExpandedShared {
  __nv_bfloat16 *query, *key, *value;
  const __nv_bfloat16* team_query; /* the first of the team's */
};

/* Scores of 64 rows, then their weights: [tensor-core tile of queries][8 rows][as mma_bf16]. */
template <class P>
using BlockScores = float[P::kTiles][kBlockRows / 8][4];

/* Weights in bf16, of 16 rows each as left matrices: half of the registers while the next keys are asked for.
 */
template <class P>
using PackedWeights = uint32_t[kBlockRows / 16][P::kTiles][4];

/* Weighted sums of 16 more columns, beside values: [tensor-core tile][8 columns][as mma_bf16]. */
template <class P>
using MoreSums = float[P::kTiles][2][4];

/* Weighted values of a lane's queries, as mma_bf16. */
template <class P>
using WeightedValues = float[P::kTiles][kValue / 8][4];

/* score makes scores of a team's queries with a block of keys, add_values adds weighted values. Behind the
 * values of a block may lie 16 columns more of its rows, as More: add_all_values adds these as well.
 *
 * A warp has 32 queries, so that what it loads of keys and values from shared memory serves two tensor-core
 * tiles: with 16 the loads take longer than the products. */
struct WarpProducts {
  static constexpr int kWarps = 4, kTeamWarps = 1, kTiles = 2;
  using Keys = PaddedRows<kKeyWidth>;
  using Queries = Keys;
  using Values = PaddedRows<kValue>;
  using More = PaddedRows<16>;
  static constexpr int kQuerySize = Keys::size(kTileQueries), kKeySize = Keys::size(kBlockRows),
                       kValueSize = Values::size(kBlockRows), kMoreSize = More::size(kBlockRows);

  __device__ static __nv_bfloat16* shared() { return dynamic_shared<__nv_bfloat16>(); }
  __device__ static void publish() {}
  __device__ static void sync_team() { __syncwarp(); }

  __device__ static void score(BlockScores<WarpProducts>& scores, const ExpandedShared& s) {
#pragma unroll
    for (int m = 0; m < kTiles; m++) {
      for (int n = 0; n < kBlockRows / 8; n++) {
        for (int i = 0; i < 4; i++) scores[m][n][i] = 0;
      }
    }
    const int lane = threadIdx.x % kWarp;
#pragma unroll 2
    for (int k = 0; k < kKeyWidth; k += 16) {
      uint32_t a[2][4];
      load_left<Queries::kPitch>(a[0], s.team_query, 0, k, lane);
      load_left<Queries::kPitch>(a[1], s.team_query, 16, k, lane);
#pragma unroll
      for (int n = 0; n < kBlockRows / 8; n += 2) {
        uint32_t b[4];
        load_right<Keys::kPitch>(b, s.key, n * 8, k, lane);
        for (int m = 0; m < 2; m++) {
          mma_bf16(scores[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
          mma_bf16(scores[m][n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
        }
      }
    }
  }

  __device__ static void add_values(WeightedValues<WarpProducts>& sums, const PackedWeights<WarpProducts>& p,
                                    const ExpandedShared& s) {
#pragma unroll
    for (int k = 0; k < kBlockRows / 16; k++) {
#pragma unroll
      for (int n = 0; n < kValue / 8; n += 2)
        add_columns<Values>(&sums[0][n], &sums[1][n], p[k], s.value, n * 8, k * 16);
    }
  }

  __device__ static void add_all_values(WeightedValues<WarpProducts>& sums, MoreSums<WarpProducts>& more,
                                        const PackedWeights<WarpProducts>& p, const ExpandedShared& s) {
    add_values(sums, p, s);
#pragma unroll
    for (int k = 0; k < kBlockRows / 16; k++)
      add_columns<More>(more[0], more[1], p[k], s.value + kValueSize, 0, k * 16);
  }

 private:
  /* sums (two tiles) += weights of 16 rows times 16 columns. */
  template <class Rows>
  __device__ static void add_columns(float (*first)[4], float (*second)[4], const uint32_t (&p)[kTiles][4],
                                     const __nv_bfloat16* tile, int column, int row) {
    uint32_t b[4];
    load_right_transposed<Rows::kPitch>(b, tile, column, row, threadIdx.x % kWarp);
    for (int n = 0; n < 2; n++) {
      mma_bf16(first[n], p[0][0], p[0][1], p[0][2], p[0][3], b[2 * n], b[2 * n + 1]);
      mma_bf16(second[n], p[1][0], p[1][1], p[1][2], p[1][3], b[2 * n], b[2 * n + 1]);
    }
  }
};

/* A group has 64 queries: nothing passes through registers on its way to the tensor cores but weights. */
struct GroupProducts {
  static constexpr int kWarps = 8, kTeamWarps = 4, kTiles = 1;
  using Queries = PermutedRows<kTileQueries>;
  using Keys = PermutedRows<kBlockRows>;
  using Values = Keys;
  using More = Keys;
  static constexpr int kQuerySize = kTileQueries * kKeyWidth, kKeySize = kBlockRows * kKeyWidth,
                       kValueSize = kBlockRows * kValue, kMoreSize = More::kColumns;

  __device__ static __nv_bfloat16* shared() { return aligned_shared<__nv_bfloat16>(); }
  __device__ static void publish() { publish_shared(); }
  __device__ static void sync_team() { sync_some<kTeamWarps * kWarp>(1 + team_of_warp<GroupProducts>()); }

  __device__ static void score(BlockScores<GroupProducts>& scores, const ExpandedShared& s) {
    const SharedTile queries = shared_tile(s.team_query), keys = shared_tile(s.key);
    begin_group_products();
    multiply_group_first(scores[0], queries, keys);
#pragma unroll
    for (int k = 16; k < kKeyWidth; k += 16) {
      const int columns = k / 64, rest = k % 64 * 2;
      multiply_group(scores[0], queries.behind(columns * Queries::kColumns * 2 + rest),
                     keys.behind(columns * Keys::kColumns * 2 + rest));
    }
    commit_group_products();
    wait_for_group_products<0>();
  }

  __device__ static void add_values(WeightedValues<GroupProducts>& sums,
                                    const PackedWeights<GroupProducts>& p, const ExpandedShared& s) {
    const SharedTile values = shared_tile(s.value, Values::kColumns * 2);
    begin_group_products();
#pragma unroll
    for (int k = 0; k < kBlockRows / 16; k++)
      multiply_group(sums[0], p[k][0], values.behind(k * 16 * Values::kPitch * 2));
    commit_group_products();
    wait_for_group_products<0>();
  }

  /* The 16 columns are a third piece of the values: they cost an eighth more, and no products of their own.
   */
  __device__ static void add_all_values(WeightedValues<GroupProducts>& sums, MoreSums<GroupProducts>& more,
                                        const PackedWeights<GroupProducts>& p, const ExpandedShared& s) {
    const SharedTile values = shared_tile(s.value, Values::kColumns * 2);
    begin_group_products();
#pragma unroll
    for (int k = 0; k < kBlockRows / 16; k++)
      multiply_group(sums[0], more[0], p[k][0], values.behind(k * 16 * Values::kPitch * 2));
    commit_group_products();
    wait_for_group_products<0>();
  }
};

/* Bytes of dynamic shared memory for a tile of queries, a block of keys and one of values. */
template <class P>
constexpr size_t kExpandedShared = sizeof(__nv_bfloat16) * (P::kQuerySize + P::kKeySize + P::kValueSize);

template <class P>
__device__ ExpandedShared expanded_shared() {
  __nv_bfloat16* at = P::shared();
  return {at, at + P::kQuerySize, at + P::kQuerySize + P::kKeySize,
          at + team_of_warp<P>() * QueryTile<P>::kTeamQueries * P::Queries::kPitch};
}

/* Calls launch(P) with the way that is fastest on the current GPU. */
template <class Launch>
void with_products(Launch&& launch) {
  if (multiplies_in_groups()) {
    launch(GroupProducts{});
  } else {
    launch(WarpProducts{});
  }
}

}  // namespace ek::cuda
#endif
