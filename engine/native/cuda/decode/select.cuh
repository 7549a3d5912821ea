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
/* A power of two, of at least n_blocks. */
inline int32_t select_keys(int32_t n_blocks) {
  int32_t n = 64;
  while (n < n_blocks) n *= 2;
  return n;
}

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

/* Descending order of n keys, a power of two; all threads of the block call. */
__device__ inline void sort_keys(uint64_t* key, int n) {
  for (int size = 2; size <= n; size *= 2) {
    for (int step = size / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = threadIdx.x; i < n / 2; i += kSelectThreads) {
        const int low = i / step * step * 2 + i % step, high = low + step;
        const bool descending = (low & size) == 0;
        const uint64_t a = key[low], c = key[high];
        if (descending ? a < c : a > c) {
          key[low] = c;
          key[high] = a;
        }
      }
    }
  }
  __syncthreads();
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
  for (int32_t j = threadIdx.x; j < n_keys; j += kSelectThreads) {
    key[j] = 0;
    if (j < n) marked[j] = j == 0 || j >= last_free;
    if (j < 1 || j >= last_free) continue;
    float p = 0;
    for (int h = 0; h < kHeads; h++)
      p += in.mass[static_cast<size_t>(j) * kHeads + h] * factor[j / kBlocksPerGroup * kHeads + h];
    /* Of equal blocks the lower index has the larger key; no key of a block is 0. */
    key[j] = static_cast<uint64_t>(__float_as_uint(p)) << 32 | (0xffffffffu - static_cast<uint32_t>(j));
  }
  sort_keys(key, n_keys);
  for (int32_t i = threadIdx.x; i < min(top, n_keys); i += kSelectThreads) {
    if (key[i] != 0) marked[0xffffffffu - static_cast<uint32_t>(key[i])] = 1;
  }
  __syncthreads();
  return marked;
}

}  // namespace ek::cuda
#endif
