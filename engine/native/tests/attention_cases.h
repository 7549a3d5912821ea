/* Shapes and lengths that every backend's attention is tested at. */
#ifndef EK_TESTS_ATTENTION_CASES_H
#define EK_TESTS_ATTENTION_CASES_H
#include <vector>

#include "engine_kernels.h"

namespace ek::test {

struct AttentionShape {
  const char* name;
  int32_t heads, nope, rope, v, latent, cmp_len, cmp_stride, select_n, window, init_blocks, local_blocks;
  ek_type weight;
};

constexpr AttentionShape kModelShape{"model", 6, 32, 32, 64, 128, 32, 16, 16, 512, 1, 2, EK_Q4_0};
/* Sparse from 5 blocks on, a window that starts inside a block, widths that are no power of two. */
constexpr AttentionShape kSmallShape{"small", 2, 16, 16, 32, 32, 32, 16, 4, 100, 1, 2, EK_Q8_0};
constexpr AttentionShape kOddShape{"odd", 7, 5, 6, 48, 80, 32, 16, 3, 65, 0, 1, EK_F32};
constexpr AttentionShape kWideStride{"stride 32", 3, 8, 10, 16, 16, 32, 32, 3, 30, 1, 1, EK_F16};
constexpr AttentionShape kNarrowStride{"stride 8", 1, 16, 4, 16, 48, 16, 8, 4, 1, 2, 2, EK_F32};

/* No pooled rows: dense attention. */
constexpr AttentionShape kDenseShape{"dense", 4, 32, 16, 32, 64, 0, 0, 0, 0, 0, 0, EK_Q8_0};
constexpr AttentionShape kOddDenseShape{"odd dense", 3, 5, 6, 48, 80, 0, 0, 0, 0, 0, 0, EK_F32};

struct AttentionCase {
  AttentionShape shape;
  int32_t n_tokens;  /* in the sequence */
  int32_t n_checked; /* the last ones are compared */
  float q_scale;     /* of the queries: 0 makes all blocks tie, 60 makes one key win */
};

inline std::vector<AttentionCase> dense_cases() {
  std::vector<AttentionCase> out;
  for (const AttentionShape& shape : {kDenseShape, kOddDenseShape}) {
    for (int32_t n : {1, 31, 63, 64, 65, 200, 577}) out.push_back({shape, n, n, 1.0f});
    out.push_back({shape, 1500, 60, 1.0f});
    for (float q_scale : {0.0f, 60.0f}) out.push_back({shape, 300, 300, q_scale});
  }
  return out;
}

inline std::vector<AttentionCase> attention_cases() {
  std::vector<AttentionCase> out;
  for (int32_t n : {1, 31, 32, 33, 63, 64, 65}) out.push_back({kModelShape, n, n, 1.0f});
  for (int32_t n : {511, 513, 1023, 1024, 1025, 1100, 2049, 4097}) {
    out.push_back({kModelShape, n, 70, 1.0f});
  }
  out.push_back({kModelShape, 2049, 50, 0.0f});
  out.push_back({kModelShape, 1300, 50, 60.0f});
  for (const AttentionShape& shape : {kSmallShape, kOddShape, kWideStride, kNarrowStride}) {
    for (int32_t n : {1, 33, 65, 200, 577}) out.push_back({shape, n, n, 1.0f});
    out.push_back({shape, 400, 400, 0.0f});
    /* Blocks that do not overlap tie within rounding when two heads each put all weight on one of them. */
    if (shape.cmp_len > shape.cmp_stride) out.push_back({shape, 300, 300, 60.0f});
  }
  return out;
}

}  // namespace ek::test
#endif
