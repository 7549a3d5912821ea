/* Attention of a chunk with keys and values expanded per head (192 and 128 numbers a head), a segment of the
 * cache at a time. Between segments the running maximum, sum and weighted values of every token and head are
 * kept in f32, so that memory depends on the segment and not on the context, and the result on neither.
 *
 * A tile of queries, aligned to positions, goes through its blocks of 64 keys in ascending order: all up to
 * its own, or its list. Where a chunk has lists, only the blocks that one of its tiles needs are expanded,
 * each in its slot. */
#include "kernels.h"
#include "tile.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kTileKeys = 64;
static_assert(kTileQueries == kWarps * 16, "a warp has 16 queries");
constexpr int kWidth = kNope + kRope, kKeyPitch = kWidth + 8, kValuePitch = kValue + 8; /* bf16 */
constexpr int kStage = kTileKeys * (kKeyPitch + kValuePitch);
constexpr size_t kShared = sizeof(__nv_bfloat16) * 2 * kStage;
constexpr float kLog2e = 1.44269504f;

struct AttendOp {
  ChunkBuffers b;
  StepBuffers cache;
  LiteShape shape;
  int32_t layer, first, end;    /* positions of the queries */
  int32_t begin_slot, end_slot; /* of the segment */
  bool selects;                 /* tiles from dense_len on have lists, and blocks have slots */
};

/* The blocks of a tile, in ascending order, and where they are expanded. */
struct Entries {
  int32_t begin, end;          /* those in the segment */
  int32_t n;                   /* of all segments */
  const int32_t *block, *slot; /* shared; null: entry i is block i in slot i */

  __device__ int32_t block_at(int32_t i) const { return block == nullptr ? i : block[i]; }
  __device__ int32_t slot_at(int32_t i) const { return slot == nullptr ? i : slot[i]; }
};

/* Entries before the first whose slot is `slot` or more. */
__device__ int32_t entries_before(const int32_t* slots, int32_t n, int32_t slot) {
  int32_t low = 0, high = n;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (slots[middle] < slot) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* shared: two numbers per entry. All threads of the block call. */
__device__ Entries find_entries(const AttendOp& op, int32_t tile, int32_t* shared) {
  const int32_t t = tile * kTileQueries, last_block = (min(t + kTileQueries, op.end) - 1) / 64;
  if (!op.selects || t < op.shape.dense_len) {
    const int32_t n = last_block + 1;
    return {min(n, op.begin_slot), min(n, op.end_slot), n, nullptr, nullptr};
  }
  const int32_t* list = op.cache.tile_list(op.shape, op.layer, t);
  const int32_t n_listed = min(op.shape.most_listed(), t / 64 + 1), n = n_listed + last_block - t / 64;
  int32_t *block = shared, *slot = shared + n;
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    block[i] = i < n_listed ? list[i] : t / 64 + 1 + i - n_listed; /* what begins inside of the tile */
    slot[i] = op.b.block_slot[block[i]];
  }
  __syncthreads();
  return {entries_before(slot, n, op.begin_slot), entries_before(slot, n, op.end_slot), n, block, slot};
}

/* A warp's 16 queries: lane 4 g + t has rows g and g + 8. */
struct Rows {
  float top[2], total[2];
  float out[kValue / 8][4]; /* as mma_bf16 */
};

/* Begins to copy the 64 keys and values of a block; those behind the last query become zeros. */
__device__ void load_tile(__nv_bfloat16* stage, const AttendOp& op, int32_t block, int32_t slot, int head) {
  constexpr int kChunks = kWidth / 8, kNopeChunks = kNope / 8, kValueChunks = kValue / 8;
  const int32_t n_valid = op.end - block * 64;
  const size_t layer_block = static_cast<size_t>(op.layer) * op.shape.n_blocks + op.cache.blocks[block];
  const int pitch = cache_row_bytes(op.cache.cache.format);
  const uint8_t* rotary = op.cache.cache.data + layer_block * 64 * pitch + rope_offset(op.cache.cache.format);
  const size_t expanded = (static_cast<size_t>(slot - op.begin_slot) * 64 * kHeads + head);
  for (int i = threadIdx.x; i < kTileKeys * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const bool valid = row < n_valid;
    const size_t r = valid ? row : 0;
    const void* from = rotary + r * pitch + (chunk - kNopeChunks) * 16;
    if (chunk < kNopeChunks) from = op.b.keys + (expanded + r * kHeads) * kNope + chunk * 8;
    copy_async_16(stage + row * kKeyPitch + chunk * 8, from, valid);
  }
  __nv_bfloat16* values = stage + kTileKeys * kKeyPitch;
  for (int i = threadIdx.x; i < kTileKeys * kValueChunks; i += kThreads) {
    const int row = i / kValueChunks, chunk = i % kValueChunks;
    const bool valid = row < n_valid;
    const size_t r = valid ? row : 0;
    copy_async_16(values + row * kValuePitch + chunk * 8,
                  op.b.values + (expanded + r * kHeads) * kValue + chunk * 8, valid);
  }
}

/* The warp's queries as left matrices, straight from device memory. row: of the chunk; rows outside of it are
 * computed and not stored. */
__device__ void load_queries(uint32_t (&q)[kWidth / 16][4], const AttendOp& op, int32_t row, int head,
                             int lane) {
  const int g = lane / 4, t = lane % 4;
  const auto line = [&](int32_t r) {
    const size_t clamped = static_cast<size_t>(min(max(r, 0), op.end - op.first - 1));
    return reinterpret_cast<const uint32_t*>(op.b.query + (clamped * kHeads + head) * kWidth) + t;
  };
  const uint32_t *upper = line(row + g), *lower = line(row + g + 8);
#pragma unroll
  for (int k = 0; k < kWidth / 16; k++) {
    q[k][0] = upper[k * 8];
    q[k][1] = lower[k * 8];
    q[k][2] = upper[k * 8 + 4];
    q[k][3] = lower[k * 8 + 4];
  }
}

/* Removes the scores of keys behind their query. position: of row g; the lane's keys are at `at` + 8 n + 2 t
 * and the next. */
__device__ void hide_later(float (&s)[kTileKeys / 8][4], int32_t position, int32_t at, int lane) {
#pragma unroll
  for (int n = 0; n < kTileKeys / 8; n++) {
    for (int i = 0; i < 4; i++) {
      if (at + n * 8 + lane % 4 * 2 + i % 2 > position + i / 2 * 8) s[n][i] = -INFINITY;
    }
  }
}

/* Scores become weights, in bf16; updates the running maximum and sum, and scales what was summed before. */
__device__ void weigh(float (&s)[kTileKeys / 8][4], Rows& rows) {
  for (int r = 0; r < 2; r++) {
    float top = rows.top[r];
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; n++) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float scale = exp2f((rows.top[r] - top) * kLog2e);
    float sum = 0;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; n++) {
      for (int i = 0; i < 2; i++) {
        float& v = s[n][2 * r + i];
        v = __bfloat162float(__float2bfloat16_rn(exp2f((v - top) * kLog2e)));
        sum += v;
      }
    }
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    rows.top[r] = top;
    rows.total[r] = rows.total[r] * scale + sum;
#pragma unroll
    for (int n = 0; n < kValue / 8; n++) {
      rows.out[n][2 * r] *= scale;
      rows.out[n][2 * r + 1] *= scale;
    }
  }
}

__device__ void attend_tile(const __nv_bfloat16* stage, const uint32_t (&q)[kWidth / 16][4], Rows& rows,
                            int32_t position, int32_t at, int lane) {
  float s[kTileKeys / 8][4] = {};
#pragma unroll
  for (int k = 0; k < kWidth / 16; k++) {
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; n += 2) {
      uint32_t b[4];
      load_right<kKeyPitch>(b, stage, n * 8, k * 16, lane);
      mma_bf16(s[n], q[k][0], q[k][1], q[k][2], q[k][3], b[0], b[1]);
      mma_bf16(s[n + 1], q[k][0], q[k][1], q[k][2], q[k][3], b[2], b[3]);
    }
  }
  const int32_t warp_first = position - lane / 4;
  if (at + kTileKeys - 1 > warp_first) hide_later(s, position, at, lane);
  weigh(s, rows);
  const __nv_bfloat16* values = stage + kTileKeys * kKeyPitch;
#pragma unroll
  for (int k = 0; k < kTileKeys / 16; k++) {
    uint32_t p[4];
    for (int i = 0; i < 4; i++)
      p[i] = pack_bf16(s[2 * k + i / 2][i % 2 * 2], s[2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < kValue / 8; n += 2) {
      uint32_t b[4];
      load_right_transposed<kValuePitch>(b, values, n * 8, k * 16, lane);
      mma_bf16(rows.out[n], p[0], p[1], p[2], p[3], b[0], b[1]);
      mma_bf16(rows.out[n + 1], p[0], p[1], p[2], p[3], b[2], b[3]);
    }
  }
}

__device__ void load_state(Rows& rows, const AttendOp& op, bool is_first, int32_t row, int head, int lane) {
  for (int r = 0; r < 2; r++) {
    const int32_t own = row + lane / 4 + 8 * r;
    const bool has = !is_first && own >= 0 && own < op.end - op.first;
    const size_t place = static_cast<size_t>(has ? own : 0) * kHeads + head;
    rows.top[r] = has ? op.b.tops[place] : -INFINITY;
    rows.total[r] = has ? op.b.totals[place] : 0.0f;
    for (int n = 0; n < kValue / 8; n++) {
      for (int i = 0; i < 2; i++)
        rows.out[n][2 * r + i] = has ? op.b.sums[place * kValue + n * 8 + lane % 4 * 2 + i] : 0.0f;
    }
  }
}

__device__ void store_state(const Rows& rows, const AttendOp& op, bool is_last, int32_t row, int head,
                            int lane) {
  for (int r = 0; r < 2; r++) {
    const int32_t own = row + lane / 4 + 8 * r;
    if (own < 0 || own >= op.end - op.first) continue;
    const size_t place = static_cast<size_t>(own) * kHeads + head;
    for (int n = 0; n < kValue / 8; n++) {
      const size_t at = place * kValue + n * 8 + lane % 4 * 2;
      const float first = rows.out[n][2 * r], second = rows.out[n][2 * r + 1], total = rows.total[r];
      if (is_last) {
        *reinterpret_cast<uint32_t*>(op.b.heads + at) = pack_bf16(first / total, second / total);
      } else {
        *reinterpret_cast<float2*>(op.b.sums + at) = {first, second};
      }
    }
    if (!is_last && lane % 4 == 0) {
      op.b.tops[place] = rows.top[r];
      op.b.totals[place] = rows.total[r];
    }
  }
}

/* grid (heads, tiles of queries); the last tiles have the most keys and come first. */
__global__ void __launch_bounds__(kThreads, 1) attend_chunk_kernel(AttendOp op) {
  __nv_bfloat16* stages = dynamic_shared<__nv_bfloat16>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, head = blockIdx.x;
  const int32_t tile = op.first / kTileQueries + static_cast<int32_t>(gridDim.y - 1 - blockIdx.y);
  const int32_t position = tile * kTileQueries + warp * 16, row = position - op.first; /* the warp's first */
  const Entries e = find_entries(op, tile, reinterpret_cast<int32_t*>(stages + 2 * kStage));
  if (e.begin == e.end) return; /* an earlier segment had the last, or a later one has the next */
  load_tile(stages, op, e.block_at(e.begin), e.slot_at(e.begin), head);
  copy_async_commit();
  uint32_t q[kWidth / 16][4];
  load_queries(q, op, row, head, lane);
  Rows rows;
  load_state(rows, op, e.begin == 0, row, head, lane);
  for (int32_t i = e.begin; i < e.end; i++) {
    const int stage = (i - e.begin) % 2;
    if (i + 1 < e.end)
      load_tile(stages + (stage ^ 1) * kStage, op, e.block_at(i + 1), e.slot_at(i + 1), head);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    const int32_t at = e.block_at(i) * 64;
    if (at <= position + 15) attend_tile(stages + stage * kStage, q, rows, position + lane / 4, at, lane);
    __syncthreads();
  }
  store_state(rows, op, e.end == e.n, row, head, lane);
}

/* The matrices of a stack below each other. */
WeightView as_one_matrix(WeightView stack) {
  stack.n_rows *= stack.n_matrices;
  stack.n_matrices = 1;
  return stack;
}

/* Keys and values of `n` rows, as op.b.keys and op.b.values. */
void launch_expand(const Chunk& c, const LiteLayer& layer, const GemmRows& rows, int32_t n) {
  const int32_t tiles = ceil_div(n, kGemmRows);
  if (is_transposed(layer.k_b)) {
    launch_multiply_down(c.stream, "expand_keys", rows, 0, layer.k_b, n, c.b.keys);
  } else {
    launch_gemm(c.stream, "expand_keys",
                {rows, {}, as_one_matrix(layer.k_b), {}, n, tiles, GemmOut::kBf16, c.b.keys});
  }
  launch_gemm(c.stream, "expand_values",
              {rows, {}, as_one_matrix(layer.v_b), {}, n, tiles, GemmOut::kBf16, c.b.values});
  c.mark("expand");
}

}  // namespace

void launch_attend_segment(const Chunk& c, int32_t layer_index, int32_t begin_slot, int32_t end_slot,
                           bool by_list) {
  const int32_t end = c.first + c.n, n_tiles = (end - 1) / kTileQueries - c.first / kTileQueries + 1;
  const size_t entries = by_list ? 2 * static_cast<size_t>(c.shape.most_listed() + kTileQueries / 64) : 0;
  const AttendOp op{c.b, c.cache, c.shape, layer_index, c.first, end, begin_slot, end_slot, by_list};
  launch(c.stream, "attend_chunk", {{kHeads, n_tiles}, kThreads, kShared + entries * sizeof(int32_t)},
         attend_chunk_kernel, op);
}

void launch_attention(const Chunk& c, const LiteLayer& layer, int32_t index, int32_t segment) {
  const int32_t end = c.first + c.n;
  const bool by_list = selects(c, index);
  if (by_list) {
    launch_select_tiles(c, layer, index);
    launch_assign_slots(c, index);
  }
  for (int32_t begin = 0; begin < end; begin += segment) {
    /* With lists there may be fewer blocks than this; the kernels of a segment that is empty end at once. */
    const int32_t n = std::min(segment, end - begin);
    const GemmRows rows{nullptr, 0,
                        nullptr, by_list ? c.b.slot_blocks : c.cache.blocks,
                        begin,   by_list ? c.b.n_slots : nullptr};
    launch_expand(c, layer, launch_latents(c, index, rows, n), n);
    launch_attend_segment(c, index, begin / 64, ceil_div(begin + n, 64), by_list);
    c.mark(by_list ? "attend_lists" : "attend_chunk");
  }
}

}  // namespace ek::cuda
