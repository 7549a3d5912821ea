/* What ops are asked for, as plain numbers: kernels and backends share it. */
#ifndef EK_CORE_SHAPES_H
#define EK_CORE_SHAPES_H
#include <cstdint>

#include "engine_kernels.h"

namespace ek {

/* n_matrices stacked matrices (n_rows, n_cols) of `type` in file layout. */
struct WeightShape {
  ek_type type;
  int32_t n_matrices, n_rows, n_cols;
};

/* One sequence's part of a step. */
struct Sequence {
  int32_t start;     /* position of its first new token */
  int32_t n_new;     /* how many new tokens */
  int32_t first_row; /* its first row in the step's activations */
  const int32_t* blocks;
  int32_t n_blocks;
};

}  // namespace ek

#endif
