/* How far a result may be from the reference: |actual - expected| <= absolute + relative * |expected|. */
#ifndef EK_TESTS_TOLERANCE_H
#define EK_TESTS_TOLERANCE_H
#include "engine_kernels.h"

namespace ek::test {

struct Tolerance {
  double absolute, relative;
};

/* By the type of the cache: rows of f16 are rounded from sums that differ in their last bits. Scores grow
 * with the queries' size, and an error of a score is a relative error of its weight. */
inline Tolerance attention_tolerance(ek_type cache, float q_scale) {
  const double growth = q_scale > 1 ? q_scale / 2 : 1;
  return cache == EK_F32 ? Tolerance{1e-4 * growth, 1e-4 * growth} : Tolerance{3e-3 * growth, 3e-3 * growth};
}

}  // namespace ek::test
#endif
