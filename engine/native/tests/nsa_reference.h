/* Native sparse attention of one token in double on the host, by an explicit loop over heads and rows; for
 * the kernels of cuda/nsa. Which blocks are selected may be prescribed: then how much better a block was that
 * was left out is what tells rounding from a fault. */
#ifndef EK_TESTS_NSA_REFERENCE_H
#define EK_TESTS_NSA_REFERENCE_H
#include <vector>

#include "../cuda/nsa/rule.h"

namespace ek::test {

/* Rows of keys and values of one head. */
struct HostRows {
  const float *keys, *values;
  int32_t key_stride, value_stride;
};

struct NsaReference {
  cuda::NsaRule rule;
  int32_t key_width, value_width;
  std::vector<HostRows> rows, pooled; /* of each head */

  /* Summed over heads, the mass of every block up to that of t. query (heads, key_width), scaled. */
  std::vector<double> masses(const std::vector<float>& query, int32_t t) const;
  /* Blocks by mass, the forced ones first, ties to the lowest index; ascending. */
  std::vector<int32_t> select(const std::vector<double>& mass, int32_t t) const;
  /* How much larger the mass of a block is that `list` leaves out than of one that it has, in relation; 0 for
   * a proper choice, infinite when a forced block is missing or the list has no proper form. */
  double excess(const std::vector<double>& mass, const std::vector<int32_t>& list, int32_t t) const;
  /* (heads, value_width). gates (heads, 3) before the sigmoid. */
  std::vector<double> attend(const std::vector<float>& query, const std::vector<float>& gates,
                             const std::vector<int32_t>& list, int32_t t) const;
  std::vector<double> attend_densely(const std::vector<float>& query, int32_t t) const;
};

/* Root of the mean square error, relative to that of what was expected; infinite when sizes differ or a
 * number is none. */
double relative_error(const std::vector<float>& actual, const std::vector<double>& expected);

}  // namespace ek::test
#endif
