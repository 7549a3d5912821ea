/* Attention of a chunk with keys and values expanded per head (192 and 128 numbers a head), a segment of the
 * cache at a time. Between segments the running maximum, sum and weighted values of every token and head are
 * kept in f32, so that memory depends on the segment and not on the context, and the result on neither. */
#include "kernels.h"
#include "tile.cuh"

namespace ek::cuda {

namespace {

constexpr int kWarps = 8, kThreads = kWarps * kWarp, kQueries = kWarps * 16, kTileKeys = 64;
constexpr int kWidth = kNope + kRope, kKeyPitch = kWidth + 8, kValuePitch = kValue + 8; /* bf16 */
constexpr int kStage = kTileKeys * (kKeyPitch + kValuePitch);
constexpr size_t kShared = sizeof(__nv_bfloat16) * 2 * kStage;
constexpr float kLog2e = 1.44269504f;

struct AttendOp {
  ChunkBuffers b;
  GemmRows cache;         /* rows of the layer, by position from `begin` on */
  int32_t first, n;       /* queries */
  int32_t begin, end;     /* positions of the segment */
  bool is_first, is_last; /* segment */
};

/* A warp's 16 queries: lane 4 g + t has rows g and g + 8. */
struct Rows {
  float top[2], total[2];
  float out[kValue / 8][4]; /* as mma_bf16 */
};

/* Begins to copy 64 keys and values from position `at` on; those behind the segment become zeros. */
__device__ void load_tile(__nv_bfloat16* stage, const AttendOp& op, int32_t at, int head) {
  constexpr int kChunks = kWidth / 8, kNopeChunks = kNope / 8, kValueChunks = kValue / 8;
  for (int i = threadIdx.x; i < kTileKeys * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks;
    const bool valid = at + row < op.end;
    const int32_t r = valid ? at + row - op.begin : 0;
    const __nv_bfloat16* from = chunk < kNopeChunks
                                    ? op.b.keys + (static_cast<size_t>(r) * kHeads + head) * kNope + chunk * 8
                                    : op.cache.row(r) + kLatent + (chunk - kNopeChunks) * 8;
    copy_async_16(stage + row * kKeyPitch + chunk * 8, from, valid);
  }
  __nv_bfloat16* values = stage + kTileKeys * kKeyPitch;
  for (int i = threadIdx.x; i < kTileKeys * kValueChunks; i += kThreads) {
    const int row = i / kValueChunks, chunk = i % kValueChunks;
    const bool valid = at + row < op.end;
    const int32_t r = valid ? at + row - op.begin : 0;
    copy_async_16(values + row * kValuePitch + chunk * 8,
                  op.b.values + (static_cast<size_t>(r) * kHeads + head) * kValue + chunk * 8, valid);
  }
}

/* The warp's queries as left matrices, straight from device memory. */
__device__ void load_queries(uint32_t (&q)[kWidth / 16][4], const AttendOp& op, int32_t row, int head,
                             int lane) {
  const int g = lane / 4, t = lane % 4;
  const auto line = [&](int32_t r) {
    const size_t clamped = static_cast<size_t>(r < op.n ? r : op.n - 1);
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

/* Scores become weights, in bf16; updates the running maximum and sum, and scales what was summed before.
 * position: of row g; the lane's keys are at `at` + 8 n + 2 t and the next. */
__device__ void weigh(float (&s)[kTileKeys / 8][4], Rows& rows, int32_t position, int32_t at, int lane) {
  const int t = lane % 4;
  for (int r = 0; r < 2; r++) {
    float top = rows.top[r];
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; n++) {
      for (int i = 0; i < 2; i++) {
        float& v = s[n][2 * r + i];
        if (at + n * 8 + 2 * t + i > position + 8 * r) v = -INFINITY;
        top = fmaxf(top, v);
      }
    }
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
  weigh(s, rows, position, at, lane);
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

__device__ void load_state(Rows& rows, const AttendOp& op, int32_t row, int head, int lane) {
  for (int r = 0; r < 2; r++) {
    const int32_t own = row + lane / 4 + 8 * r;
    const bool has = !op.is_first && own < op.n;
    const size_t place = static_cast<size_t>(has ? own : 0) * kHeads + head;
    rows.top[r] = has ? op.b.tops[place] : -INFINITY;
    rows.total[r] = has ? op.b.totals[place] : 0.0f;
    for (int n = 0; n < kValue / 8; n++) {
      for (int i = 0; i < 2; i++)
        rows.out[n][2 * r + i] = has ? op.b.sums[place * kValue + n * 8 + lane % 4 * 2 + i] : 0.0f;
    }
  }
}

__device__ void store_state(const Rows& rows, const AttendOp& op, int32_t row, int head, int lane) {
  for (int r = 0; r < 2; r++) {
    const int32_t own = row + lane / 4 + 8 * r;
    if (own >= op.n) continue;
    const size_t place = static_cast<size_t>(own) * kHeads + head;
    for (int n = 0; n < kValue / 8; n++) {
      const size_t at = place * kValue + n * 8 + lane % 4 * 2;
      const float first = rows.out[n][2 * r], second = rows.out[n][2 * r + 1], total = rows.total[r];
      if (op.is_last) {
        *reinterpret_cast<uint32_t*>(op.b.heads + at) = pack_bf16(first / total, second / total);
      } else {
        *reinterpret_cast<float2*>(op.b.sums + at) = {first, second};
      }
    }
    if (!op.is_last && lane % 4 == 0) {
      op.b.tops[place] = rows.top[r];
      op.b.totals[place] = rows.total[r];
    }
  }
}

/* grid (heads, tiles of 128 queries); the last tiles have the most keys and come first. */
__global__ void __launch_bounds__(kThreads, 1) attend_chunk_kernel(AttendOp op) {
  __nv_bfloat16* stages = dynamic_shared<__nv_bfloat16>();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, head = blockIdx.x;
  const int32_t tile = static_cast<int32_t>(gridDim.y - 1 - blockIdx.y) * kQueries, row = tile + warp * 16;
  const int32_t last = op.first + min(tile + kQueries, op.n) - 1, end = min(op.end, last + 1);
  uint32_t q[kWidth / 16][4];
  Rows rows;
  if (op.begin < end) load_tile(stages, op, op.begin, head);
  copy_async_commit();
  load_queries(q, op, row, head, lane);
  load_state(rows, op, row, head, lane);
  int stage = 0;
  for (int32_t at = op.begin; at < end; at += kTileKeys, stage ^= 1) {
    if (at + kTileKeys < end) load_tile(stages + (stage ^ 1) * kStage, op, at + kTileKeys, head);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();
    attend_tile(stages + stage * kStage, q, rows, op.first + row + lane / 4, at, lane);
    __syncthreads();
  }
  store_state(rows, op, row, head, lane);
}

/* The matrices of a stack below each other. */
WeightView as_one_matrix(WeightView stack) {
  stack.n_rows *= stack.n_matrices;
  stack.n_matrices = 1;
  return stack;
}

}  // namespace

void launch_attention(const Chunk& c, const LiteLayer& layer, int32_t index, int32_t segment) {
  const int32_t end = c.first + c.n;
  const size_t layer_rows = static_cast<size_t>(c.shape.n_blocks) * 64;
  const __nv_bfloat16* cache = c.cache.cache + static_cast<size_t>(index) * layer_rows * kRow;
  const WeightView v_b = as_one_matrix(layer.v_b), k_b = as_one_matrix(layer.k_b);
  for (int32_t begin = 0; begin < end; begin += segment) {
    const int32_t n = std::min(segment, end - begin);
    const GemmRows rows{cache, kRow, nullptr, c.cache.blocks, begin};
    const int32_t tiles = ceil_div(n, kGemmRows);
    if (is_transposed(layer.k_b)) {
      launch_expand_keys(c.stream, rows, layer.k_b, n, c.b.keys);
    } else {
      launch_gemm(c.stream, "expand_keys", {rows, {}, k_b, {}, n, tiles, GemmOut::kBf16, c.b.keys});
    }
    launch_gemm(c.stream, "expand_values", {rows, {}, v_b, {}, n, tiles, GemmOut::kBf16, c.b.values});
    c.mark("expand");
    const AttendOp op{c.b, rows, c.first, c.n, begin, begin + n, begin == 0, begin + n == end};
    launch(c.stream, "attend_chunk", {{kHeads, ceil_div(c.n, kQueries)}, kThreads, kShared},
           attend_chunk_kernel, op);
    c.mark("attend_chunk");
  }
}

}  // namespace ek::cuda
