/* Which experts a chunk's tokens go to: RMSNorm, the router, and the choice. A number of both is the sum of
 * two of bf16, and a product three on tensor cores: as exact as a sum of f32 is over so many columns. Sums
 * have one order whatever the chunk. */
#include "route.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kTokens = 32, kExperts = 64, kDepth = 128, kPitch = kDepth + 8; /* of a tile, bf16 */
constexpr int kColumns = 4, kAcross = 8; /* that a thread loads at once, and threads beside each other */
constexpr int kTurns = kDepth / (kAcross * kColumns), kRowsAtOnce = kThreads / kAcross;
static_assert(kRowsAtOnce == kTokens && kExperts % kRowsAtOnce == 0,
              "a thread has a token, and some experts");

/* Rows of numbers as sums of two. */
struct SplitRows {
  __nv_bfloat16 *high, *low;

  __device__ void store(int row, int column, const float4& v) const {
    const uint2 upper{pack_bf16(v.x, v.y), pack_bf16(v.z, v.w)};
    const uint2 rest{pack_bf16(v.x - bf16_value(upper.x & 0xffff), v.y - bf16_value(upper.x >> 16)),
                     pack_bf16(v.z - bf16_value(upper.y & 0xffff), v.w - bf16_value(upper.y >> 16))};
    *reinterpret_cast<uint2*>(high + row * kPitch + column) = upper;
    *reinterpret_cast<uint2*>(low + row * kPitch + column) = rest;
  }
};

struct RouteShared {
  SplitRows tokens, router;
  float* logit; /* (kTokens, experts) */

  static constexpr size_t kTiles = sizeof(__nv_bfloat16) * 2 * (kTokens + kExperts) * kPitch;
  __device__ RouteShared() {
    __nv_bfloat16* at = dynamic_shared<__nv_bfloat16>();
    tokens = {at, at + kTokens * kPitch};
    router = {at + 2 * kTokens * kPitch, at + (2 * kTokens + kExperts) * kPitch};
    logit = reinterpret_cast<float*>(at + 2 * (kTokens + kExperts) * kPitch);
  }
};

struct RouteOp {
  ChunkBuffers b;
  const float *router, *norm;
  LiteShape shape;
  int32_t n; /* tokens */
};

__device__ float4 load_columns(const float* row, int32_t column, bool exists) {
  return exists ? *reinterpret_cast<const float4*>(row + column) : float4{0, 0, 0, 0};
}

/* Of a token: the factor of RMSNorm. All threads that share it call. */
__device__ float norm_factor(const float* x, int32_t hidden, float eps) {
  float sum = 0;
#pragma unroll 8
  for (int32_t c = threadIdx.x % kAcross * kColumns; c < hidden; c += kAcross * kColumns) {
    const float4 v = load_columns(x, c, true);
    sum = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, sum))));
  }
  for (int lanes = 1; lanes < kAcross; lanes *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  return rsqrtf(sum / static_cast<float>(hidden) + eps);
}

/* What a thread loads of 128 columns: of its token and of its experts. */
struct LoadedColumns {
  float4 x[kTurns], norm[kTurns], router[kExperts / kRowsAtOnce][kTurns];

  __device__ void load(const RouteOp& op, const float* x_row, int32_t expert, int32_t column) {
    const int32_t hidden = op.shape.hidden;
#pragma unroll
    for (int i = 0; i < kTurns; i++) {
      const int32_t c = column + (i * kAcross + static_cast<int32_t>(threadIdx.x) % kAcross) * kColumns;
      x[i] = load_columns(x_row, c, c < hidden);
      norm[i] = load_columns(op.norm, c, c < hidden);
      for (int j = 0; j < kExperts / kRowsAtOnce; j++) {
        const int32_t e = expert + j * kRowsAtOnce + static_cast<int32_t>(threadIdx.x) / kAcross;
        router[j][i] = load_columns(op.router + static_cast<size_t>(e) * hidden, c,
                                    c < hidden && e < op.shape.n_experts);
      }
    }
  }

  /* To shared memory, and the normalised token to `h` unless that is null. */
  __device__ void store(const RouteShared& s, float factor, __nv_bfloat16* h, int32_t hidden,
                        int32_t column) const {
    const int row = threadIdx.x / kAcross;
#pragma unroll
    for (int i = 0; i < kTurns; i++) {
      const int at = (i * kAcross + threadIdx.x % kAcross) * kColumns;
      const float4 v{x[i].x * factor * norm[i].x, x[i].y * factor * norm[i].y, x[i].z * factor * norm[i].z,
                     x[i].w * factor * norm[i].w};
      s.tokens.store(row, at, v);
      if (h != nullptr && column + at < hidden)
        *reinterpret_cast<uint2*>(h + column + at) = {pack_bf16(v.x, v.y), pack_bf16(v.z, v.w)};
      for (int j = 0; j < kExperts / kRowsAtOnce; j++)
        s.router.store(j * kRowsAtOnce + row, at, router[j][i]);
    }
  }
};

/* Sums of a warp's 16 tokens and 16 experts: [8 experts][as mma_bf16]. */
using RouteSums = float[2][4];

__device__ void multiply_columns(RouteSums& sums, const RouteShared& s, int lane, int warp) {
  const int token = warp % 2 * 16, expert = warp / 2 * 16;
#pragma unroll
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t a[2][4], w[2][4];
    load_left<kPitch>(a[0], s.tokens.high, token, k, lane);
    load_left<kPitch>(a[1], s.tokens.low, token, k, lane);
    load_right<kPitch>(w[0], s.router.high, expert, k, lane);
    load_right<kPitch>(w[1], s.router.low, expert, k, lane);
    for (int n = 0; n < 2; n++) {
      for (int part = 0; part < 3; part++) {
        const uint32_t(&left)[4] = a[part == 1], (&right)[4] = w[part == 2];
        mma_bf16(sums[n], left[0], left[1], left[2], left[3], right[2 * n], right[2 * n + 1]);
      }
    }
  }
}

__device__ void store_logits(const RouteShared& s, const RouteSums& sums, int32_t expert, int32_t n_experts,
                             int lane, int warp) {
  for (int n = 0; n < 2; n++) {
    for (int i = 0; i < 4; i++) {
      const int token = warp % 2 * 16 + lane / 4 + i / 2 * 8;
      const int32_t e = expert + warp / 2 * 16 + n * 8 + lane % 4 * 2 + i % 2;
      if (e < n_experts) s.logit[token * n_experts + e] = sums[n][i];
    }
  }
}

/* A block per 32 tokens. */
__global__ void __launch_bounds__(kThreads) route_rows_kernel(RouteOp op) {
  const RouteShared s;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kTokens, hidden = op.shape.hidden,
                n_experts = op.shape.n_experts;
  const int32_t own = first + static_cast<int32_t>(threadIdx.x) / kAcross;
  const size_t row = static_cast<size_t>(min(own, op.n - 1)) * hidden;
  const float* x = op.b.x + row;
  LoadedColumns loaded;
  loaded.load(op, x, 0, 0);
  const float factor = norm_factor(x, hidden, op.shape.eps);
  for (int32_t expert = 0; expert < n_experts; expert += kExperts) {
    __nv_bfloat16* h = expert == 0 && own < op.n ? op.b.h + row : nullptr;
    RouteSums sums = {};
    for (int32_t column = 0; column < hidden; column += kDepth) {
      __syncthreads(); /* nobody multiplies the columns before */
      loaded.store(s, factor, h, hidden, column);
      __syncthreads();
      const bool is_last = column + kDepth >= hidden;
      if (!is_last || expert + kExperts < n_experts)
        loaded.load(op, x, is_last ? expert + kExperts : expert, is_last ? 0 : column + kDepth);
      multiply_columns(sums, s, lane, warp);
    }
    store_logits(s, sums, expert, n_experts, lane, warp);
  }
  __syncthreads();
  for (int i = warp; i < kTokens && first + i < op.n; i += kWarps) {
    const size_t pair = static_cast<size_t>(first + i) * op.shape.top_k;
    choose_by_warp(s.logit + i * n_experts, n_experts, op.shape.top_k, op.b.experts + pair,
                   op.b.weights + pair, lane);
  }
}

}  // namespace

void launch_route(const Chunk& c, const LiteLayer& layer) {
  if (c.is_short) return launch_route_few(c, layer);
  launch(c.stream, "route",
         {ceil_div(c.n, kTokens), kThreads,
          RouteShared::kTiles + sizeof(float) * kTokens * static_cast<size_t>(c.shape.n_experts)},
         route_rows_kernel, RouteOp{c.b, layer.router, layer.ffn_norm, c.shape, c.n});
  c.mark("route");
  launch_sort_pairs(c);
}

}  // namespace ek::cuda
