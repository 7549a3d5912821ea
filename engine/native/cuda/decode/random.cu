/* Random weights and cache rows of the right size and type mix, made on the device: speed does not need a
 * file. */
#include <algorithm>
#include <cmath>

#include "../device/noise.cuh"
#include "kernels.h"
#include "random.h"

namespace ek::cuda {

namespace {

__global__ void fill_floats_kernel(float* out, size_t n, float mean, float deviation, uint64_t seed) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    out[i] = mean + deviation * normal(seed + i);
}

__global__ void fill_bf16_kernel(__nv_bfloat16* out, size_t n, float deviation, uint64_t seed) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    out[i] = __float2bfloat16_rn(deviation * normal(seed + i));
}

/* Words of random bits; with `and_mask` and `or_mask` some bits are fixed. */
__global__ void fill_words_kernel(uint32_t* out, size_t n, uint32_t and_mask, uint32_t or_mask,
                                  uint64_t seed) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step)
    out[i] = (hash(seed + i) & and_mask) | or_mask;
}

/* Scale bytes of Q4_K and Q5_K: four scales, then the same four as minima. */
__global__ void fill_scales_kernel(uint2* out, size_t n, uint64_t seed) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const uint32_t word = (hash(seed + i) & 0x1f1f1f1fu) | 0x20202020u;
    out[i] = {word, word};
  }
}

constexpr int kThreads = 256;

/* Launches a kernel that fills n elements of out. */
template <class T, class... Parameters, class... Args>
void fill(Device& d, void (*kernel)(T*, size_t, Parameters...), void* out, size_t n, Args... args) {
  if (n == 0) return;
  const int32_t blocks = ceil_div(static_cast<int64_t>(std::min<size_t>(n, 1024 * kThreads)), kThreads);
  launch(d.stream, "filling memory", {blocks, kThreads}, kernel, static_cast<T*>(out), n, args...);
}

uint32_t twice(float value) {
  const uint32_t half = f32_to_f16(value);
  return half | half << 16;
}

/* Pooled rows of a layer from its cache rows: grid (n_blocks * 4). */
__global__ void pool_rows_kernel(__nv_bfloat16* pooled, const __nv_bfloat16* cache) {
  const size_t at = blockIdx.x;
  for (int c = threadIdx.x; c < kRow; c += blockDim.x) {
    float mean = 0;
    for (int i = 0; i < kPoolStride; i++) mean += __bfloat162float(cache[(at * kPoolStride + i) * kRow + c]);
    pooled[at * kRow + c] = __float2bfloat16_rn(mean / kPoolStride);
  }
}

/* Lists of tiles as they would be if the latest blocks had been the best: grid (blocks of 64 tokens, layers).
 */
__global__ void list_latest_kernel(StepBuffers b, LiteShape shape) {
  const int32_t n = static_cast<int32_t>(blockIdx.x) + 1, most = shape.most_listed();
  int32_t* list = b.tile_list(shape, static_cast<int32_t>(blockIdx.y), (n - 1) * 64);
  for (int32_t i = threadIdx.x; i < min(n, most); i += blockDim.x)
    list[i] = i == 0 ? 0 : max(0, n - most) + i;
}

}  // namespace

void fill_floats(Device& d, float* out, size_t n, float mean, float deviation, uint64_t seed) {
  fill(d, fill_floats_kernel, out, n, mean, deviation, seed << 36);
}

void fill_weight(Device& d, const WeightShape& shape, uint8_t* base, uint64_t seed) {
  const PlaneOffsets o = plane_offsets(shape);
  const float deviation = 1 / std::sqrt(static_cast<float>(shape.n_cols));
  const auto words = [&](size_t begin, size_t end, uint32_t and_mask, uint32_t or_mask, uint64_t part) {
    fill(d, fill_words_kernel, base + begin, (end - begin) / 4, and_mask, or_mask, (seed * 4 + part) << 36);
  };
  if (shape.type == EK_BF16) {
    fill(d, fill_bf16_kernel, base, (o.high - o.low) / 2, deviation, seed << 36);
    return;
  }
  words(o.low, o.scale, 0xffffffffu, 0, 0);
  switch (shape.type) {
    case EK_Q4_K: {
      fill(d, fill_scales_kernel, base + o.scale, (o.super - o.scale) / 8, (seed * 4 + 1) << 36);
      const float scale = deviation / (48 * 4.6f);
      words(o.super, o.total, 0, f32_to_f16(scale) | static_cast<uint32_t>(f32_to_f16(7.5f * scale)) << 16,
            2);
      break;
    }
    case EK_Q6_K:
      words(o.scale, o.super, 0x1f1f1f1fu, 0x20202020u, 1);
      words(o.super, o.total, 0, twice(deviation / (48 * 18.5f)), 2);
      break;
    case EK_Q5_0:
      words(o.scale, o.super, 0, twice(deviation / 9.2f), 1);
      break;
    case EK_Q8_0:
      words(o.scale, o.super, 0, twice(deviation / 74), 1);
      break;
    default:
      throw ArgError(format("no random weights of type %d", static_cast<int>(shape.type)));
  }
}

void fill_cache_rows(Device& d, const LiteShape& shape, const StepBuffers& b, int32_t n_tokens,
                     uint64_t seed) {
  const size_t blocks = static_cast<size_t>(ceil_div(n_tokens, 64)),
               layer = static_cast<size_t>(shape.n_blocks) * 64 * kRow;
  for (int32_t i = 0; i < shape.n_layers; i++) {
    __nv_bfloat16* cache = b.cache + static_cast<size_t>(i) * layer;
    fill(d, fill_bf16_kernel, cache, blocks * 64 * kRow, 1.0f,
         (seed * 1000 + static_cast<uint64_t>(i)) << 36);
    launch(d.stream, "pool_rows_kernel", {static_cast<int>(blocks * 4), 192}, pool_rows_kernel,
           b.pooled + static_cast<size_t>(i) * layer / kPoolStride, cache);
  }
  launch(d.stream, "list_latest_kernel", {{static_cast<int>(blocks), shape.n_layers}, 64}, list_latest_kernel,
         b, shape);
}

}  // namespace ek::cuda
