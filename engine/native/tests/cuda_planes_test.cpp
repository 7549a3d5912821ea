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

/* Of fp8 the layout is our own: bytes of all rows, then a scale for each 128 x 128 of a matrix. */
void test_fp8(int32_t n_matrices, int32_t n_rows, int32_t n_cols) {
  const ek::WeightShape shape{EK_FP8_E4M3, n_matrices, n_rows, n_cols};
  const size_t n = static_cast<size_t>(n_matrices) * n_rows * n_cols;
  const size_t block_rows = (static_cast<size_t>(n_rows) + 127) / 128,
               groups = (static_cast<size_t>(n_cols) + 127) / 128;
  std::mt19937 engine(5);
  const std::vector<float> scales = random_floats(n_matrices * block_rows * groups, 7, 1.0f);
  std::vector<uint32_t> data((n + 3) / 4 + scales.size());
  uint8_t* bytes = reinterpret_cast<uint8_t*>(data.data());
  for (size_t i = 0; i < n; i++) bytes[i] = static_cast<uint8_t>(engine() & 0xbf);
  std::memcpy(bytes + n, scales.data(), scales.size() * 4);
  std::vector<uint64_t> packed(ek::cuda::packed_bytes(shape) / 8);
  uint8_t* base = reinterpret_cast<uint8_t*>(packed.data());
  ek::cuda::pack_planes(shape, bytes, base);
  const ek::cuda::WeightView view = ek::cuda::view_planes(shape, base);
  std::vector<float> actual, expected;
  for (int32_t r = 0; r < n_matrices * n_rows; r++) {
    const int32_t matrix = r / n_rows, row = r % n_rows;
    for (int32_t col = 0; col < n_cols; col++) {
      float values[8];
      ek::cuda::load_unit<EK_FP8_E4M3>(view, view.row(matrix, row), col / 8, values);
      const size_t block = (static_cast<size_t>(matrix) * block_rows + row / 128) * groups + col / 128;
      actual.push_back(values[col % 8]);
      expected.push_back(ek::cuda::e4m3_value(bytes[static_cast<size_t>(r) * n_cols + col]) * scales[block]);
    }
  }
  expect_close("planes of fp8, " + std::to_string(n_cols) + " columns", actual, expected, 0, 0);
}

}  // namespace

int main() {
  for (int32_t n_cols : {32, 128, 160, 384}) test_fp8(2, 3, n_cols);
  test_fp8(3, 144, 256);
  test_fp8(1, 300, 160);
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
