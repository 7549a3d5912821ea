/* GGUF's tensor formats as they lie in a file. A block is 32 consecutive columns of one row. */
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

inline bool is_quantised(ek_type type) { return type == EK_Q4_0 || type == EK_Q8_0; }

inline bool is_known_type(ek_type type) { return type == EK_F32 || type == EK_F16 || is_quantised(type); }

/* Bytes of n_cols columns; n_cols is a multiple of 32 for the quantised types. */
inline size_t row_bytes(ek_type type, size_t n_cols) {
  switch (type) {
    case EK_F32:
      return n_cols * 4;
    case EK_F16:
      return n_cols * 2;
    case EK_Q4_0:
      return n_cols / kQuantBlock * sizeof(BlockQ4);
    case EK_Q8_0:
      return n_cols / kQuantBlock * sizeof(BlockQ8);
  }
  return 0;
}

/* The value at column `col` of a row in file layout. */
inline float element_of_row(ek_type type, const uint8_t* row, size_t col) {
  if (type == EK_F32) {
    float value;
    std::memcpy(&value, row + col * 4, 4);
    return value;
  }
  if (type == EK_F16) {
    f16 value;
    std::memcpy(&value, row + col * 2, 2);
    return f16_to_f32(value);
  }
  const size_t block = col / kQuantBlock, i = col % kQuantBlock;
  if (type == EK_Q4_0) {
    BlockQ4 b;
    std::memcpy(&b, row + block * sizeof b, sizeof b);
    const int q = i < 16 ? b.q[i] & 15 : b.q[i - 16] >> 4;
    return static_cast<float>(q - 8) * f16_to_f32(b.d);
  }
  BlockQ8 b;
  std::memcpy(&b, row + block * sizeof b, sizeof b);
  return static_cast<float>(b.q[i]) * f16_to_f32(b.d);
}

}  // namespace ek
#endif
