/* From scores of pooled rows to the blocks that a token attends to, in decode: what near leaves of each tile,
 * and how the blocks of chosen find the best by it. */
#ifndef EK_CUDA_NSA_MASSES_CUH
#define EK_CUDA_NSA_MASSES_CUH
#include "choose.cuh"
#include "sources.cuh"

namespace ek::cuda {

constexpr int kHeadPairs = kHeads / 2; /* heads h and h + 8 lie beside each other */
static_assert(kPooledBlocks * kHeads == kThreads, "a thread per head and block");

/* What selection needs of a tile's scores; thread 16 h + i has the four rows that begin in block i. It is
 * relative to the tile's own largest score, so that it does not depend on the parts. */
__device__ inline void store_scores(const PooledScores& to, size_t sequence, int32_t tile,
                                    const float (&v)[4]) {
  const int h = threadIdx.x / 16, i = threadIdx.x % 16;
  const float top = head_max(fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3])));
  float p[4];
  for (int j = 0; j < 4; j++) p[j] = v[j] == -INFINITY ? 0.0f : expf(v[j] - top);
  const float before = __shfl_up_sync(0xffffffffu, p[3], 1), sum = head_sum(p[0] + p[1] + p[2] + p[3]);
  const size_t row = sequence * to.most_tiles + tile;
  to.mass[(row * kHeads + h) * kPooledBlocks + i] =
      2 * (p[0] + p[1] + p[2]) + p[3] + (i == 0 ? 0.0f : before);
  if (i == 15) reinterpret_cast<float*>(to.carry + row * kHeadPairs + h % kHeadPairs)[h / kHeadPairs] = p[3];
  if (i == 0) to.total[(sequence * kHeads + h) * to.most_tiles + tile] = {top, sum};
}

/* Maxima and sums of a head's tiles, kStep threads of a head apart; -inf and 0 behind the last tile. */
constexpr int kEarlyTotals = 4, kTotalStep = kThreads / kHeads;
struct HeadTotals {
  float2 early[kEarlyTotals];
  const float2* of;
  int32_t n_tiles;

  __device__ HeadTotals(const PooledScores& s, size_t sequence, int32_t n)
      : of(s.total + (sequence * kHeads + threadIdx.x / kTotalStep) * s.most_tiles), n_tiles(n) {
#pragma unroll
    for (int e = 0; e < kEarlyTotals; e++) early[e] = load(first() + e * kTotalStep);
  }
  __device__ static int32_t first() { return static_cast<int32_t>(threadIdx.x) % kTotalStep; }
  __device__ float2 load(int32_t tile) const { return tile < n_tiles ? of[tile] : float2{-INFINITY, 0}; }
  /* visit(tile, total) of the thread's tiles */
  template <class Visit>
  __device__ void visit(Visit&& visit) const {
#pragma unroll
    for (int e = 0; e < kEarlyTotals; e++) visit(first() + e * kTotalStep, early[e]);
    for (int32_t i = first() + kEarlyTotals * kTotalStep; i < n_tiles; i += kTotalStep) visit(i, of[i]);
  }
};

constexpr int kPairPitch = kHeadPairs + 1; /* float2, so that a warp's stores meet different banks */

/* factor (tiles, kPairPitch): what a tile's mass of a head is worth in the softmax over all pooled rows. */
__device__ inline void tile_factors(const HeadTotals& totals, float2* factor) {
  const int h = threadIdx.x / kTotalStep;
  float top = -INFINITY, sum = 0;
  totals.visit([&](int32_t, const float2& of) { top = fmaxf(top, of.x); });
  top = head_max(top);
  totals.visit([&](int32_t, const float2& of) { sum += of.y * expf(of.x - top); });
  const float scale = 1 / head_sum(sum);
  float* to = reinterpret_cast<float*>(factor + h % kHeadPairs) + h / kHeadPairs;
  totals.visit([&](int32_t tile, const float2& of) {
    if (tile < totals.n_tiles) to[tile * (2 * kPairPitch)] = expf(of.x - top) * scale;
  });
}

/* The masses of a tile that a lane loads: of two heads, four blocks each, and what the tile before adds to
 * the first of them. */
struct LaneMasses {
  float4 low, high;
  float2 carry;
};

/* The head of a lane, with the one 8 behind it, and its first block. The bits of the head are those over
 * which sum_heads sums, so that lane i ends with block i of two tiles. */
__device__ inline int lane_pair() {
  const int lane = threadIdx.x % kWarp;
  return lane / 16 * 4 + lane % 4;
}
__device__ inline int lane_blocks() { return static_cast<int>(threadIdx.x) % 16 / 4 * 4; }

__device__ inline LaneMasses load_masses(const PooledScores& s, size_t sequence, int32_t tile,
                                         int32_t n_tiles) {
  LaneMasses out{};
  if (tile >= n_tiles) return out;
  const size_t row = sequence * s.most_tiles + tile;
  const float* of = s.mass + (row * kHeads + lane_pair()) * kPooledBlocks + lane_blocks();
  out.low = *reinterpret_cast<const float4*>(of);
  out.high = *reinterpret_cast<const float4*>(of + kHeadPairs * kPooledBlocks);
  if (lane_blocks() == 0 && tile > 0) out.carry = s.carry[(row - 1) * kHeadPairs + lane_pair()];
  return out;
}

/* The weighted sums of the lane's two heads; of a tile that there is not, which has no masses, 0. */
__device__ inline float4 weigh_masses(const LaneMasses& m, const float2* factor, int32_t tile,
                                      int32_t n_tiles) {
  const float2* of = factor + lane_pair();
  const float2 f = of[min(tile, n_tiles - 1) * kPairPitch];
  const float2 before = of[max(min(tile, n_tiles) - 1, 0) * kPairPitch];
  return {m.low.x * f.x + m.high.x * f.y + (m.carry.x * before.x + m.carry.y * before.y),
          m.low.y * f.x + m.high.y * f.y, m.low.z * f.x + m.high.z * f.y, m.low.w * f.x + m.high.w * f.y};
}

/* Sums of all heads from those of the lanes for two tiles: lane i has block i % 16, of the second tile from
 * lane 16 on. */
__device__ inline float sum_heads(const float4& first, const float4& second) {
  const auto exchange = [](float keep, float give, int lanes) {
    return keep + __shfl_xor_sync(0xffffffffu, give, lanes);
  };
  const int lane = threadIdx.x % kWarp;
  const bool upper = lane / 16 != 0, right = lane / 2 % 2 != 0, odd = lane % 2 != 0;
  const float4 keep = upper ? second : first, give = upper ? first : second;
  const float4 four = {exchange(keep.x, give.x, 16), exchange(keep.y, give.y, 16),
                       exchange(keep.z, give.z, 16), exchange(keep.w, give.w, 16)};
  const float x = exchange(right ? four.z : four.x, right ? four.x : four.z, 2);
  const float y = exchange(right ? four.w : four.y, right ? four.y : four.w, 2);
  return exchange(odd ? y : x, odd ? x : y, 1);
}

constexpr int kEarlyTiles = 8; /* of a warp, whose masses load early: 1024 blocks in all */

/* The keys of all blocks of a sequence. A thread has those of the same places in every 16 tiles. */
struct BlockKeys {
  uint32_t early[kEarlyTiles / 2];
  int32_t early_at[kEarlyTiles / 2]; /* where these lie in the cache */
  uint32_t* key;                     /* shared, of every block */
  const int32_t* table;
  int32_t own;

  /* The lane's block in the warp's tiles 2 turn and 2 turn + 1. */
  __device__ static int32_t block(int turn) {
    const int32_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    return (warp + kWarps * (2 * turn + lane / 16)) * kPooledBlocks + lane % 16;
  }
  /* Whether the warp has a block in these. */
  __device__ bool has(int turn) const {
    return static_cast<int32_t>(threadIdx.x / kWarp + kWarps * 2 * turn) * kPooledBlocks <= own;
  }

  /* Loads masses while factors are made; factor: shared, kPairPitch per pooled tile. */
  __device__ BlockKeys(const PooledScores& s, const NsaRule& rule, const Place& place, uint32_t* keys,
                       float2* factor)
      : key(keys), table(place.blocks), own(place.t / 64) {
    const int32_t n_tiles = (pooled_visible(place.t) + kTileTokens - 1) / kTileTokens;
    const auto tile = [](int i) { return static_cast<int32_t>(threadIdx.x / kWarp) + kWarps * i; };
    const HeadTotals totals(s, place.sequence, n_tiles);
    LaneMasses masses[kEarlyTiles];
#pragma unroll
    for (int i = 0; i < kEarlyTiles; i++) masses[i] = load_masses(s, place.sequence, tile(i), n_tiles);
#pragma unroll
    for (int turn = 0; turn < kEarlyTiles / 2; turn++) early_at[turn] = table[min(block(turn), own)];
    tile_factors(totals, factor);
    __syncthreads();
    const auto make = [&](int turn, const LaneMasses& first, const LaneMasses& second) {
      const float mass = sum_heads(weigh_masses(first, factor, tile(2 * turn), n_tiles),
                                   weigh_masses(second, factor, tile(2 * turn + 1), n_tiles));
      const int32_t j = block(turn);
      const uint32_t of = j <= own ? block_key(rule, j, own, mass) : 0;
      if (j <= own) key[j] = of;
      return of;
    };
#pragma unroll
    for (int turn = 0; turn < kEarlyTiles / 2; turn++)
      early[turn] = make(turn, masses[2 * turn], masses[2 * turn + 1]);
    for (int turn = kEarlyTiles / 2; has(turn); turn++)
      make(turn, load_masses(s, place.sequence, tile(2 * turn), n_tiles),
           load_masses(s, place.sequence, tile(2 * turn + 1), n_tiles));
  }

  /* visit(block, key, where it lies in the cache) of the thread's own keys */
  template <class Visit>
  __device__ void visit(Visit&& visit) const {
#pragma unroll
    for (int turn = 0; turn < kEarlyTiles / 2; turn++) visit(block(turn), early[turn], early_at[turn]);
    for (int turn = kEarlyTiles / 2; has(turn); turn++) {
      if (block(turn) <= own) visit(block(turn), key[block(turn)], table[block(turn)]);
    }
  }
};

/* best (shared) = the `top` best of the blocks that compete, the best first, top > 0. False where too many
 * stand together for it; then best holds nothing. All threads of the block call. */
__device__ inline bool rank_few(const BlockKeys& keys, int32_t top, ChosenBlocks& best) {
  constexpr int kFew = kWarp, kCompared = kThreads / kFew;
  __shared__ uint4 most[kKeyGroups / 4];
  __shared__ uint64_t found[kFew];
  __shared__ int32_t found_at[kFew];
  __shared__ int32_t n_found;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (threadIdx.x < kFew) found[threadIdx.x] = 0;
  if (threadIdx.x == 0) n_found = 0;
  /* Eight lanes of a warp are a group, which has every fourth block. */
  uint32_t own = 0;
  keys.visit([&](int32_t, uint32_t key, int32_t) { own = max(own, key); });
  for (int d = 4; d < kWarp; d *= 2) own = max(own, __shfl_xor_sync(0xffffffffu, own, d));
  if (lane < 4) reinterpret_cast<uint32_t*>(most)[warp * 4 + lane] = own;
  __syncthreads();
  const uint32_t least = least_of_groups(most, top);
  /* Few threads have one, and hardly one has two: so one place after the other is asked for at once. */
  int32_t own_found = 0;
  keys.visit([&](int32_t, uint32_t key, int32_t) { own_found += key != 0 && key >= least; });
  if (own_found > 0) {
    int32_t to = atomicAdd(&n_found, own_found);
    keys.visit([&](int32_t block, uint32_t key, int32_t at) {
      if (key == 0 || key < least) return;
      if (to < kFew) found[to] = ordered_key(key, block), found_at[to] = at;
      to++;
    });
  }
  __syncthreads();
  if (n_found > kFew) return false;
  const int i = threadIdx.x / kCompared;
  const uint64_t mine = found[i];
  int32_t before = 0;
#pragma unroll
  for (int k = threadIdx.x % kCompared; k < kFew; k += kCompared) before += found[k] > mine;
  for (int d = 1; d < kCompared; d *= 2) before += __shfl_xor_sync(0xffffffffu, before, d);
  if (threadIdx.x % kCompared == 0 && mine != 0 && before < top) {
    best.block[before] = block_of_key(mine);
    best.at[before] = found_at[i];
  }
  __syncthreads();
  return true;
}

/* Bytes of shared memory that choose_blocks needs. */
inline size_t choice_shared(int32_t most_blocks, int32_t most_tiles) {
  return sizeof(float2) * static_cast<size_t>(most_tiles) * kPairPitch +
         sizeof(uint32_t) * static_cast<size_t>(most_blocks);
}

/* best (shared) = the blocks of a sequence that are selected but not forced, and returns how many, the same
 * in every block of the grid that calls. Each selects for itself: that is cheaper than another launch.
 * memory: shared, of choice_shared bytes. All threads of the block call. */
__device__ inline int32_t choose_blocks(const PooledScores& s, const NsaRule& rule, const Place& place,
                                        uint4* memory, ChosenBlocks& best) {
  __shared__ int32_t list[kMostSelected];
  const int32_t own = place.t / 64, n = rule.n_selected(place.t), free = n - rule.initial - rule.local;
  if (free <= 0) return 0;
  const auto take = [&](auto&& block_of) {
    for (int32_t i = threadIdx.x; i < free; i += kThreads) {
      best.block[i] = block_of(i);
      best.at[i] = place.blocks[best.block[i]];
    }
    __syncthreads();
  };
  if (n == own + 1) {
    take([&](int32_t i) { return rule.initial + i; });
    return free;
  }
  float2* factor = reinterpret_cast<float2*>(memory);
  uint32_t* key = reinterpret_cast<uint32_t*>(factor + s.most_tiles * kPairPitch);
  const BlockKeys keys(s, rule, place, key, factor);
  if (free <= kKeyGroups && rank_few(keys, free, best)) return free;
  list_best<kThreads>(rule, place.t, MassKeys{key}, list);
  take([&](int32_t i) { return list[rule.initial + i]; });
  return free;
}

/* list = all selected blocks in ascending order; best: as of choose_blocks. */
__device__ inline void store_list(const NsaRule& rule, int32_t t, const ChosenBlocks& best, int32_t* list) {
  const int32_t n = rule.n_selected(t), free = n - rule.initial - rule.local;
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    if (i < rule.initial) list[i] = i;
    if (i >= n - rule.local) list[i] = t / 64 + 1 - n + i;
  }
  for (int32_t i = threadIdx.x; i < free; i += kThreads) {
    int32_t before = 0;
    for (int32_t k = 0; k < free; k++) before += best.block[k] < best.block[i];
    list[rule.initial + before] = best.block[i];
  }
}

}  // namespace ek::cuda
#endif
