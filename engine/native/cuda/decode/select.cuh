/* Training-free block selection of one token: every pooled row is scored, a block of 64 tokens has the
 * probability of its four rows summed over heads, and the best blocks join the first and the last ones. The
 * decoder selects for its token, prefill for the first token of every tile (docs/decisions/0007). */
#ifndef EK_CUDA_DECODE_SELECT_CUH
#define EK_CUDA_DECODE_SELECT_CUH
#include "scores.cuh"

namespace ek::cuda {

constexpr int kBlocksPerGroup = kScoreRows / 4, kSelectThreads = 1024;
static_assert(kScoreRows == kTileTokens && kBlocksPerGroup == 16, "a thread per head and block");

/* Bytes of shared memory that score_group needs, and select_blocks with n_keys keys. */
constexpr size_t kScoreShared =
    sizeof(__nv_bfloat16) * (kTileTokens + kHeads) * kPitch + sizeof(float) * kHeads * kSPitch;
inline size_t select_shared(int32_t n_keys) { return static_cast<size_t>(n_keys) * (8 + 4 + 1); }
/* Keys for n_blocks blocks: whole groups. */
inline int32_t select_keys(int32_t n_blocks) { return ceil_div(n_blocks, kBlocksPerGroup) * kBlocksPerGroup; }

/* Scores of kScoreRows pooled rows with the token at t: per head their maximum and sum, and the mass of each
 * 64 tokens. row_of(i): where pooled row i lies, of those up to t. All kThreads threads of the block call. */
template <class RowOf>
__device__ void score_group(uint4* memory, const __nv_bfloat16* queries, int32_t group, int32_t t,
                            const ScoreSums& out, RowOf&& row_of) {
  __nv_bfloat16* tile = reinterpret_cast<__nv_bfloat16*>(memory);
  __nv_bfloat16* query = tile + kTileTokens * kPitch;
  float* score = reinterpret_cast<float*>(query + kHeads * kPitch);
  constexpr int kChunks = kRow / 8;
  const int32_t first = group * kScoreRows, n = t / kPoolStride + 1;
  for (int i = threadIdx.x; i < kScoreRows * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const bool valid = first + row < n;
    copy_async_16(tile + row * kPitch + chunk * 8, row_of(valid ? first + row : first) + chunk * 8, valid);
  }
  load_query(query, queries);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  score_tile(score, query, tile);
  __syncthreads();
  const int h = threadIdx.x / 16, block = threadIdx.x % 16;
  float v[4], top = -INFINITY, mass = 0;
  for (int j = 0; j < 4; j++) {
    const int32_t row = first + block * 4 + j, tokens = min(kPoolStride, t + 1 - row * kPoolStride);
    /* A row of fewer tokens stands for fewer. */
    v[j] = row < n ? score[h * kSPitch + block * 4 + j] + logf(static_cast<float>(tokens) / kPoolStride)
                   : -INFINITY;
    top = fmaxf(top, v[j]);
  }
  for (int d = 8; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
  for (int j = 0; j < 4; j++) mass += v[j] == -INFINITY ? 0.0f : expf(v[j] - top);
  float sum = mass;
  for (int d = 8; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  out.mass[(static_cast<size_t>(group) * kBlocksPerGroup + block) * kHeads + h] = mass;
  if (block == 0) {
    out.top[group * kHeads + h] = top;
    out.sum[group * kHeads + h] = sum;
  }
}

/* A digit of the key that is sought, and how many keys with that digit are among the best. */
struct Digit {
  int32_t value, wanted, found;
};

/* Which of 256 digits, from the largest on, the wanted-th key has; value -1 if there are fewer keys. count:
 * keys of each digit. One warp calls. */
__device__ inline void find_digit(const int32_t* count, int32_t wanted, Digit* out) {
  constexpr int kPerLane = 256 / kWarp;
  const int lane = threadIdx.x % kWarp, first = 255 - lane * kPerLane;
  int32_t own = 0;
  for (int i = 0; i < kPerLane; i++) own += count[first - i];
  int32_t upto = own;
  for (int d = 1; d < kWarp; d *= 2) {
    const int32_t other = __shfl_up_sync(0xffffffffu, upto, d);
    if (lane >= d) upto += other;
  }
  int32_t before = upto - own;
  if (lane == kWarp - 1 && upto < wanted) *out = {-1, 0, 0};
  if (before >= wanted || upto < wanted) return;
  int digit = first;
  for (; before + count[digit] < wanted; digit--) before += count[digit];
  *out = {digit, wanted - before, count[digit]};
}

/* The least of the `top` largest of n different keys, where 0 stands for none; 1 if there are fewer. Found 8
 * bits at a time: sorting 2048 keys takes 66 rounds of all threads, this rarely more than four. All Threads
 * threads of the block call, top > 0. */
template <int Threads>
__device__ uint64_t least_of_best(const uint64_t* key, int32_t n, int32_t top) {
  __shared__ int32_t count[256];
  __shared__ Digit digit;
  uint64_t prefix = 0;
  int32_t wanted = top;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < 256; i += Threads) count[i] = 0;
    __syncthreads();
    for (int32_t j = threadIdx.x; j < n; j += Threads) {
      const uint64_t k = key[j];
      if (k != 0 && ((k ^ prefix) >> shift) < 256) atomicAdd(count + (k >> shift & 255), 1);
    }
    __syncthreads();
    if (threadIdx.x < kWarp) find_digit(count, wanted, &digit);
    __syncthreads();
    if (digit.value < 0) return 1;
    prefix |= static_cast<uint64_t>(digit.value) << shift;
    wanted = digit.wanted;
    if (wanted == digit.found) return prefix; /* all keys that begin so are among the best */
  }
  return prefix;
}

/* factor (groups, heads): what a group's mass of a head is worth in the softmax over all pooled rows. */
__device__ inline void head_factors(const ScoreSums& in, float* factor, int32_t n_groups) {
  const int h = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (h >= kHeads) return;
  float top = -INFINITY, sum = 0;
  for (int32_t c = lane; c < n_groups; c += kWarp) top = fmaxf(top, in.top[c * kHeads + h]);
  top = warp_max(top);
  for (int32_t c = lane; c < n_groups; c += kWarp)
    sum += in.sum[c * kHeads + h] * expf(in.top[c * kHeads + h] - top);
  sum = warp_sum(sum);
  for (int32_t c = lane; c < n_groups; c += kWarp)
    factor[c * kHeads + h] = expf(in.top[c * kHeads + h] - top) / sum;
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
  int32_t at = before - count;
  for (int w = 0; w < warp; w++) at += warp_total[w];
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
  uint8_t* marked = reinterpret_cast<uint8_t*>(factor + n_keys);
  const int32_t n = t / 64 + 1, last_free = n - local; /* blocks 1 .. last_free - 1 compete */
  head_factors(in, factor, (t / kPoolStride + kScoreRows) / kScoreRows);
  __syncthreads();
  for (int32_t j = threadIdx.x; j < n; j += kSelectThreads) {
    key[j] = 0;
    marked[j] = j == 0 || j >= last_free;
    if (j < 1 || j >= last_free) continue;
    float p = 0;
    for (int h = 0; h < kHeads; h++)
      p += in.mass[static_cast<size_t>(j) * kHeads + h] * factor[j / kBlocksPerGroup * kHeads + h];
    /* Of equal blocks the lower index has the larger key; no key of a block is 0. */
    key[j] = static_cast<uint64_t>(__float_as_uint(p)) << 32 | (0xffffffffu - static_cast<uint32_t>(j));
  }
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
