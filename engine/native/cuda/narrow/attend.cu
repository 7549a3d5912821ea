/* Selection of blocks, and attention to them and to the window. */
#include <cfloat>

#include "tile.cuh"

namespace ek::cuda::narrow {

namespace {

constexpr int kTilesPerBlock = EK_KV_BLOCK / kTileRows;

/* Blocks of a token. The blocks of the union are numbered: first those of the window, then the selected ones
 * before it in ascending order. */
struct Blocks {
  int32_t own;        /* the token's */
  int32_t window;     /* the window's first */
  int32_t n_selected; /* own + 1 when all are */

  __device__ Blocks(const Shape& s, int32_t t)
      : own(t / EK_KV_BLOCK),
        window(max(0, t - s.window + 1) / EK_KV_BLOCK),
        n_selected(min(s.select_n, own + 1)) {}
  __device__ bool selects() const { return n_selected <= own; }
  __device__ int32_t n_window() const { return own - window + 1; }
};

/* Floats of the blocks' keys, which are read by fours. */
EK_HD inline int32_t key_floats(int32_t n_blocks) { return (n_blocks + 3) / 4 * 4; }

/* Maximum and sum of each head over all pooled rows, to statistics (2, kMostHeads). Ends in a barrier. */
__device__ void join_statistics(float* statistics, float* shared, const Buffers& b, int32_t n_splits) {
  const int h = threadIdx.x % kMostHeads, first = threadIdx.x / kMostHeads;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  float top = -INFINITY, sum = 0;
  for (int32_t i = first; i < n_splits; i += kThreads / kMostHeads) {
    const float m = b.pooled_max[i * kMostHeads + h], n = b.pooled_sum[i * kMostHeads + h];
    const float most = fmaxf(top, m);
    sum = sum * expf(top - most) + n * expf(m - most);
    top = most;
  }
  for (int d = kMostHeads; d < kWarp; d *= 2) {
    const float m = __shfl_xor_sync(0xffffffffu, top, d), n = __shfl_xor_sync(0xffffffffu, sum, d);
    const float most = fmaxf(top, m);
    sum = (top == -INFINITY ? 0.0f : sum * expf(top - most)) + (m == -INFINITY ? 0.0f : n * expf(m - most));
    top = most;
  }
  if (lane < kMostHeads) {
    shared[(2 * warp) * kMostHeads + lane] = top;
    shared[(2 * warp + 1) * kMostHeads + lane] = sum;
  }
  __syncthreads();
  if (threadIdx.x < kMostHeads) {
    float most = -INFINITY, total = 0;
    for (int w = 0; w < kWarps; w++) most = fmaxf(most, shared[2 * w * kMostHeads + h]);
    for (int w = 0; w < kWarps; w++) {
      const float m = shared[2 * w * kMostHeads + h];
      if (m != -INFINITY) total += shared[(2 * w + 1) * kMostHeads + h] * expf(m - most);
    }
    statistics[h] = most;
    statistics[kMostHeads + h] = 1.0f / total;
  }
  __syncthreads();
}

/* Sum over the heads of a pooled row's probabilities; those below the normal range count as 0, so that their
 * blocks tie. */
__device__ float mass_of(const float* scores, const float* statistics, int32_t n_heads) {
  const float4 low = reinterpret_cast<const float4*>(scores)[0],
               high = reinterpret_cast<const float4*>(scores)[1];
  const float s[kMostHeads] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
  float sum = 0;
  for (int h = 0; h < kMostHeads; h++) {
    if (h >= n_heads) break;
    const float p = expf(s[h] - statistics[h]) * statistics[kMostHeads + h];
    sum += p < FLT_MIN ? 0.0f : p;
  }
  return sum;
}

/* Sets bit j of mask for each selected block. key: a float per block, and three more. Ends in a
 * barrier. */
__device__ void select(uint32_t* mask, float* key, const float* statistics, const Buffers& b, const Shape& s,
                       const Blocks& of, int32_t visible) {
  constexpr int kPerBlock = EK_KV_BLOCK / kPoolStride;
  for (int32_t j = threadIdx.x; j <= of.own; j += kThreads) {
    float sum = 0;
    for (int32_t m = -1; m < kPerBlock; m++) {
      const int32_t i = kPerBlock * j + m;
      if (i < 0 || i >= visible) continue;
      const float mass = mass_of(b.scores + static_cast<size_t>(i) * kMostHeads, statistics, s.n_heads);
      sum += m < 0 || m == kPerBlock - 1 ? mass : 2 * mass;
    }
    const bool forced = j < s.init_blocks || j > of.own - s.local_blocks;
    key[j] = forced ? INFINITY : isnan(sum) ? -INFINITY : sum;
  }
  const int32_t n_padded = (of.own + 4) / 4 * 4;
  if (static_cast<int32_t>(threadIdx.x) < n_padded - of.own - 1) key[of.own + 1 + threadIdx.x] = -INFINITY;
  __syncthreads();
  for (int32_t first = 0; first <= of.own; first += kThreads) {
    const int32_t j = first + threadIdx.x;
    int32_t rank = 0;
    const float own = j <= of.own ? key[j] : 0.0f;
    if (j / kWarp * kWarp <= of.own) { /* a warp behind the last block has nothing to rank */
      for (int32_t k = 0; k < n_padded; k += 4) {
        const float4 four = *reinterpret_cast<const float4*>(key + k);
        const float other[4] = {four.x, four.y, four.z, four.w};
        for (int i = 0; i < 4; i++) rank += other[i] > own || (other[i] == own && k + i < j) ? 1 : 0;
      }
    }
    const uint32_t word = __ballot_sync(0xffffffffu, j <= of.own && rank < of.n_selected);
    if (threadIdx.x % kWarp == 0 && j <= of.own) mask[j / 32] = word;
  }
  __syncthreads();
}

/* The v-th selected block before the window; -1 when there are fewer. */
__device__ int32_t nth_selected(const uint32_t* mask, int32_t v, int32_t window) {
  for (int32_t w = 0; w * 32 < window; w++) {
    uint32_t word = mask[w];
    if (window - w * 32 < 32) word &= (1u << (window - w * 32)) - 1;
    const int32_t n = __popc(word);
    if (v >= n) {
      v -= n;
      continue;
    }
    for (; v > 0; v--) word &= word - 1;
    return w * 32 + 31 - __clz(static_cast<int>(word & (~word + 1)));
  }
  return -1;
}

/* Copies a tile of a block's rows but the token's own; rows behind it are zeros. */
__device__ void copy_tile(Tile& tile, const Buffers& b, int32_t layer, int32_t first, int32_t t) {
  const __half* rows = static_cast<const __half*>(b.kv.base) +
                       b.kv.block_at(layer, b.blocks[first / EK_KV_BLOCK]) +
                       static_cast<size_t>(first % EK_KV_BLOCK) * b.kv.row_dim();
  copy_rows(tile.keys, kKeyPitch, kWidth, t - first,
            [&](int r) { return first + r < t ? rows + static_cast<size_t>(r) * b.kv.row_dim() : nullptr; });
}

/* The token's own row, which the kernel before stored. */
__device__ void copy_own(Tile& tile, const Buffers& b, int32_t layer, int32_t first, int32_t t) {
  const __half* row = static_cast<const __half*>(b.kv.base) +
                      b.kv.block_at(layer, b.blocks[t / EK_KV_BLOCK]) +
                      static_cast<size_t>(t % EK_KV_BLOCK) * b.kv.row_dim();
  for (int i = threadIdx.x; i < kWidth / 8; i += kThreads)
    copy_async_16(tile.keys + (t - first) * kKeyPitch + i * 8, row + i * 8, true);
}

/* Says that a split has no rows. */
__device__ void mark_absent(const Buffers& b, int32_t split) {
  if (threadIdx.x < kMostHeads) {
    for (int branch = 0; branch < 2; branch++)
      b.row_max[branch][split * kMostHeads + threadIdx.x] = -INFINITY;
  }
}

/* A block per 32 rows of a block of the union. Dynamic shared memory: the tile, keys of blocks, their mask.
 */
__global__ void __launch_bounds__(kThreads) attend_kernel(Buffers b, Shape s, int32_t layer) {
  __shared__ float statistics[2 * kMostHeads];
  Tile& tile = *dynamic_shared<Tile>();
  float* key = reinterpret_cast<float*>(&tile + 1);
  uint32_t* mask = reinterpret_cast<uint32_t*>(key + key_floats(s.n_blocks));
  allow_next_kernel();
  /* pooled has begun, so project has: state and rows of the step before are there. */
  const int32_t t = b.state->position, split = blockIdx.x, entry = split / kTilesPerBlock,
                in_block = split % kTilesPerBlock * kTileRows;
  const Blocks of(s, t);
  const bool in_window = entry < of.n_window();
  const bool known = in_window || !of.selects();
  int32_t block = in_window ? of.window + entry : entry - of.n_window();
  if (known && !in_window && block >= of.window) block = -1;
  if (known && block >= 0) copy_tile(tile, b, layer, block * EK_KV_BLOCK + in_block, t);
  wait_for_kernel_before();
  load_query(tile, b.query);
  bool selected = true;
  if (of.selects()) {
    const int32_t visible = b.kv.n_visible(t);
    join_statistics(statistics, tile.part, b, (visible + kTileRows - 1) / kTileRows);
    select(mask, key, statistics, b, s, of, visible);
    if (in_window) {
      selected = mask[block / 32] >> block % 32 & 1;
    } else {
      block = nth_selected(mask, entry - of.n_window(), of.window);
    }
  }
  const int32_t first = block * EK_KV_BLOCK + in_block;
  if (block < 0 || first > t) {
    copy_async_wait<0>();
    return mark_absent(b, split);
  }
  if (!known) copy_tile(tile, b, layer, first, t);
  if (t - first < kTileRows) copy_own(tile, b, layer, first, t);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  const float score = score_of(tile);
  const int32_t at = first + static_cast<int32_t>(threadIdx.x) / kMostHeads;
  const bool seen = at <= t, near = at > t - s.window;
  weigh<2>(tile, score, {seen && selected, seen && near},
           {b.row_max[0] + split * kMostHeads, b.row_max[1] + split * kMostHeads},
           {b.row_sum[0] + split * kMostHeads, b.row_sum[1] + split * kMostHeads});
  const size_t part = static_cast<size_t>(split) * s.n_heads * kLatent;
  float* const out[2] = {b.row_part[0] + part, b.row_part[1] + part};
  sum_values<2>(tile, tile.keys, kKeyPitch, {selected, first + kTileRows - 1 > t - s.window}, out, s.n_heads);
}

}  // namespace

void launch_attend(const Step& s, int32_t layer_index) {
  const size_t n = static_cast<size_t>(key_floats(s.shape.n_blocks));
  const size_t shared = sizeof(Tile) + n * sizeof(float) + (n + 31) / 32 * sizeof(uint32_t);
  s.run("attend", s.shape.most_union() * kTilesPerBlock, shared, attend_kernel, s.b, s.shape, layer_index);
}

}  // namespace ek::cuda::narrow
