#include "nsa_reference.h"

#include <algorithm>
#include <cmath>

namespace ek::test {

namespace {

using cuda::kHeads;

/* Probabilities of the rows `at`. */
std::vector<double> probabilities(const HostRows& rows, const std::vector<int32_t>& at, const float* query,
                                  int32_t width) {
  std::vector<double> p;
  double top = -INFINITY, total = 0;
  for (int32_t i : at) {
    double dot = 0;
    for (int32_t c = 0; c < width; c++)
      dot += static_cast<double>(query[c]) * rows.keys[static_cast<ptrdiff_t>(i) * rows.key_stride + c];
    p.push_back(dot);
    top = std::max(top, dot);
  }
  for (double& x : p) total += x = std::exp(x - top);
  for (double& x : p) x /= total;
  return p;
}

std::vector<int32_t> range(int32_t begin, int32_t end) {
  std::vector<int32_t> out;
  for (int32_t i = begin; i < end; i++) out.push_back(i);
  return out;
}

}  // namespace

std::vector<double> NsaReference::masses(const std::vector<float>& query, int32_t t) const {
  const int32_t n = cuda::pooled_visible(t);
  std::vector<double> summed(static_cast<size_t>(n), 0.0), out;
  for (int32_t h = 0; h < kHeads; h++) {
    const std::vector<double> p = probabilities(pooled[static_cast<size_t>(h)], range(0, n),
                                                &query[static_cast<size_t>(h * key_width)], key_width);
    for (size_t i = 0; i < p.size(); i++) summed[i] += p[i];
  }
  for (int32_t j = 0; j <= t / 64; j++) {
    double mass = 0;
    for (int32_t i = 0; i < n; i++) {
      /* Strides of 16 tokens that a pooled row and the block share. */
      const int32_t begin = std::max(16 * i, 64 * j), end = std::min(16 * i + 32, 64 * j + 64);
      if (end > begin) mass += summed[static_cast<size_t>(i)] * (end - begin) / 16;
    }
    out.push_back(mass);
  }
  return out;
}

std::vector<int32_t> NsaReference::select(const std::vector<double>& mass, int32_t t) const {
  const int32_t own = t / 64;
  std::vector<int32_t> order = range(0, own + 1);
  const auto worth = [&](int32_t j) {
    return rule.is_forced(j, own) ? INFINITY : mass[static_cast<size_t>(j)];
  };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return worth(a) > worth(b); });
  order.resize(static_cast<size_t>(rule.n_selected(t)));
  std::sort(order.begin(), order.end());
  return order;
}

double NsaReference::excess(const std::vector<double>& mass, const std::vector<int32_t>& list,
                            int32_t t) const {
  const int32_t own = t / 64;
  bool proper = static_cast<int32_t>(list.size()) == rule.n_selected(t);
  for (size_t i = 0; i < list.size(); i++)
    proper = proper && list[i] >= 0 && list[i] <= own && (i == 0 || list[i] > list[i - 1]);
  double worst_chosen = INFINITY, best_left = 0;
  for (int32_t j = 0; j <= own; j++) {
    const bool has = std::find(list.begin(), list.end(), j) != list.end(), forced = rule.is_forced(j, own);
    proper = proper && (has || !forced);
    const double m = mass[static_cast<size_t>(j)];
    if (has && !forced) worst_chosen = std::min(worst_chosen, m);
    if (!has) best_left = std::max(best_left, m);
  }
  if (!proper) return INFINITY;
  return best_left <= worst_chosen ? 0.0 : best_left / worst_chosen - 1;
}

std::vector<double> NsaReference::attend(const std::vector<float>& query, const std::vector<float>& gates,
                                         const std::vector<int32_t>& list, int32_t t) const {
  std::vector<int32_t> chosen;
  for (int32_t j : list) {
    for (int32_t i : range(64 * j, std::min(t + 1, 64 * j + 64))) chosen.push_back(i);
  }
  const std::vector<int32_t> seen[3] = {range(0, cuda::pooled_visible(t)), chosen,
                                        range(std::max(0, t + 1 - rule.window), t + 1)};
  std::vector<double> out(static_cast<size_t>(kHeads * value_width), 0.0);
  for (int32_t h = 0; h < kHeads; h++) {
    for (int branch = 0; branch < 3; branch++) {
      const HostRows& from = (branch == 0 ? pooled : rows)[static_cast<size_t>(h)];
      const std::vector<double> p =
          probabilities(from, seen[branch], &query[static_cast<size_t>(h * key_width)], key_width);
      const double gate =
          1 / (1 + std::exp(-static_cast<double>(gates[static_cast<size_t>(h * 3 + branch)])));
      for (size_t i = 0; i < p.size(); i++) {
        const float* value = from.values + static_cast<ptrdiff_t>(seen[branch][i]) * from.value_stride;
        for (int32_t c = 0; c < value_width; c++)
          out[static_cast<size_t>(h * value_width + c)] += gate * p[i] * value[c];
      }
    }
  }
  return out;
}

std::vector<double> NsaReference::attend_densely(const std::vector<float>& query, int32_t t) const {
  std::vector<double> out(static_cast<size_t>(kHeads * value_width), 0.0);
  for (int32_t h = 0; h < kHeads; h++) {
    const HostRows& from = rows[static_cast<size_t>(h)];
    const std::vector<double> p =
        probabilities(from, range(0, t + 1), &query[static_cast<size_t>(h * key_width)], key_width);
    for (int32_t i = 0; i <= t; i++) {
      for (int32_t c = 0; c < value_width; c++)
        out[static_cast<size_t>(h * value_width + c)] +=
            p[static_cast<size_t>(i)] * from.values[static_cast<ptrdiff_t>(i) * from.value_stride + c];
    }
  }
  return out;
}

double relative_error(const std::vector<float>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double error = 0, size = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::isfinite(error) ? std::sqrt(error / size) : INFINITY;
}

}  // namespace ek::test
