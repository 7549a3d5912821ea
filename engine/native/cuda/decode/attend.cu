/* Absorbed latent attention of a token over the paged cache, split over the whole device. The 16 heads are
 * the rows of one tensor-core tile; a tile of 64 cached rows serves as keys, and its first 512 columns as
 * values. */
#include "kernels.h"
#include "tile_rows.cuh"

namespace ek::cuda {

namespace {

constexpr int kPPitch = kTileTokens + 8; /* bf16, weights */
constexpr int kDims = kLatent / kWarps;  /* latent columns per warp */

struct AttendShared {
  __nv_bfloat16 query[kHeads * kPitch];
  __nv_bfloat16 weight[kHeads * kPPitch];
  float score[kHeads * kSPitch];
  float scale[kHeads]; /* of what was summed before this tile */
};

/* Copies rows first to end - 1 of cache block `from` into a tile. */
template <RowFormat R>
__device__ void load_rows(__nv_bfloat16* tile, const uint8_t* from, int32_t first, int32_t end) {
  if constexpr (R == RowFormat::kFp8) {
    store_fp8_rows(tile, load_fp8_rows<false>(tile, from, first, end), first, end);
  } else {
    copy_bf16_rows<false>(tile, from, first, end);
  }
}

/* Rows behind the last become zero: their weights are 0, and so must be the products. */
__device__ void clear_rows(__nv_bfloat16* tile, int32_t first) {
  constexpr int kChunks = kRow / 8;
  for (int i = first * kChunks + static_cast<int>(threadIdx.x); i < kTileTokens * kChunks; i += kThreads)
    *reinterpret_cast<uint4*>(tile + i / kChunks * kPitch + i % kChunks * 8) = {0, 0, 0, 0};
}

/* Running maximum and sum of a head, held by its 16 threads. */
struct Running {
  float top, sum;
};

/* Weights of the tile's rows from their scores; thread 16 h + i has rows 4 i to 4 i + 3 of head h. */
__device__ void weigh_tile(AttendShared& s, int32_t n_rows, Running& run) {
  const int h = threadIdx.x / 16, i = threadIdx.x % 16;
  float v[4], top = run.top;
  for (int j = 0; j < 4; j++) {
    v[j] = i * 4 + j < n_rows ? s.score[h * kSPitch + i * 4 + j] : -INFINITY;
    top = fmaxf(top, v[j]);
  }
  for (int d = 8; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
  float sum = 0;
  for (int j = 0; j < 4; j++) {
    const __nv_bfloat16 p = __float2bfloat16_rn(i * 4 + j < n_rows ? expf(v[j] - top) : 0.0f);
    s.weight[h * kPPitch + i * 4 + j] = p;
    sum += __bfloat162float(p);
  }
  for (int d = 8; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  const float scale = run.top == -INFINITY ? 0.0f : expf(run.top - top);
  run = {top, run.sum * scale + sum};
  if (i == 0) s.scale[h] = scale;
}

/* out += weights times the first kLatent columns of the tile; the warp has kDims columns. */
__device__ void add_values(const AttendShared& s, const __nv_bfloat16* tile, float (&out)[kDims / 8][4]) {
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kDims, g = lane / 4, t = lane % 4;
  for (int n = 0; n < kDims / 8; n++) {
    for (int i = 0; i < 4; i++) out[n][i] *= s.scale[i < 2 ? g : g + 8];
  }
  for (int k = 0; k < kTileTokens; k += 16) {
    const uint32_t* upper = reinterpret_cast<const uint32_t*>(s.weight + g * kPPitch + k) + t;
    const uint32_t* lower = reinterpret_cast<const uint32_t*>(s.weight + (g + 8) * kPPitch + k) + t;
    const int token = k + lane % 16, column = first + lane / 16 * 8;
    for (int n = 0; n < kDims / 8; n += 2) {
      uint32_t b[4];
      load_matrices_transposed(b, tile + token * kPitch + column + n * 8);
      mma_bf16(out[n], upper[0], lower[0], upper[4], lower[4], b[0], b[1]);
      mma_bf16(out[n + 1], upper[0], lower[0], upper[4], lower[4], b[2], b[3]);
    }
  }
}

__device__ void store_part(const TokenBuffers& b, const float (&out)[kDims / 8][4], const Running& run) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  float* to = b.part + static_cast<size_t>(blockIdx.x) * kHeads * kLatent + threadIdx.x / kWarp * kDims;
  for (int n = 0; n < kDims / 8; n++) {
    *reinterpret_cast<float2*>(to + g * kLatent + n * 8 + 2 * t) = {out[n][0], out[n][1]};
    *reinterpret_cast<float2*>(to + (g + 8) * kLatent + n * 8 + 2 * t) = {out[n][2], out[n][3]};
  }
  if (threadIdx.x % 16 != 0) return;
  b.part_max[threadIdx.x / 16 * kSplits + blockIdx.x] = run.top;
  b.part_sum[threadIdx.x / 16 * kSplits + blockIdx.x] = run.sum;
}

/* Block (i, j) of the grid has the i-th even share of token j's blocks: those listed for it from position
 * sparse_from on, before it all. One tile is in shared memory, so that two
 * blocks fit into a multiprocessor: one loads while the other computes. */
template <RowFormat R>
__global__ void __launch_bounds__(kThreads, 2)
    attend_kernel(StepBuffers all, int32_t n_blocks, int32_t layer, int32_t sparse_from) {
  const TokenBuffers b = all.of_token(blockIdx.y);
  uint4* memory = dynamic_shared<uint4>();
  AttendShared& s = *reinterpret_cast<AttendShared*>(memory);
  __nv_bfloat16* tile = reinterpret_cast<__nv_bfloat16*>(memory + sizeof(AttendShared) / 16);
  allow_next_kernel();
  /* absorb, or select, has begun, so the kernels before it are done: the step's state is there, and what
   * earlier steps stored; with a list also the query. */
  const int32_t t = b.state->position, first = b.state->first; /* rows before it were there before the step */
  const bool sparse = t >= sparse_from;
  const auto rows_of = [&](int32_t block) {
    return all.cache.data + (static_cast<size_t>(layer) * n_blocks + block) * (64 * cache_row_bytes(R));
  };
  int32_t n = t / 64 + 1, share = 0, begin = 0, end = 0;
  const auto divide = [&] {
    share = (n + kSplits - 1) / kSplits;
    begin = min(n, static_cast<int32_t>(blockIdx.x) * share);
    end = min(n, begin + share);
  };
  divide();
  int32_t n_loaded = 0; /* rows of the first tile */
  if (sparse) {
    load_query(s.query, b.query);
  } else if (begin < end) {
    n_loaded = min(max(first - begin * kTileTokens, 0), kTileTokens);
    load_rows<R>(tile, rows_of(b.blocks[begin]), 0, n_loaded);
  }
  wait_for_kernel_before();
  const int32_t* blocks = sparse ? b.listed + static_cast<size_t>(layer) * n_blocks : b.blocks;
  const int32_t split = blockIdx.x;
  int32_t of_split = 0; /* where each split has one block: loaded beside their number, not behind it */
  if (sparse) {
    of_split = blocks[min(split, n_blocks - 1)];
    n = b.n_listed[layer];
    divide();
  }
  const auto block_of = [&](int32_t entry) { return sparse && entry == split ? of_split : blocks[entry]; };
  if (begin == end) {
    if (threadIdx.x < kHeads) b.part_sum[threadIdx.x * kSplits + blockIdx.x] = 0;
    return;
  }
  Running run{-INFINITY, 0};
  float out[kDims / 8][4] = {};
  for (int32_t entry = begin; entry < end; entry++) {
    /* The last entry is the token's own block. */
    const int32_t n_rows = entry == n - 1 ? t % 64 + 1 : kTileTokens;
    load_rows<R>(tile, rows_of(block_of(entry)), entry == begin ? n_loaded : 0, n_rows);
    copy_async_commit();
    if (n_rows < kTileTokens) clear_rows(tile, n_rows);
    if (!sparse && entry == begin) load_query(s.query, b.query);
    copy_async_wait<0>();
    __syncthreads();
    score_tile(s.score, s.query, tile);
    __syncthreads();
    weigh_tile(s, n_rows, run);
    __syncthreads();
    add_values(s, tile, out);
    __syncthreads();
  }
  store_part(b, out, run);
}

}  // namespace

void launch_attend(const Step& s, int32_t layer_index, bool sparse) {
  constexpr size_t kTile = sizeof(__nv_bfloat16) * kTileTokens * kPitch;
  static_assert(sizeof(AttendShared) % 16 == 0, "the tile behind it is aligned");
  for_row_format(s.shape.rows, [&]<RowFormat R>() {
    launch_overlapped(s, sparse ? "attend_sparse" : "attend_dense", attend_kernel<R>, {kSplits, s.n_tokens},
                      kThreads, sizeof(AttendShared) + kTile, s.b, s.shape.n_blocks, layer_index,
                      sparse ? s.shape.dense_len : INT32_MAX);
  });
}

}  // namespace ek::cuda
