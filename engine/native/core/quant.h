/* GGUF's tensor formats as they lie in a file. A block is 32 or 256 consecutive columns of one row. */
#ifndef EK_CORE_QUANT_H
#define EK_CORE_QUANT_H
#include <cstddef>

#include "engine_kernels.h"
#include "f16.h"

namespace ek {

constexpr int kQuantBlock = 32;

/* Value (q - 8) * d; columns 0..15 are the low nibbles, 16..31 the high ones. */
struct BlockQ4 {
  f16 d;
  uint8_t q[16];
};

/* Value q * d. */
struct BlockQ8 {
  f16 d;
  int8_t q[32];
};
static_assert(sizeof(BlockQ4) == 18 && sizeof(BlockQ8) == 34, "the formats are packed");

/* Value q * d with q = (nibble | bit << 4) - 16; nibbles as in BlockQ4, bit c of `high` belongs to column c.
 */
struct BlockQ5 {
  f16 d;
  uint8_t high[4];
  uint8_t q[16];
};

constexpr int kSuperBlock = 256; /* columns of a K block: 8 parts of 32, or 16 parts of 16 */

/* Value d * scale * q - dmin * min, part of 32 columns by part. scales: eight 6-bit scales and eight 6-bit
 * mins. Columns of parts 2i and 2i + 1 are the low and high nibbles of bytes 32 i to 32 i + 31. */
struct BlockQ4K {
  f16 d, dmin;
  uint8_t scales[12];
  uint8_t q[128];
};

/* As BlockQ4K with a fifth bit: bit `part` of high[column % 32]. */
struct BlockQ5K {
  f16 d, dmin;
  uint8_t scales[12];
  uint8_t high[32];
  uint8_t q[128];
};

/* Value d * scale * (q - 32), part of 16 columns by part. Each half of 128 columns has 64 bytes of nibbles
 * and 32 bytes of two high bits. */
struct BlockQ6K {
  uint8_t q[128];
  uint8_t high[64];
  int8_t scales[16];
  f16 d;
};
static_assert(sizeof(BlockQ5) == 22 && sizeof(BlockQ4K) == 144 && sizeof(BlockQ5K) == 176 &&
                  sizeof(BlockQ6K) == 210,
              "the formats are packed");

/* Columns of one block of a type; 1 for the types without blocks. */
inline int block_columns(ek_type type) {
  switch (type) {
    case EK_F32:
    case EK_F16:
    case EK_BF16:
      return 1;
    case EK_Q4_0:
    case EK_Q5_0:
    case EK_Q8_0:
      return kQuantBlock;
    case EK_Q4_K:
    case EK_Q5_K:
    case EK_Q6_K:
      return kSuperBlock;
    case EK_FP8_E4M3: /* no file that ops read has it */
      break;
  }
  return 0;
}

/* Bytes of one block of a type, of one element for the types without blocks. */
inline size_t block_bytes(ek_type type) {
  switch (type) {
    case EK_F32:
      return 4;
    case EK_F16:
    case EK_BF16:
      return 2;
    case EK_Q4_0:
      return sizeof(BlockQ4);
    case EK_Q5_0:
      return sizeof(BlockQ5);
    case EK_Q8_0:
      return sizeof(BlockQ8);
    case EK_Q4_K:
      return sizeof(BlockQ4K);
    case EK_Q5_K:
      return sizeof(BlockQ5K);
    case EK_Q6_K:
      return sizeof(BlockQ6K);
    case EK_FP8_E4M3:
      break;
  }
  return 0;
}

inline bool is_known_type(ek_type type) { return block_columns(type) > 0; }

inline bool is_quantised(ek_type type) { return block_columns(type) > 1; }

/* Bytes of n_cols columns, a multiple of the type's block. */
inline size_t row_bytes(ek_type type, size_t n_cols) {
  const int columns = block_columns(type);
  return columns == 0 ? 0 : n_cols / static_cast<size_t>(columns) * block_bytes(type);
}

/* The 6-bit scale and minimum of part 0 to 7 of a Q4_K or Q5_K block. */
inline void scale_and_min(const uint8_t* scales, size_t part, int* scale, int* min) {
  if (part < 4) {
    *scale = scales[part] & 63;
    *min = scales[part + 4] & 63;
  } else {
    *scale = (scales[part + 4] & 15) | (scales[part - 4] >> 6) << 4;
    *min = scales[part + 4] >> 4 | (scales[part] >> 6) << 4;
  }
}

/* The integer of column `i` of a block, as the formulas above name it. */
inline int quant_of(const BlockQ4& b, size_t i) { return (i < 16 ? b.q[i] & 15 : b.q[i - 16] >> 4) - 8; }
inline int quant_of(const BlockQ8& b, size_t i) { return b.q[i]; }
inline int quant_of(const BlockQ5& b, size_t i) {
  const int nibble = i < 16 ? b.q[i] & 15 : b.q[i - 16] >> 4;
  return (nibble | (b.high[i / 8] >> i % 8 & 1) << 4) - 16;
}
inline int quant_of(const BlockQ4K& b, size_t i) {
  const uint8_t byte = b.q[i / 64 * 32 + i % 32];
  return i / 32 % 2 == 0 ? byte & 15 : byte >> 4;
}
inline int quant_of(const BlockQ5K& b, size_t i) {
  const uint8_t byte = b.q[i / 64 * 32 + i % 32];
  return (i / 32 % 2 == 0 ? byte & 15 : byte >> 4) | (b.high[i % 32] >> i / 32 & 1) << 4;
}
inline int quant_of(const BlockQ6K& b, size_t i) {
  const size_t half = i / 128, part = i % 128 / 32, at = i % 32;
  const uint8_t byte = b.q[half * 64 + part % 2 * 32 + at];
  const int high = b.high[half * 32 + at] >> 2 * part & 3;
  return ((part < 2 ? byte & 15 : byte >> 4) | high << 4) - 32;
}

template <class Block>
Block block_at(const uint8_t* row, size_t index) {
  Block b;
  std::memcpy(&b, row + index * sizeof b, sizeof b);
  return b;
}

/* The value of column `i` of a Q4_K or Q5_K block. */
template <class Block>
float min_scaled(const Block& b, size_t i) {
  int scale = 0, min = 0;
  scale_and_min(b.scales, i / 32, &scale, &min);
  return f16_to_f32(b.d) * static_cast<float>(scale) * static_cast<float>(quant_of(b, i)) -
         f16_to_f32(b.dmin) * static_cast<float>(min);
}

template <class Block>
float scaled(const Block& b, size_t i) {
  return static_cast<float>(quant_of(b, i)) * f16_to_f32(b.d);
}

/* The value at column `col` of a row in file layout. */
inline float element_of_row(ek_type type, const uint8_t* row, size_t col) {
  if (!is_known_type(type)) return 0;
  const size_t columns = static_cast<size_t>(block_columns(type)), block = col / columns, i = col % columns;
  switch (type) {
    case EK_F32:
      return block_at<float>(row, col);
    case EK_F16:
      return f16_to_f32(block_at<f16>(row, col));
    case EK_BF16:
      return float_of(static_cast<uint32_t>(block_at<uint16_t>(row, col)) << 16);
    case EK_Q4_0:
      return scaled(block_at<BlockQ4>(row, block), i);
    case EK_Q5_0:
      return scaled(block_at<BlockQ5>(row, block), i);
    case EK_Q8_0:
      return scaled(block_at<BlockQ8>(row, block), i);
    case EK_Q4_K:
      return min_scaled(block_at<BlockQ4K>(row, block), i);
    case EK_Q5_K:
      return min_scaled(block_at<BlockQ5K>(row, block), i);
    case EK_Q6_K: {
      const BlockQ6K b = block_at<BlockQ6K>(row, block);
      return f16_to_f32(b.d) * static_cast<float>(b.scales[i / 16]) * static_cast<float>(quant_of(b, i));
    }
    case EK_FP8_E4M3:
      break;
  }
  return 0;
}

}  // namespace ek
#endif
