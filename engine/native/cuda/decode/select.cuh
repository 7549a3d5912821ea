/* Training-free block selection of one token: every pooled row is scored, a block of 64 tokens has the
 * probability of its four rows summed over heads, and the best blocks join the first and the last ones. The
 * decoder selects for its token, prefill for the first token of every tile (docs/decisions/0007). */
#ifndef EK_CUDA_DECODE_SELECT_CUH
#define EK_CUDA_DECODE_SELECT_CUH
#include <bit>

#include "scores.cuh"

namespace ek::cuda {

constexpr int kBlocksPerGroup = kScoreRows / 4, kSelectThreads = 1024;
/* The columns of a row are shared by warps, so that a group is small and many multiprocessors score. */
constexpr int kColumnShares = kWarps * 8 / kScoreRows, kSharedColumns = kRow / kColumnShares;
static_assert(kColumnShares * kScoreRows == kWarps * 8 && kSharedColumns % 32 == 0 &&
                  kHeads * kBlocksPerGroup <= kThreads && kWarp % kBlocksPerGroup == 0,
              "a thread per head and block");

/* Bytes of shared memory that score_group needs, and select_blocks with n_keys keys. */
constexpr size_t kScoreShared =
    sizeof(__nv_bfloat16) * (kScoreRows + kHeads) * kPitch + sizeof(float) * kColumnShares * kHeads * kSPitch;
constexpr size_t kFactorPitch = kHeads + 4; /* floats */
inline size_t select_shared(int32_t n_keys) {
  return static_cast<size_t>(n_keys) * 9 + static_cast<size_t>(n_keys / kBlocksPerGroup) * kFactorPitch * 4;
}
/* Keys for n_blocks blocks: whole groups, and whole quads of threads. */
inline int32_t select_keys(int32_t n_blocks) { return ceil_div(n_blocks, kBlocksPerGroup) * kBlocksPerGroup; }

/* Scores of kScoreRows pooled rows with the token at t: per head their maximum and sum, and the mass of each
 * 64 tokens. row_of(i): where pooled row i lies, of those up to t. queries and the pooled rows from `fresh`
 * on, the last one at least, are there behind wait(). All kThreads threads of the block call. */
template <class RowOf, class Wait>
__device__ void score_group(uint4* memory, const __nv_bfloat16* queries, int32_t group, int32_t t,
                            int32_t fresh, const ScoreSums& out, RowOf&& row_of, Wait&& wait) {
  __nv_bfloat16* tile = reinterpret_cast<__nv_bfloat16*>(memory);
  __nv_bfloat16* query = tile + kScoreRows * kPitch;
  float* score = reinterpret_cast<float*>(query + kHeads * kPitch);
  constexpr int kChunks = kRow / 8, kShare = kHeads * kSPitch;
  const int32_t first = group * kScoreRows, n = t / kPoolStride + 1;
  /* Chunks of rows; those of the group that are old, and that exist. */
  const auto load = [&](int32_t begin, int32_t end, bool valid) {
    for (int32_t i = begin + static_cast<int32_t>(threadIdx.x); i < end; i += kThreads) {
      const int32_t row = i / kChunks, chunk = i % kChunks;
      copy_async_16(tile + row * kPitch + chunk * 8, row_of(valid ? first + row : first) + chunk * 8, valid);
    }
  };
  const int32_t n_rows = min(n - first, kScoreRows), n_old = min(max(fresh - first, 0), n_rows);
  load(0, n_old * kChunks, true);
  load(n_rows * kChunks, kScoreRows * kChunks, false);
  wait();
  load(n_old * kChunks, n_rows * kChunks, true);
  load_query(query, queries);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  const int warp = threadIdx.x / kWarp, share = warp / (kScoreRows / 8);
  score_rows(score + share * kShare, query, tile, warp % (kScoreRows / 8) * 8, share * kSharedColumns,
             (share + 1) * kSharedColumns);
  __syncthreads();
  if (threadIdx.x >= kHeads * kBlocksPerGroup) return;
  const int h = threadIdx.x / kBlocksPerGroup, block = threadIdx.x % kBlocksPerGroup;
  float v[4], top = -INFINITY, mass = 0;
  for (int j = 0; j < 4; j++) {
    const int32_t row = first + block * 4 + j, tokens = min(kPoolStride, t + 1 - row * kPoolStride);
    const float* of = score + h * kSPitch + block * 4 + j;
    float sum = of[0];
    for (int i = 1; i < kColumnShares; i++) sum += of[i * kShare];
    /* A row of fewer tokens stands for fewer. */
    v[j] = row < n ? sum + logf(static_cast<float>(tokens) / kPoolStride) : -INFINITY;
    top = fmaxf(top, v[j]);
  }
  for (int d = kBlocksPerGroup / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
  for (int j = 0; j < 4; j++) mass += v[j] == -INFINITY ? 0.0f : expf(v[j] - top);
  float sum = mass;
  for (int d = kBlocksPerGroup / 2; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  out.mass[(static_cast<size_t>(group) * kBlocksPerGroup + block) * kHeads + h] = mass;
  if (block == 0) {
    out.top[h * out.n_groups + group] = top;
    out.sum[h * out.n_groups + group] = sum;
  }
}

/* The bin of a histogram in which the wanted-th largest key is, how many keys of it are wanted, and how many
 * it has. */
struct Cut {
  int32_t bin, wanted, found;
};

/* Finds the cut in counts of Threads bins; a thread per bin, from the largest on. */
template <int Threads>
__device__ void find_cut(const int32_t* count, int32_t wanted, int32_t* warp_total, Cut* out) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, bin = Threads - 1 - threadIdx.x;
  const int32_t own = count[bin];
  int32_t upto = own;
  for (int d = 1; d < kWarp; d *= 2) {
    const int32_t other = __shfl_up_sync(0xffffffffu, upto, d);
    if (lane >= d) upto += other;
  }
  if (lane == kWarp - 1) warp_total[warp] = upto;
  __syncthreads();
  upto += __reduce_add_sync(0xffffffffu, lane < warp ? warp_total[lane] : 0);
  if (upto - own < wanted && wanted <= upto) *out = {bin, wanted - (upto - own), own};
  __syncthreads();
}

/* The least of the `top` largest of n different keys[i] of 64 bits, where 0 stands for none; 1 if there are
 * no more than that. Each round sorts what is left into Threads bins between its bounds and keeps one of
 * them, so two or three rounds do for keys that are spread. All Threads threads of the block call, top > 0.
 */
template <int Threads, class Keys>
__device__ uint64_t least_of_best(const Keys& key, int32_t n, int32_t top) {
  constexpr int kBits = std::bit_width(static_cast<unsigned>(Threads)) - 1, kSelectWarps = Threads / kWarp;
  static_assert(Threads == 1 << kBits && kSelectWarps <= kWarp, "a bin per thread, a lane per warp");
  __shared__ int32_t count[Threads], warp_total[kSelectWarps];
  __shared__ uint32_t least[kSelectWarps], most[kSelectWarps];
  __shared__ Cut cut;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  uint32_t own_least = 0xffffffffu, own_most = 0;
  int32_t n_keys = 0;
  for (int32_t j = threadIdx.x; j < n; j += Threads) {
    const uint64_t k = key[j];
    const uint32_t upper = static_cast<uint32_t>(k >> 32);
    if (k == 0) continue;
    n_keys++;
    own_least = min(own_least, upper);
    own_most = max(own_most, upper);
  }
  n_keys = __reduce_add_sync(0xffffffffu, n_keys);
  own_least = __reduce_min_sync(0xffffffffu, own_least);
  own_most = __reduce_max_sync(0xffffffffu, own_most);
  if (lane == 0) warp_total[warp] = n_keys, least[warp] = own_least, most[warp] = own_most;
  __syncthreads();
  const bool has = lane < kSelectWarps;
  n_keys = __reduce_add_sync(0xffffffffu, has ? warp_total[lane] : 0);
  if (n_keys <= top) return 1;
  uint64_t low = static_cast<uint64_t>(__reduce_min_sync(0xffffffffu, has ? least[lane] : 0xffffffffu)) << 32;
  uint64_t span =
      (static_cast<uint64_t>(__reduce_max_sync(0xffffffffu, has ? most[lane] : 0)) << 32 | 0xffffffffu) - low;
  int shift = max(0, 64 - kBits - __clzll(static_cast<long long>(span)));
  for (int32_t wanted = top;;) {
    count[threadIdx.x] = 0;
    __syncthreads();
    for (int32_t j = threadIdx.x; j < n; j += Threads) {
      const uint64_t k = key[j];
      if (k >= low && k - low <= span && k != 0) atomicAdd(count + ((k - low) >> shift), 1);
    }
    __syncthreads();
    find_cut<Threads>(count, wanted, warp_total, &cut);
    low += static_cast<uint64_t>(cut.bin) << shift;
    wanted = cut.wanted;
    if (wanted == cut.found || shift == 0) return max(low, uint64_t{1});
    span = (uint64_t{1} << shift) - 1;
    shift = max(0, shift - kBits);
  }
}

/* factor (groups, kFactorPitch): what a group's mass of a head is worth in the softmax over all pooled rows.
 * A warp per head; its lanes hold the maxima and sums of 288 groups, so that all load at once (131 072 tokens
 * have 257). */
__device__ inline void head_factors(const ScoreSums& in, float* factor, int32_t n_groups) {
  constexpr int kHeld = 9;
  const int h = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (h >= kHeads) return;
  const float *tops = in.top + h * in.n_groups, *sums = in.sum + h * in.n_groups;
  float held_top[kHeld], held_sum[kHeld], top = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < kHeld; i++) {
    const int32_t c = lane + i * kWarp;
    held_top[i] = c < n_groups ? tops[c] : -INFINITY;
    held_sum[i] = c < n_groups ? sums[c] : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < kHeld; i++) top = fmaxf(top, held_top[i]);
  for (int32_t c = lane + kHeld * kWarp; c < n_groups; c += kWarp) top = fmaxf(top, tops[c]);
  top = warp_max(top);
#pragma unroll
  for (int i = 0; i < kHeld; i++) {
    held_top[i] = expf(held_top[i] - top);
    sum = fmaf(held_sum[i], held_top[i], sum);
  }
  for (int32_t c = lane + kHeld * kWarp; c < n_groups; c += kWarp)
    sum = fmaf(sums[c], expf(tops[c] - top), sum);
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < kHeld; i++) {
    const int32_t c = lane + i * kWarp;
    if (c < n_groups) factor[c * kFactorPitch + h] = held_top[i] / sum;
  }
  for (int32_t c = lane + kHeld * kWarp; c < n_groups; c += kWarp)
    factor[c * kFactorPitch + h] = expf(tops[c] - top) / sum;
}

/* Calls visit(i, j) for the i-th marked of n blocks, j, in ascending order, and returns how many there are,
 * to the last thread only. All kSelectThreads threads of the block call. */
template <class Visit>
__device__ int32_t visit_marked(const uint8_t* marked, int32_t n, Visit&& visit) {
  __shared__ int32_t warp_total[kSelectThreads / kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t chunk = (n + kSelectThreads - 1) / kSelectThreads, first = threadIdx.x * chunk;
  int32_t count = 0;
  for (int32_t j = first; j < min(n, first + chunk); j++) count += marked[j];
  int32_t before = count;
  for (int d = 1; d < kWarp; d *= 2) {
    const int32_t other = __shfl_up_sync(0xffffffffu, before, d);
    if (lane >= d) before += other;
  }
  if (lane == kWarp - 1) warp_total[warp] = before;
  __syncthreads();
  int32_t at = before - count + __reduce_add_sync(0xffffffffu, lane < warp ? warp_total[lane] : 0);
  for (int32_t j = first; j < min(n, first + chunk); j++) {
    if (marked[j]) visit(at++, j);
  }
  return at;
}

/* Marks the blocks that the token at t attends to, of those up to its own. memory: select_shared(n_keys)
 * bytes; returns the marks in it. All kSelectThreads threads of the block call. */
__device__ inline const uint8_t* select_blocks(const ScoreSums& in, int32_t t, int32_t local, int32_t top,
                                               int32_t n_keys, uint64_t* key) {
  float* factor = reinterpret_cast<float*>(key + n_keys);
  uint8_t* marked = reinterpret_cast<uint8_t*>(factor + n_keys / kBlocksPerGroup * kFactorPitch);
  const int32_t n = t / 64 + 1, last_free = n - local; /* blocks 1 .. last_free - 1 compete */
  /* Four threads per block, of four heads each. What a thread needs first loads while factors are made. */
  const auto mass_of = [&](int32_t i) {
    return *reinterpret_cast<const float4*>(in.mass + static_cast<size_t>(min(i / 4, n - 1)) * kHeads +
                                            i % 4 * 4);
  };
  constexpr int kEarly = 5;
  float4 early[kEarly];
  for (int turn = 0; turn < kEarly; turn++)
    early[turn] = mass_of(static_cast<int32_t>(threadIdx.x) + turn * kSelectThreads);
  head_factors(in, factor, (t / kPoolStride + kScoreRows) / kScoreRows);
  __syncthreads();
  const auto weigh = [&](int32_t i, const float4& m) {
    const int32_t j = min(i / 4, n - 1);
    const float4 f =
        *reinterpret_cast<const float4*>(factor + j / kBlocksPerGroup * kFactorPitch + i % 4 * 4);
    float p = (m.x * f.x + m.y * f.y) + (m.z * f.z + m.w * f.w);
    p += __shfl_xor_sync(0xffffffffu, p, 1);
    p += __shfl_xor_sync(0xffffffffu, p, 2);
    if (i % 4 != 0 || i / 4 >= n) return;
    const bool free = j >= 1 && j < last_free;
    marked[j] = !free;
    /* Of equal blocks the lower index has the larger key; no key of a block is 0. */
    key[j] =
        free ? static_cast<uint64_t>(__float_as_uint(p)) << 32 | (0xffffffffu - static_cast<uint32_t>(j)) : 0;
  };
  const int32_t end = (n * 4 + kWarp - 1) / kWarp * kWarp;
#pragma unroll
  for (int turn = 0; turn < kEarly; turn++) {
    const int32_t i = static_cast<int32_t>(threadIdx.x) + turn * kSelectThreads;
    if (i < end) weigh(i, early[turn]);
  }
#pragma unroll 5
  for (int32_t i = static_cast<int32_t>(threadIdx.x) + kEarly * kSelectThreads; i < end; i += kSelectThreads)
    weigh(i, mass_of(i));
  __syncthreads();
  const uint64_t least = top > 0 ? least_of_best<kSelectThreads>(key, n, top) : ~uint64_t{0};
  for (int32_t j = threadIdx.x; j < n; j += kSelectThreads) {
    if (key[j] >= least) marked[j] = 1;
  }
  __syncthreads();
  return marked;
}

}  // namespace ek::cuda
#endif
