#include <cmath>

#include "reference_backend.h"

namespace ek {

std::unique_ptr<Storage> ReferenceBackend::make_weight(const WeightShape& shape, const uint8_t* data) {
  auto weight = std::make_unique<ReferenceWeight>();
  weight->shape = shape;
  weight->data.assign(data, data + row_bytes(shape.type, shape.n_cols) * shape.n_rows * shape.n_matrices);
  return weight;
}

std::vector<double> matvec_ref(const ek_weight& w, int32_t matrix, const std::vector<double>& x) {
  const ReferenceWeight& weight = reference_weight(w);
  std::vector<double> y(w.shape.n_rows, 0.0);
  for (int32_t r = 0; r < w.shape.n_rows; r++) {
    for (int32_t c = 0; c < w.shape.n_cols; c++) y[r] += weight.at(matrix, r, c) * x[c];
  }
  return y;
}

void ReferenceBackend::embed(float* out, const ek_weight& table, const int32_t* tokens, int32_t n_tokens) {
  const int32_t dim = table.shape.n_cols;
  for (int32_t i = 0; i < n_tokens; i++) {
    for (int32_t c = 0; c < dim; c++) {
      out[static_cast<size_t>(i) * dim + c] = static_cast<float>(reference_weight(table).at(0, tokens[i], c));
    }
  }
}

void ReferenceBackend::rmsnorm(float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
                               float eps) {
  for (int32_t r = 0; r < n_rows; r++, x += dim, out += dim) {
    double sum = 0;
    for (int32_t c = 0; c < dim; c++) sum += static_cast<double>(x[c]) * x[c];
    const double rms = std::sqrt(sum / dim + eps);
    for (int32_t c = 0; c < dim; c++) out[c] = static_cast<float>(x[c] / rms * weight[c]);
  }
}

void ReferenceBackend::linear(const LinearArgs& a) {
  const int32_t n_in = a.w->shape.n_cols, n_out = a.w->shape.n_rows;
  for (int32_t r = 0; r < a.n_rows; r++) {
    const float* x = a.x + static_cast<size_t>(r) * n_in;
    float* out = a.out + static_cast<size_t>(r) * n_out;
    const std::vector<double> y = matvec_ref(*a.w, 0, {x, x + n_in});
    for (int32_t c = 0; c < n_out; c++) {
      const double bias = a.bias == nullptr ? 0.0 : a.bias[c], before = a.accumulate ? out[c] : 0.0;
      out[c] = static_cast<float>(y[c] + bias + before);
    }
  }
}

}  // namespace ek
