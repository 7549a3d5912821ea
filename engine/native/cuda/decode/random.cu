/* Random weights and cache rows of the right size and type mix, made on the device: speed does not need a
 * file. */
#include <algorithm>
#include <cmath>

#include "../device/noise.cuh"
#include "kernels.h"
#include "random.h"
#include "rows.cuh"

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

/* What the words of a packed weight are: random bits where integers are, scales of a fixed size. */
struct WordPattern {
  ek_type type;
  int32_t n_groups;
  uint32_t scale_and, scale_or; /* of random bits; Q4_K's minima are its scales */
  uint32_t super;
  uint32_t low_and = 0xffffffffu;
};

__global__ void fill_planes_kernel(uint32_t* out, size_t n, WordPattern p, uint64_t seed) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  const size_t tile = tile_bytes(p.type, p.n_groups) / 4, pair = chunk_offset(p.type, 2) / 4;
  const size_t chunk = static_cast<size_t>(chunk_bytes(p.type)) / 4;
  const size_t scales = static_cast<size_t>(scale_offset(p.type, 0)) / 4;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const size_t in_pair = i % tile % pair, in_chunk = in_pair % chunk;
    if (in_pair >= 2 * chunk) {
      out[i] = p.super;
    } else if (in_chunk < scales) {
      out[i] = hash(seed + i) & p.low_and;
    } else {
      out[i] = (hash(seed + (p.type == EK_Q4_K ? i / 2 : i)) & p.scale_and) | p.scale_or;
    }
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

/* Random cache rows, made as those of tokens, from row `first` on: grid (rows), kRowThreads threads. */
__global__ void fill_rows_kernel(CachedRows cache, size_t first, uint64_t seed) {
  const uint64_t at = (static_cast<uint64_t>(blockIdx.x) * kRowThreads + threadIdx.x) * 4;
  const RowPairs random{{normal(seed + at), normal(seed + at + 1)},
                        {normal(seed + at + 2), normal(seed + at + 3)}};
  store_row_pairs(cache, first + blockIdx.x, random, {1, 1}, {1, 0}, 0);
}

/* Their pooled rows: grid (n_blocks * 4). */
template <RowFormat R>
__global__ void pool_rows_kernel(__nv_bfloat16* pooled, CachedRows cache, size_t first) {
  const size_t at = first / kPoolStride + blockIdx.x;
  for (int pair = threadIdx.x; pair < kRow / 2; pair += blockDim.x) {
    float2 mean{0, 0};
    for (size_t i = 0; i < kPoolStride; i++) {
      const float2 v = cached_pair<R>(cache.row(at * kPoolStride + i), pair);
      mean = {mean.x + v.x, mean.y + v.y};
    }
    reinterpret_cast<__nv_bfloat162*>(pooled + at * kRow)[pair] =
        __floats2bfloat162_rn(mean.x / kPoolStride, mean.y / kPoolStride);
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
  const size_t n_bytes = packed_bytes(shape);
  const float deviation = 1 / std::sqrt(static_cast<float>(shape.n_cols));
  const auto halves = [](float value) {
    const uint32_t half = f32_to_f16(value);
    return half | half << 16;
  };
  WordPattern p{shape.type, view_planes(shape, base).n_groups, 0, 0, 0};
  switch (shape.type) {
    case EK_BF16:
      fill(d, fill_bf16_kernel, base, n_bytes / 2, deviation, seed << 36);
      return;
    case EK_Q4_K: {
      const float scale = deviation / (48 * 4.6f);
      p.super = f32_to_f16(scale) | static_cast<uint32_t>(f32_to_f16(7.5f * scale)) << 16;
      p.scale_and = 0x1f1f1f1fu, p.scale_or = 0x20202020u;
      break;
    }
    case EK_Q6_K:
      p.super = halves(deviation / (48 * 18.5f));
      p.scale_and = 0x1f1f1f1fu, p.scale_or = 0x20202020u;
      break;
    case EK_Q5_0:
      p.scale_or = halves(deviation / 9.2f);
      break;
    case EK_Q8_0:
      p.scale_or = halves(deviation / 74);
      break;
    case EK_FP8_E4M3:
      p.low_and = 0xbfbfbfbfu; /* below 2, of a root mean square of 0.6 */
      p.scale_or = float_bits(deviation / 0.6f);
      break;
    default:
      refuse("no random weights of type %d", static_cast<int>(shape.type));
  }
  fill(d, fill_planes_kernel, base, n_bytes / 4, p, seed << 36);
}

void fill_cache_rows(Device& d, const LiteShape& shape, const StepBuffers& b, int32_t n_tokens,
                     uint64_t seed) {
  const int32_t blocks = ceil_div(n_tokens, 64);
  for (int32_t i = 0; i < shape.n_layers; i++) {
    const size_t first = static_cast<size_t>(i) * static_cast<size_t>(shape.n_blocks) * 64;
    launch(d.stream, "fill_rows_kernel", {blocks * 64, kRowThreads}, fill_rows_kernel, b.cache, first,
           (seed * 1000 + static_cast<uint64_t>(i)) << 36);
    for_row_format(shape.rows, [&]<RowFormat R>() {
      launch(d.stream, "pool_rows_kernel", {blocks * 4, 192}, pool_rows_kernel<R>, b.pooled, b.cache, first);
    });
  }
  launch(d.stream, "list_latest_kernel", {{blocks, shape.n_layers}, 64}, list_latest_kernel, b, shape);
}

}  // namespace ek::cuda
