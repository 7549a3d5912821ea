/* Training-free block selection: every pooled row is scored, a block of 64 tokens has the probability of its
 * four rows summed over heads, and the best blocks join the first and the last ones. */
#include "kernels.h"
#include "scores.cuh"

namespace ek::cuda {

namespace {

constexpr int kBlocksPerTile = kScoreRows / 4;
static_assert(kScoreRows == kTileTokens && kBlocksPerTile == 16, "a thread per head and block");

/* One block per kScoreRows pooled rows: per head their maximum and sum, and the mass of each 64 tokens. */
__global__ void __launch_bounds__(kThreads) score_kernel(StepBuffers b, int32_t n_blocks, int32_t layer) {
  uint4* memory = dynamic_shared<uint4>();
  __nv_bfloat16* tile = reinterpret_cast<__nv_bfloat16*>(memory);
  __nv_bfloat16* query = tile + kTileTokens * kPitch;
  float* score = reinterpret_cast<float*>(query + kHeads * kPitch);
  constexpr int kChunks = kRow / 8;
  allow_next_kernel();
  wait_for_kernel_before();
  const int32_t t = b.state->position, first = blockIdx.x * kScoreRows, n = t / kPoolStride + 1;
  if (first >= n) return;
  for (int i = threadIdx.x; i < kScoreRows * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks, pooled = first + row;
    const bool valid = pooled < n;
    const size_t place = static_cast<size_t>(layer) * n_blocks + (valid ? b.blocks[pooled / 4] : 0);
    copy_async_16(tile + row * kPitch + chunk * 8, b.pooled + (place * 4 + pooled % 4) * kRow + chunk * 8,
                  valid);
  }
  load_query(query, b.query);
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
  b.block_mass[(static_cast<size_t>(blockIdx.x) * kBlocksPerTile + block) * kHeads + h] = mass;
  if (block == 0) {
    b.score_max[blockIdx.x * kHeads + h] = top;
    b.score_sum[blockIdx.x * kHeads + h] = sum;
  }
}

constexpr int kSelectThreads = 1024;

/* Descending order of n keys, a power of two; all threads of the block call. */
__device__ void sort_keys(uint64_t* key, int n) {
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

/* factor (tiles, heads): what a tile's mass of a head is worth in the softmax over all pooled rows. */
__device__ void head_factors(const StepBuffers& b, float* factor, int32_t n_tiles) {
  const int h = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (h >= kHeads) return;
  float top = -INFINITY, sum = 0;
  for (int32_t c = lane; c < n_tiles; c += kWarp) top = fmaxf(top, b.score_max[c * kHeads + h]);
  top = warp_max(top);
  for (int32_t c = lane; c < n_tiles; c += kWarp)
    sum += b.score_sum[c * kHeads + h] * expf(b.score_max[c * kHeads + h] - top);
  sum = warp_sum(sum);
  for (int32_t c = lane; c < n_tiles; c += kWarp)
    factor[c * kHeads + h] = expf(b.score_max[c * kHeads + h] - top) / sum;
}

/* Writes the marked blocks in ascending order. */
__device__ void list_marked(const StepBuffers& b, const uint8_t* marked, int32_t n) {
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
    if (marked[j]) b.list[at++] = j;
  }
  if (threadIdx.x == kSelectThreads - 1) b.state->n_listed = at;
}

/* One block. Shared: keys (n_keys), factors (n_keys / 16 x heads), marks (n_keys). */
__global__ void __launch_bounds__(kSelectThreads)
    select_kernel(StepBuffers b, int32_t local, int32_t top, int32_t n_keys) {
  uint64_t* key = dynamic_shared<uint64_t>();
  float* factor = reinterpret_cast<float*>(key + n_keys);
  uint8_t* marked = reinterpret_cast<uint8_t*>(factor + n_keys);
  allow_next_kernel();
  wait_for_kernel_before();
  const int32_t t = b.state->position, n = t / 64 + 1,
                last_free = n - local; /* blocks 1 .. last_free - 1 compete */
  head_factors(b, factor, (t / kPoolStride + kScoreRows) / kScoreRows);
  __syncthreads();
  for (int32_t j = threadIdx.x; j < n_keys; j += kSelectThreads) {
    key[j] = 0;
    if (j < n) marked[j] = j == 0 || j >= last_free;
    if (j < 1 || j >= last_free) continue;
    float p = 0;
    for (int h = 0; h < kHeads; h++)
      p += b.block_mass[static_cast<size_t>(j) * kHeads + h] * factor[j / kBlocksPerTile * kHeads + h];
    /* Of equal blocks the lower index has the larger key; no key of a block is 0. */
    key[j] = static_cast<uint64_t>(__float_as_uint(p)) << 32 | (0xffffffffu - static_cast<uint32_t>(j));
  }
  sort_keys(key, n_keys);
  for (int32_t i = threadIdx.x; i < min(top, n_keys); i += kSelectThreads) {
    if (key[i] != 0) marked[0xffffffffu - static_cast<uint32_t>(key[i])] = 1;
  }
  __syncthreads();
  list_marked(b, marked, n);
}

}  // namespace

void launch_select(const Step& s, int32_t layer_index) {
  constexpr size_t kScoreShared =
      sizeof(__nv_bfloat16) * (kTileTokens + kHeads) * kPitch + sizeof(float) * kHeads * kSPitch;
  launch_overlapped(s, "score", score_kernel, ceil_div(s.shape.n_blocks, kBlocksPerTile), kThreads,
                    kScoreShared, s.b, s.shape.n_blocks, layer_index);
  int32_t n_keys = 64;
  while (n_keys < s.shape.n_blocks) n_keys *= 2;
  launch_overlapped(s, "select", select_kernel, 1, kSelectThreads, static_cast<size_t>(n_keys) * (8 + 4 + 1),
                    s.b, s.shape.local, s.shape.top, n_keys);
}

}  // namespace ek::cuda
