/* Fillers of device memory, for models without a file. */
#ifndef EK_CUDA_DECODE_RANDOM_H
#define EK_CUDA_DECODE_RANDOM_H
#include "kernels.h"

namespace ek::cuda {

void fill_floats(Device& d, float* out, size_t n, float mean, float deviation, uint64_t seed);
/* Planes of a weight, values of deviation 1 / sqrt(n_cols). Throws ArgError for types other than Q4_K, Q5_0,
 * Q6_K, Q8_0, FP8 and BF16. */
void fill_weight(Device& d, const WeightShape& shape, uint8_t* base, uint64_t seed);
/* Rows of all layers for the first n_tokens positions of blocks 0, 1, …, their pooled rows and tiles' lists.
 */
void fill_cache_rows(Device& d, const LiteShape& shape, const StepBuffers& b, int32_t n_tokens,
                     uint64_t seed);

}  // namespace ek::cuda
#endif
