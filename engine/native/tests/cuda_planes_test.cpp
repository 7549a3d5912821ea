/* The plane layout of weights on the host: every value comes back as the file layout gives it. */
#include "../cuda/weights/planes.h"
#include "device.h"

using namespace ek::test;

namespace {

template <ek_type F>
void test_shape(int32_t n_matrices, int32_t n_rows, int32_t n_cols) {
  const ek::WeightShape shape{F, n_matrices, n_rows, n_cols};
  const size_t rows = static_cast<size_t>(n_matrices) * n_rows, stride = ek::row_bytes(F, n_cols);
  const std::vector<uint8_t> data = random_weight(F, rows * n_cols, 41, 0.1f);
  std::vector<uint64_t> packed(ek::cuda::packed_bytes(shape) / 8);
  uint8_t* base = reinterpret_cast<uint8_t*>(packed.data());
  ek::cuda::pack_planes(shape, data.data(), base);
  const ek::cuda::WeightView view = ek::cuda::view_planes(shape, base);
  std::vector<float> actual, expected;
  for (size_t r = 0; r < rows; r++) {
    for (int32_t unit = 0; unit * 8 < n_cols; unit++) {
      float values[8];
      const int32_t of = static_cast<int32_t>(r);
      ek::cuda::load_unit<F>(view, view.row(of / n_rows, of % n_rows), unit, values);
      for (int32_t i = 0; i < 8 && unit * 8 + i < n_cols; i++) {
        actual.push_back(values[i]);
        expected.push_back(
            ek::element_of_row(F, data.data() + r * stride, static_cast<size_t>(unit) * 8 + i));
      }
    }
  }
  expect_close("planes of type " + std::to_string(F) + ", " + std::to_string(n_cols) + " columns", actual,
               expected, 1e-7, 1e-6);
}

}  // namespace

int main() {
  for (int32_t n_cols : {256, 512, 768}) {
    test_shape<EK_Q4_K>(2, 3, n_cols);
    test_shape<EK_Q5_K>(2, 3, n_cols);
    test_shape<EK_Q6_K>(2, 3, n_cols);
  }
  for (int32_t n_cols : {32, 96, 128, 160, 384}) {
    test_shape<EK_Q4_0>(2, 3, n_cols);
    test_shape<EK_Q5_0>(2, 3, n_cols);
    test_shape<EK_Q8_0>(2, 3, n_cols);
    test_shape<EK_BF16>(2, 3, n_cols);
  }
  for (int32_t n_cols : {7, 32, 90}) {
    test_shape<EK_F32>(2, 3, n_cols);
    test_shape<EK_F16>(2, 3, n_cols);
    test_shape<EK_BF16>(1, 3, n_cols);
  }
  test_shape<EK_Q4_K>(2, 40, 512);
  test_shape<EK_Q5_0>(3, 16, 352);
  /* Enough bytes for several threads, in shares that do not come out even. */
  test_shape<EK_Q4_K>(3, 1201, 2048);
  test_shape<EK_Q8_0>(1, 2003, 1056);
  return failures == 0 ? 0 : 1;
}
