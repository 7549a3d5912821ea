/* Absorbed latent attention of a token over the paged cache, split over the whole device. The 16 heads are
 * the rows of one tensor-core tile; a tile of 64 cached rows serves as keys, and its first 512 columns as
 * values. */
#include "kernels.h"
#include "scores.cuh"

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
__device__ void load_rows(__nv_bfloat16* tile, const __nv_bfloat16* from, int32_t first, int32_t end) {
  constexpr int kChunks = kRow / 8;
  for (int i = first * kChunks + static_cast<int>(threadIdx.x); i < end * kChunks; i += kThreads)
    copy_async_16(tile + i / kChunks * kPitch + i % kChunks * 8, from + i * 8, true);
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

__device__ void store_part(const TokenBuffers& b, int32_t split, const float (&out)[kDims / 8][4],
                           const Running& run) {
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  float* to = b.part + static_cast<size_t>(split) * kHeads * kLatent + threadIdx.x / kWarp * kDims;
  for (int n = 0; n < kDims / 8; n++) {
    *reinterpret_cast<float2*>(to + g * kLatent + n * 8 + 2 * t) = {out[n][0], out[n][1]};
    *reinterpret_cast<float2*>(to + (g + 8) * kLatent + n * 8 + 2 * t) = {out[n][2], out[n][3]};
  }
  if (threadIdx.x % 16 != 0) return;
  b.part_max[threadIdx.x / 16 * kSplits + split] = run.top;
  b.part_sum[threadIdx.x / 16 * kSplits + split] = run.sum;
}

/* The blocks of a sequence that one of the kSplits splits has, of n: those from begin to end - 1. */
struct Share {
  int32_t begin, end;

  __device__ static Share of(int32_t split, int32_t n) {
    const int32_t size = (n + kSplits - 1) / kSplits;
    const int32_t begin = min(n, split * size);
    return {begin, min(n, begin + size)};
  }
};

/* Block (i, j) of the grid has splits i kStages to i kStages + kStages - 1 of token j's blocks, one after the
 * other: of those listed for it from position sparse_from on, before it of all. With one stage a tile is in
 * shared memory, and two blocks fit into a multiprocessor, of which one loads while the other computes. With
 * two a block loads the next tile while it computes: that reads faster where a split has several tiles. A
 * split's sums are the same either way. */
template <int kStages>
__global__ void __launch_bounds__(kThreads, 3 - kStages)
    attend_kernel(StepBuffers all, int32_t n_blocks, int32_t layer, int32_t sparse_from) {
  const TokenBuffers b = all.of_token(blockIdx.y);
  uint4* memory = dynamic_shared<uint4>();
  AttendShared& s = *reinterpret_cast<AttendShared*>(memory);
  __nv_bfloat16* tiles = reinterpret_cast<__nv_bfloat16*>(memory + sizeof(AttendShared) / 16);
  allow_next_kernel();
  /* absorb, or select, has begun, so the kernels before it are done: the step's state is there, and what
   * earlier steps stored; with a list also the query. */
  const int32_t t = b.state->position, first = b.state->first; /* rows before it were there before the step */
  const bool sparse = t >= sparse_from;
  const __nv_bfloat16* cache = all.cache + static_cast<size_t>(layer) * n_blocks * 64 * kRow;
  const int32_t first_split = static_cast<int32_t>(blockIdx.x) * kStages;
  int32_t n = t / 64 + 1, n_loaded = 0; /* rows of the first tile */
  const int32_t* blocks = b.blocks;
  /* The last entry is the token's own block. */
  const auto rows_in = [&](int32_t entry) { return entry == n - 1 ? t % 64 + 1 : kTileTokens; };
  const auto tile_of = [&](int32_t entry) { return tiles + entry % kStages * (kTileTokens * kPitch); };
  const auto load = [&](int32_t entry, int32_t from, int32_t end) {
    load_rows(tile_of(entry), cache + static_cast<size_t>(blocks[entry]) * 64 * kRow, from, end);
  };
  if (sparse) {
    load_query(s.query, b.query);
  } else {
    const Share share = Share::of(first_split, n);
    n_loaded = min(max(first - share.begin * kTileTokens, 0), kTileTokens);
    if (share.begin < share.end) load(share.begin, 0, n_loaded);
  }
  wait_for_kernel_before();
  if (sparse) {
    blocks = b.listed + static_cast<size_t>(layer) * n_blocks;
    n = b.n_listed[layer];
  }
  const int32_t begin = Share::of(first_split, n).begin, end = Share::of(first_split + kStages - 1, n).end;
  if (!sparse && begin < end) load_query(s.query, b.query);
  const auto finish_load = [&](int32_t entry) {
    load(entry, entry == begin ? n_loaded : 0, rows_in(entry));
    if (rows_in(entry) < kTileTokens) clear_rows(tile_of(entry), rows_in(entry));
  };
  if (kStages > 1 && begin < end) finish_load(begin);
  copy_async_commit();
  for (int32_t split = first_split; split < first_split + kStages; split++) {
    const Share share = Share::of(split, n);
    if (share.begin == share.end) {
      if (threadIdx.x < kHeads) b.part_sum[threadIdx.x * kSplits + split] = 0;
      continue;
    }
    Running run{-INFINITY, 0};
    float out[kDims / 8][4] = {};
    for (int32_t entry = share.begin; entry < share.end; entry++) {
      if (kStages == 1 || entry + 1 < end) finish_load(entry + kStages - 1);
      copy_async_commit();
      copy_async_wait<kStages - 1>();
      __syncthreads();
      score_tile(s.score, s.query, tile_of(entry));
      __syncthreads();
      weigh_tile(s, rows_in(entry), run);
      __syncthreads();
      add_values(s, tile_of(entry), out);
      __syncthreads();
    }
    store_part(b, split, out, run);
  }
}

}  // namespace

void launch_attend(const Step& s, int32_t layer_index, bool sparse_step) {
  constexpr size_t kTile = sizeof(__nv_bfloat16) * kTileTokens * kPitch;
  static_assert(sizeof(AttendShared) % 16 == 0, "the tiles behind it are aligned");
  const bool sparse = sparse_step && layer_index >= s.shape.dense_layers;
  const auto launch_with = [&]<int kStages>(const char* name) {
    launch_overlapped(s, name, attend_kernel<kStages>, {kSplits / kStages, s.n_tokens}, kThreads,
                      sizeof(AttendShared) + kStages * kTile, s.b, s.shape.n_blocks, layer_index,
                      sparse ? s.shape.dense_len : INT32_MAX);
  };
  /* Where other layers are sparse, a dense one has many tiles. */
  if (sparse_step && !sparse && sizeof(AttendShared) + 2 * kTile + 1024 <= s.b.most_shared) {
    launch_with.template operator()<2>("attend_long");
  } else {
    launch_with.template operator()<1>(sparse ? "attend_sparse" : "attend_dense");
  }
}

}  // namespace ek::cuda
