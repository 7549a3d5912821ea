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
};

/* Scores of 64 rows, then their weights: [tensor-core tile of queries][8 rows][as mma_bf16]. */
template <class P>
using BlockScores = float[P::kTiles][kBlockRows / 8][4];

/* Weights in bf16, of 16 rows each as left matrices: half of the registers while the next keys are asked for.
 */
template <class P>
using PackedWeights = uint32_t[kBlockRows / 16][P::kTiles][4];

/* Weighted values of a lane's queries, as mma_bf16. */
template <class P>
using WeightedValues = float[P::kTiles][kValue / 8][4];

/* A warp has 32 queries, so that what it loads of keys and values from shared memory serves two tensor-core
 * tiles: with 16 the loads take longer than the products. */
struct WarpProducts {
  static constexpr int kWarps = 4, kTeamWarps = 1, kTiles = 2;
  using Keys = PaddedRows<kKeyWidth>;
  using Queries = Keys;
  using Values = PaddedRows<kValue>;
  static constexpr int kQuerySize = Keys::size(kTileQueries), kKeySize = Keys::size(kBlockRows),
                       kValueSize = Values::size(kBlockRows);

  __device__ static __nv_bfloat16* shared() { return dynamic_shared<__nv_bfloat16>(); }
  __device__ static void publish() {}

  __device__ static void score(BlockScores<WarpProducts>& scores, const ExpandedShared& s) {
    const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * QueryTile<WarpProducts>::kWarpQueries;
#pragma unroll 2
    for (int k = 0; k < kKeyWidth; k += 16) {
      uint32_t a[2][4];
      load_left<Queries::kPitch>(a[0], s.query, first, k, lane);
      load_left<Queries::kPitch>(a[1], s.query, first + 16, k, lane);
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
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int k = 0; k < kBlockRows / 16; k++) {
#pragma unroll
      for (int n = 0; n < kValue / 8; n += 2) {
        uint32_t b[4];
        load_right_transposed<Values::kPitch>(b, s.value, n * 8, k * 16, lane);
        for (int m = 0; m < 2; m++) {
          mma_bf16(sums[m][n], p[k][m][0], p[k][m][1], p[k][m][2], p[k][m][3], b[0], b[1]);
          mma_bf16(sums[m][n + 1], p[k][m][0], p[k][m][1], p[k][m][2], p[k][m][3], b[2], b[3]);
        }
      }
    }
  }
};

/* A group has 64 queries: nothing passes through registers on its way to the tensor cores but weights. */
struct GroupProducts {
  static constexpr int kWarps = 8, kTeamWarps = 4, kTiles = 1;
  using Queries = PermutedRows<kTileQueries>;
  using Keys = PermutedRows<kBlockRows>;
  using Values = Keys;
  static constexpr int kQuerySize = kTileQueries * kKeyWidth, kKeySize = kBlockRows * kKeyWidth,
                       kValueSize = kBlockRows * kValue;

  __device__ static __nv_bfloat16* shared() { return aligned_shared<__nv_bfloat16>(); }
  __device__ static void publish() { publish_shared(); }

  __device__ static void score(BlockScores<GroupProducts>& scores, const ExpandedShared& s) {
    const int first = threadIdx.x / (kTeamWarps * kWarp) * QueryTile<GroupProducts>::kTeamQueries;
    const SharedTile queries = shared_tile(s.query + first * Queries::kPitch), keys = shared_tile(s.key);
    begin_group_products();
#pragma unroll
    for (int k = 0; k < kKeyWidth; k += 16) {
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
};

/* Bytes of dynamic shared memory for a tile of queries, a block of keys and one of values. */
template <class P>
constexpr size_t kExpandedShared = sizeof(__nv_bfloat16) * (P::kQuerySize + P::kKeySize + P::kValueSize);

template <class P>
__device__ ExpandedShared expanded_shared() {
  __nv_bfloat16* at = P::shared();
  return {at, at + P::kQuerySize, at + P::kQuerySize + P::kKeySize};
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
