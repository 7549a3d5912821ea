/* Products of a vector with rows of a weight for the least latency: 16 lanes have a row, a lane 32 columns of
 * it, unpacked into registers before the vector is there. */
#ifndef EK_CUDA_NARROW_ROWS_CUH
#define EK_CUDA_NARROW_ROWS_CUH
#include "../ops/reduce.cuh"
#include "kernels.h"

namespace ek::cuda::narrow {

constexpr int kRowLanes = 16;
constexpr int kWarps = kThreads / kWarp;

/* Pieces of a row: a piece is unit t of all four parts of 128 columns. */
__device__ inline int32_t pieces_of(int32_t n_cols) { return (n_cols + kGroup - 1) / kGroup * 4; }

/* Where column c of a vector lies in shared memory: lanes with other 128 columns read other banks. */
__device__ inline int32_t staged_at(int32_t c) { return c + c / kGroup * 4; }
/* Floats of a vector in shared memory. */
EK_HD inline int32_t staged_floats(int32_t n) { return (n + kGroup - 1) / kGroup * (kGroup + 4); }

template <ek_type F>
struct Piece {
  float w[32];

  __device__ void load(const WeightView& view, size_t row, int32_t piece) {
    const int32_t group = piece / 4, t = piece % 4;
    if constexpr (F == EK_Q4_0) {
      const int i = static_cast<int>(row % kChunkRows);
      const uint8_t* chunk = tile_at<F>(view, row) + chunk_offset(F, group);
      const uint4 low = *reinterpret_cast<const uint4*>(chunk + low_offset(F, i, 0, t));
      const uint2 scales = *reinterpret_cast<const uint2*>(chunk + scale_offset(F, i));
      const uint32_t words[4] = {low.x, low.y, low.z, low.w};
      for (int part = 0; part < 4; part++) {
        const uint32_t pair = part < 2 ? scales.x : scales.y;
        const float d = half_value(static_cast<uint16_t>(part % 2 == 0 ? pair & 0xffff : pair >> 16));
        for (int k = 0; k < 8; k++)
          w[part * 8 + k] = fmaf(static_cast<float>(words[part] >> 4 * k & 15), d, -8.0f * d);
      }
    } else {
      for (int part = 0; part < 4; part++) load_unit<F>(view, row, group * 16 + part * 4 + t, w + part * 8);
    }
  }

  /* The share of this piece in the row's product with x, which is staged. */
  __device__ float dot(const float* x, int32_t piece) const {
    const float* at = x + piece / 4 * (kGroup + 4) + piece % 4 * 8;
    float sum[2] = {};
    for (int part = 0; part < 4; part++) {
      for (int half = 0; half < 2; half++) {
        const float4 v = *reinterpret_cast<const float4*>(at + part * 32 + half * 4);
        const float* u = w + part * 8 + half * 4;
        sum[half] = fmaf(u[0], v.x, fmaf(u[1], v.y, fmaf(u[2], v.z, fmaf(u[3], v.w, sum[half]))));
      }
    }
    return sum[0] + sum[1];
  }
};

/* Sum over the 16 lanes of a row; all 32 lanes must call. */
__device__ inline float row_sum(float x) {
  for (int d = kRowLanes / 2; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

/* A row times a vector, by 16 lanes. */
template <ek_type F>
struct RowProduct {
  Piece<F> first;
  size_t row;

  __device__ void prefetch(const WeightView& w, size_t r) {
    const int32_t lane = threadIdx.x % kRowLanes;
    row = r;
    if (lane < pieces_of(w.n_cols)) first.load(w, r, lane);
  }
  /* This lane's share. */
  __device__ float share(const WeightView& w, const float* x) const {
    const int32_t lane = threadIdx.x % kRowLanes, n = pieces_of(w.n_cols);
    float sum = lane < n ? first.dot(x, lane) : 0.0f;
    for (int32_t p = lane + kRowLanes; p < n; p += kRowLanes) {
      Piece<F> more;
      more.load(w, row, p);
      sum += more.dot(x, p);
    }
    return sum;
  }
  __device__ float multiply(const WeightView& w, const float* x) const { return row_sum(share(w, x)); }
};

/* Brings the residual, times the weights of a norm, to shared memory. The factor 1 / rms comes after the
 * products, so that they need not wait for it. */
struct NormedInput {
  float4 weight; /* of this thread's first four columns */

  __device__ void prefetch(const float* norm, int32_t hidden) {
    if (static_cast<int32_t>(threadIdx.x) * 4 < hidden)
      weight = reinterpret_cast<const float4*>(norm)[threadIdx.x];
  }
  /* squares: a float per warp. Ends in a barrier. */
  __device__ void stage(float* to, float* squares, const float* x, const float* norm, int32_t hidden) const {
    float sum = 0;
    for (int32_t i = threadIdx.x; i * 4 < (hidden + kGroup - 1) / kGroup * kGroup; i += kThreads) {
      float4 v{};
      if (i * 4 < hidden) {
        v = reinterpret_cast<const float4*>(x)[i];
        const float4 g = i < kThreads ? weight : reinterpret_cast<const float4*>(norm)[i];
        sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
        v = {v.x * g.x, v.y * g.y, v.z * g.z, v.w * g.w};
      }
      *reinterpret_cast<float4*>(to + staged_at(i * 4)) = v;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % kWarp == 0) squares[threadIdx.x / kWarp] = sum;
    __syncthreads();
  }
};

/* 1 / rms behind NormedInput::stage. */
__device__ inline float rms_factor(const float* squares, int32_t hidden, float eps) {
  float sum = 0;
  for (int i = 0; i < kWarps; i++) sum += squares[i];
  return 1.0f / sqrtf(sum / static_cast<float>(hidden) + eps);
}

}  // namespace ek::cuda::narrow
#endif
