/* The kernels' own layout of a weight: its bits sorted into planes, values unchanged.
 *
 * F32 and F16 keep the file's rows. Of every other type 16 rows and 128 columns (the last ones padded with
 * zeros) are one chunk, what a warp multiplies at once; the chunks of 16 rows follow each other by columns,
 * so that 16 rows are one piece of memory. A chunk has planes low, high and scale; two chunks of a type with
 * super-scales are followed by theirs.
 *
 * A row's 128 columns have 4 parts of 32 columns, a part 4 units of 8 columns. Unit t of every part belongs
 * to lane 4 g + t of the warp, which has rows g and g + 8. Bytes of a row:
 *
 *   low, pieces of 16 bytes, each of one lane: [g + 8 or g][piece][g][t]
 *     Q4_0 Q5_0 Q4_K Q5_K Q6_K  64: words [t][part], nibble i of a word is column i of the unit
 *     Q8_0                     128: 8-byte units [part / 2][t][part % 2], signed, in the order 0 2 4 6 1 3 5
 * 7 BF16                     256: 16-byte units [part][t], columns in the order 0 4 1 5 2 6 3 7 high, row by
 * row Q5_0 Q5_K                 16: words [t]; bit 8 (i / 2) + 2 part + i % 2 is column i's fifth bit Q6_K
 * 32: words [t][part / 2]; bit 8 (i / 2) + 4 (part % 2) + 2 (i % 2) and the one above are column i's two high
 * bits scale, row by row Q4_0 Q5_0 Q8_0             8: f16 [part] Q4_K Q5_K                  8: scale of
 * parts 0 to 3, then their minimum, a byte each Q6_K                       8: signed scale of each 16 columns
 * Fp8 is as Q8_0 with columns in the order 0 4 1 5 2 6 3 7, and its scale plane is the chunk's one scale,
 * f32, four times. super, of two chunks, row by row Q4_K Q5_K                  4: f16 d, dmin Q6_K 2: f16 d
 *
 * Bits of columns i and i + 4 lie 16 apart, and those of 0 2 4 6 (and of 1 3 5 7) 8 apart: a shift and a mask
 * make packed halves of a pair, or packed bytes of four columns. */
#ifndef EK_CUDA_WEIGHTS_PLANES_H
#define EK_CUDA_WEIGHTS_PLANES_H
#include "../../core/quant.h"
#include "../../core/shapes.h"
#include "../device/e4m3.h"
#include "../device/host_device.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace ek::cuda {

constexpr int kGroup = 128;    /* columns of a chunk */
constexpr int kChunkRows = 16; /* rows of a chunk */

/* Bytes of a row's share in each plane of a chunk, 0 where a type has no such plane; `super` is for two
 * chunks. */
struct PlaneSizes {
  int low, high, scale, super;
};

constexpr PlaneSizes plane_sizes(ek_type type) {
  switch (type) {
    case EK_Q4_0:
      return {64, 0, 8, 0};
    case EK_Q5_0:
      return {64, 16, 8, 0};
    case EK_Q8_0:
      return {128, 0, 8, 0};
    case EK_Q4_K:
      return {64, 0, 8, 4};
    case EK_Q5_K:
      return {64, 16, 8, 4};
    case EK_Q6_K:
      return {64, 32, 8, 2};
    case EK_BF16:
      return {256, 0, 0, 0};
    case EK_FP8_E4M3:
      return {128, 0, 1, 0};
    default:
      return {0, 0, 0, 0};
  }
}

constexpr bool has_planes(ek_type type) { return plane_sizes(type).low > 0; }

/* Bytes of a chunk without super-scales, and of those of two chunks. */
constexpr int chunk_bytes(ek_type type) {
  const PlaneSizes s = plane_sizes(type);
  return kChunkRows * (s.low + s.high + s.scale);
}
constexpr int super_bytes(ek_type type) { return kChunkRows * plane_sizes(type).super; }

/* Where a chunk begins in the memory of its 16 rows, and the super-scales that it shares. */
constexpr size_t chunk_offset(ek_type type, int32_t group) {
  return static_cast<size_t>(group) * chunk_bytes(type) + static_cast<size_t>(group / 2) * super_bytes(type);
}
constexpr size_t super_offset(ek_type type, int32_t group) {
  return chunk_offset(type, group / 2 * 2) + 2 * static_cast<size_t>(chunk_bytes(type));
}
/* Bytes of 16 rows. */
constexpr size_t tile_bytes(ek_type type, int32_t n_groups) {
  return plane_sizes(type).super == 0 ? chunk_offset(type, n_groups)
                                      : chunk_offset(type, (n_groups + 1) / 2 * 2);
}

/* Where 16 bytes of row i of a chunk lie in it: piece 0, 1 … of lane t of the row. */
constexpr int low_offset(ek_type type, int i, int piece, int t) {
  return ((i / 8 * (plane_sizes(type).low / 64) + piece) * 32 + i % 8 * 4 + t) * 16;
}
/* Where the other planes of row i begin in the chunk. */
constexpr int high_offset(ek_type type, int i) {
  return kChunkRows * plane_sizes(type).low + i * plane_sizes(type).high;
}
constexpr int scale_offset(ek_type type, int i) {
  return kChunkRows * (plane_sizes(type).low + plane_sizes(type).high) + i * plane_sizes(type).scale;
}

/* A weight in device memory. */
struct WeightView {
  ek_type type;
  int32_t n_matrices, n_rows, n_cols;
  int32_t n_groups;   /* of 128 columns; 0 for F32 and F16 */
  int32_t row_stride; /* rows from one matrix to the next: with chunks, a multiple of 16 */
  const uint8_t* data;

  /* The number of row r of a matrix, for load_unit and load_fragment. */
  EK_HD size_t row(int32_t matrix, int32_t r) const { return static_cast<size_t>(matrix) * row_stride + r; }
};

/* Of the chunks of a row's 16. */
template <ek_type F>
EK_HD const uint8_t* tile_at(const WeightView& w, size_t row) {
  return w.data + row / kChunkRows * tile_bytes(F, w.n_groups);
}

/* Bytes of a matrix outside of the kernels: of the file, or of fp8 its numbers and scales. */
inline double plain_bytes(ek_type type, int32_t n_rows, int32_t n_cols) {
  if (type == EK_FP8_E4M3)
    return static_cast<double>(n_rows) * n_cols + 4.0 * ((n_rows + 127) / 128) * ((n_cols + 127) / 128);
  const size_t columns = static_cast<size_t>(block_columns(type));
  return static_cast<double>(row_bytes(type, columns)) * n_cols / static_cast<double>(columns) * n_rows;
}

/* Bytes that a weight takes, a multiple of 256. */
size_t packed_bytes(const WeightShape& shape);

/* Writes a weight in this layout; `out` has packed_bytes(shape) bytes. data: file layout; of fp8 the rows of
 * all matrices, a byte a number, and then for each matrix the scales (n_rows / 128, n_cols / 128, rounded up)
 * as f32.
 */
void pack_planes(const WeightShape& shape, const uint8_t* data, uint8_t* out);

/* The view of a packed weight that begins at `base`, in host or device memory. */
WeightView view_planes(const WeightShape& shape, const uint8_t* base);

EK_HD inline float half_value(uint16_t bits) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(bits));
#else
  return f16_to_f32(bits);
#endif
}

EK_HD inline float bf16_value(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits << 16);
#else
  return float_of(bits << 16);
#endif
}

template <class T>
EK_HD inline T plane_at(const uint8_t* plane, size_t index) {
  return reinterpret_cast<const T*>(plane)[index];
}

/* Value d * q + offset of a part; 16 columns of Q6_K. */
struct Affine {
  float scale, offset;
};

/* q of Affine is the stored integer: without the -8 of Q4_0, the -16 of Q5_0 and the -32 of Q6_K, which
 * `offset` adds. half: which 16 columns, for Q6_K. */
template <ek_type F>
EK_HD Affine part_affine(const WeightView& w, size_t row, int32_t group, int32_t part, int32_t half) {
  const int i = static_cast<int>(row % kChunkRows);
  const uint8_t* tile = tile_at<F>(w, row);
  const uint8_t* scales = tile + chunk_offset(F, group) + scale_offset(F, i);
  if constexpr (F == EK_BF16) {
    return {1.0f, 0.0f};
  } else if constexpr (F == EK_FP8_E4M3) {
    return {plane_at<float>(tile + chunk_offset(F, group) + scale_offset(F, 0), 0), 0.0f};
  } else if constexpr (F == EK_Q4_K || F == EK_Q5_K) {
    const uint32_t d = plane_at<uint32_t>(tile + super_offset(F, group), static_cast<size_t>(i));
    const float scale = scales[part], min = scales[4 + part];
    return {half_value(static_cast<uint16_t>(d & 0xffff)) * scale,
            -half_value(static_cast<uint16_t>(d >> 16)) * min};
  } else if constexpr (F == EK_Q6_K) {
    const float d = half_value(plane_at<uint16_t>(tile + super_offset(F, group), static_cast<size_t>(i))) *
                    static_cast<float>(static_cast<int8_t>(scales[part * 2 + half]));
    return {d, -32.0f * d};
  } else {
    const float d = half_value(plane_at<uint16_t>(scales, static_cast<size_t>(part)));
    return {d, F == EK_Q4_0 ? -8.0f * d : F == EK_Q5_0 ? -16.0f * d : 0.0f};
  }
}

/* The stored integers of unit t of a part, in column order. */
template <ek_type F>
EK_HD void unit_quants(const WeightView& w, size_t row, int32_t group, int32_t part, int32_t t, float* q) {
  const int in_chunk = static_cast<int>(row % kChunkRows);
  const uint8_t* chunk = tile_at<F>(w, row) + chunk_offset(F, group);
  const auto piece = [&](int32_t index) { return chunk + low_offset(F, in_chunk, index, t); };
  if constexpr (F == EK_BF16) {
    const uint64_t* unit = reinterpret_cast<const uint64_t*>(piece(part));
    for (int i = 0; i < 4; i++) {
      const uint64_t half = unit[i / 2];
      q[i] = bf16_value(static_cast<uint32_t>(half >> 32 * (i % 2)) & 0xffff);
      q[i + 4] = bf16_value(static_cast<uint32_t>(half >> (32 * (i % 2) + 16)) & 0xffff);
    }
  } else if constexpr (F == EK_FP8_E4M3) {
    const uint64_t unit = plane_at<uint64_t>(piece(part / 2), static_cast<size_t>(part % 2));
    for (int i = 0; i < 8; i++) q[i % 2 * 4 + i / 2] = e4m3_value(static_cast<uint8_t>(unit >> 8 * i & 0xff));
  } else if constexpr (F == EK_Q8_0) {
    const uint64_t unit = plane_at<uint64_t>(piece(part / 2), static_cast<size_t>(part % 2));
    for (int i = 0; i < 8; i++)
      q[i] = static_cast<float>(static_cast<int8_t>(unit >> 8 * (i % 2 * 4 + i / 2) & 0xff));
  } else {
    const uint32_t word = plane_at<uint32_t>(piece(0), static_cast<size_t>(part));
    const uint8_t* above = chunk + high_offset(F, in_chunk);
    uint32_t high = 0;
    if constexpr (F == EK_Q5_0 || F == EK_Q5_K) {
      high = plane_at<uint32_t>(above, static_cast<size_t>(t)) >> 2 * part;
    }
    if constexpr (F == EK_Q6_K) {
      high = plane_at<uint32_t>(above, static_cast<size_t>(t * 2 + part / 2)) >> 4 * (part % 2);
    }
    for (int i = 0; i < 8; i++) {
      uint32_t value = word >> 4 * i & 15;
      if constexpr (F == EK_Q5_0 || F == EK_Q5_K) value |= (high >> (i / 2 * 8 + i % 2) & 1) << 4;
      if constexpr (F == EK_Q6_K) value |= (high >> (i / 2 * 8 + i % 2 * 2) & 3) << 4;
      q[i] = static_cast<float>(value);
    }
  }
}

/* Columns 8 unit .. 8 unit + 7 of a row of `w`, whose type is F; columns behind the last are 0. */
template <ek_type F>
EK_HD void load_unit(const WeightView& w, size_t row, int32_t unit, float* values) {
  if constexpr (F == EK_F32 || F == EK_F16) {
    for (int i = 0; i < 8; i++) {
      const size_t col = static_cast<size_t>(unit) * 8 + i, at = row * w.n_cols + col;
      const bool inside = col < static_cast<size_t>(w.n_cols);
      if constexpr (F == EK_F32) {
        values[i] = inside ? plane_at<float>(w.data, at) : 0.0f;
      } else {
        values[i] = inside ? half_value(plane_at<uint16_t>(w.data, at)) : 0.0f;
      }
    }
  } else {
    const int32_t group = unit / 16, part = unit % 16 / 4, t = unit % 4;
    unit_quants<F>(w, row, group, part, t, values);
    const Affine a = part_affine<F>(w, row, group, part, t / 2);
    for (int i = 0; i < 8; i++) values[i] = values[i] * a.scale + a.offset;
  }
}

/* Calls body with the type as a constant: body.template operator()<EK_Q4_0>(). */
template <class Body>
auto for_type(ek_type type, Body&& body) {
  switch (type) {
    case EK_F16:
      return body.template operator()<EK_F16>();
    case EK_BF16:
      return body.template operator()<EK_BF16>();
    case EK_FP8_E4M3:
      return body.template operator()<EK_FP8_E4M3>();
    case EK_Q4_0:
      return body.template operator()<EK_Q4_0>();
    case EK_Q5_0:
      return body.template operator()<EK_Q5_0>();
    case EK_Q8_0:
      return body.template operator()<EK_Q8_0>();
    case EK_Q4_K:
      return body.template operator()<EK_Q4_K>();
    case EK_Q5_K:
      return body.template operator()<EK_Q5_K>();
    case EK_Q6_K:
      return body.template operator()<EK_Q6_K>();
    default:
      return body.template operator()<EK_F32>();
  }
}

}  // namespace ek::cuda
#endif
