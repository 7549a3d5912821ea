/* Weights of the GPU as plain numbers on the host, and the arithmetic in double of the slow decoders. */
#ifndef EK_TESTS_HOST_MATRIX_H
#define EK_TESTS_HOST_MATRIX_H
#include <cmath>
#include <cstddef>
#include <vector>

#include "../cuda/weights/planes.h"

namespace ek::test {

/* A stack of matrices. */
struct HostMatrix {
  int32_t n_rows = 0, n_cols = 0;
  std::vector<float> values;

  const float* row(int32_t r) const { return values.data() + static_cast<size_t>(r) * n_cols; }
  /* y = matrix m times x. */
  std::vector<double> times(int32_t m, const std::vector<double>& x) const;
};

/* n numbers from device memory. Throws DeviceError. */
std::vector<float> read_floats(const float* device, size_t n);
/* A weight from device memory; empty when there is none. Throws DeviceError. */
HostMatrix read_matrix(const cuda::WeightView& w);

/* Sum of n products, in partial sums that the compiler may compute side by side. */
template <class A, class B>
double dot(const A* a, const B* b, size_t n) {
  constexpr size_t kParts = 8;
  double part[kParts] = {}, sum = 0;
  const size_t whole = n / kParts * kParts;
  for (size_t i = 0; i < whole; i += kParts) {
    for (size_t j = 0; j < kParts; j++) part[j] += static_cast<double>(a[i + j]) * b[i + j];
  }
  for (size_t i = whole; i < n; i++) sum += static_cast<double>(a[i]) * b[i];
  for (double p : part) sum += p;
  return sum;
}

/* x / rms(x) times the weights of a norm. */
std::vector<double> normed(const std::vector<double>& x, const std::vector<float>& norm, double eps);
/* Of at least one number. */
std::vector<double> softmax(std::vector<double> s);
/* down (silu(gate h) up h), by matrix m of each. */
std::vector<double> gated(const HostMatrix& gate, const HostMatrix& up, const HostMatrix& down, int32_t m,
                          const std::vector<double>& h);

/* Root mean square of the differences over that of what was expected; NaN when anything is. */
inline double error_of(const float* actual, const std::vector<double>& expected) {
  double square = 0, error = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    square += expected[i] * expected[i];
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
  }
  return std::sqrt(error / square);
}

}  // namespace ek::test
#endif
