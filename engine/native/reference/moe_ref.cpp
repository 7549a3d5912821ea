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

/* Indices of the k largest of `key`, ties to the lowest index. */
std::vector<int32_t> largest(const std::vector<double>& key, int32_t k) {
  std::vector<int32_t> order(key.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key[a] > key[b]; });
  order.resize(k);
  return order;
}

/* The experts of one token. s: their scores. */
std::vector<int32_t> choose_experts(const std::vector<double>& s, const float* bias, const ek_moe_params& p) {
  std::vector<double> key = s, groups;
  for (size_t e = 0; e < s.size() && bias != nullptr; e++) key[e] += bias[e];
  for (double& k : key) k = std::isnan(k) ? -INFINITY : k;
  const size_t size = s.size() / p.n_groups;
  for (int32_t g = 0; g < p.n_groups; g++) {
    std::vector<double> members(key.begin() + g * size, key.begin() + (g + 1) * size);
    std::sort(members.rbegin(), members.rend());
    groups.push_back(p.score_func == 1 || size == 1 ? members[0] : members[0] + members[1]);
  }
  const std::vector<int32_t> kept = largest(groups, p.top_groups);
  for (size_t e = 0; e < s.size(); e++) {
    if (std::find(kept.begin(), kept.end(), static_cast<int32_t>(e / size)) == kept.end()) key[e] = -INFINITY;
  }
  return largest(key, p.top_k);
}

std::vector<double> scores_of(std::vector<double> logits, int32_t score_func) {
  if (score_func == 2) {
    for (double& v : logits) v = sigmoid_ref(v);
    return logits;
  }
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& v : logits) sum += v = std::exp(v - top);
  for (double& v : logits) v /= sum;
  return logits;
}

}  // namespace

void ReferenceBackend::moe(float* out, const float* x, const ek_moe_params& p, int32_t n_rows) {
  const int32_t dim = p.router->shape.n_cols;
  const float* bias = p.router_bias == nullptr ? nullptr : static_cast<const float*>(p.router_bias->data);
  for (int32_t r = 0; r < n_rows; r++, x += dim, out += dim) {
    const std::vector<double> h(x, x + dim);
    const std::vector<double> s = scores_of(matvec_ref(*p.router, 0, h), p.score_func);
    const std::vector<int32_t> chosen = choose_experts(s, bias, p);
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
