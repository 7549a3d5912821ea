#include <algorithm>
#include <cmath>
#include <numeric>

#include "reference_backend.h"

namespace ek {

double sigmoid_ref(double x) { return 1 / (1 + std::exp(-x)); }

std::vector<double> swiglu_ref(const ek_weight& gate, const ek_weight& up, const ek_weight& down,
                               int32_t matrix, const std::vector<double>& x) {
  std::vector<double> g = matvec_ref(gate, matrix, x);
  const std::vector<double> u = matvec_ref(up, matrix, x);
  for (size_t i = 0; i < g.size(); i++) g[i] = g[i] * sigmoid_ref(g[i]) * u[i];
  return matvec_ref(down, matrix, g);
}

void ReferenceBackend::ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                                  const ek_weight& down, int32_t n_rows) {
  const int32_t dim = gate.shape.n_cols;
  for (int32_t r = 0; r < n_rows; r++, x += dim, out += dim) {
    const std::vector<double> y = swiglu_ref(gate, up, down, 0, {x, x + dim});
    for (int32_t c = 0; c < dim; c++) out[c] = static_cast<float>(out[c] + y[c]);
  }
}

namespace {

/* Indices of the top_k largest of s + bias, ties to the lowest index. */
std::vector<int32_t> choose_experts(const std::vector<double>& s, const float* bias, int32_t top_k) {
  std::vector<int32_t> order(s.size());
  std::iota(order.begin(), order.end(), 0);
  std::vector<double> key(s.size());
  for (size_t e = 0; e < s.size(); e++) key[e] = std::isnan(s[e] + bias[e]) ? -INFINITY : s[e] + bias[e];
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key[a] > key[b]; });
  order.resize(top_k);
  return order;
}

}  // namespace

void ReferenceBackend::moe(float* out, const float* x, const ek_moe_params& p, int32_t n_rows) {
  const int32_t dim = p.router->shape.n_cols;
  const float* bias = static_cast<const float*>(p.router_bias->data);
  for (int32_t r = 0; r < n_rows; r++, x += dim, out += dim) {
    const std::vector<double> h(x, x + dim);
    std::vector<double> s = matvec_ref(*p.router, 0, h);
    for (double& v : s) v = sigmoid_ref(v);
    const std::vector<int32_t> chosen = choose_experts(s, bias, p.top_k);
    double total = 0;
    for (int32_t e : chosen) total += s[e];
    std::vector<double> sum(out, out + dim);
    for (int32_t e : chosen) {
      const double weight = (p.normalize ? s[e] / total : s[e]) * p.scale;
      const std::vector<double> y = swiglu_ref(*p.gate, *p.up, *p.down, e, h);
      for (int32_t c = 0; c < dim; c++) sum[c] += weight * y[c];
    }
    if (p.shared_gate != nullptr) {
      const std::vector<double> y = swiglu_ref(*p.shared_gate, *p.shared_up, *p.shared_down, 0, h);
      for (int32_t c = 0; c < dim; c++) sum[c] += y[c];
    }
    for (int32_t c = 0; c < dim; c++) out[c] = static_cast<float>(sum[c]);
  }
}

}  // namespace ek
