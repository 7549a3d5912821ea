#include <algorithm>
#include <cmath>

#include "cpu_backend.h"

namespace ek::cpu {

namespace {

constexpr int32_t kTokens = 96; /* tokens per item of a feed-forward */

/* What one item of the mixture needs: an expert and the tokens that chose it. */
struct Item {
  int32_t expert; /* -1: the shared one */
  std::vector<int32_t> slots;
};

/* Chosen experts of one token, ties to the lowest index, NaN last. score (n_experts) after the sigmoid. */
void choose(const float* score, const float* bias, int32_t n_experts, const ek_moe_params& p, int32_t* ids,
            float* weights) {
  float total = 0;
  for (int32_t k = 0; k < p.top_k; k++) {
    int32_t best = -1;
    float best_key = 0;
    for (int32_t e = 0; e < n_experts; e++) {
      const float sum = score[e] + bias[e], key = std::isnan(sum) ? -INFINITY : sum;
      const bool used = std::find(ids, ids + k, e) != ids + k;
      if (!used && (best < 0 || key > best_key)) {
        best = e;
        best_key = key;
      }
    }
    ids[k] = best;
    total += weights[k] = score[best];
  }
  for (int32_t k = 0; k < p.top_k; k++)
    weights[k] = (p.normalize ? weights[k] / total : weights[k]) * p.scale;
}

/* Floats of scratch that an expert call needs behind the panel. */
size_t hidden_floats(const ek_weight& gate) {
  return static_cast<size_t>(2) * kTokens * round_up(gate.shape.n_rows, kLanes);
}

size_t panel_floats(const ek_weight& gate) {
  return static_cast<size_t>(kLanes) * std::max(gate.shape.n_cols, gate.shape.n_rows);
}

}  // namespace

void CpuBackend::expert(const ek_weight& gate, const ek_weight& up, const ek_weight& down, int32_t matrix,
                        const float* x, int32_t n_rows, float* out, float* hidden, int thread) {
  const int32_t dim = gate.shape.n_cols, ff = round_up(gate.shape.n_rows, kLanes);
  const CpuWeight &wg = cpu_weight(gate), &wu = cpu_weight(up), &wd = cpu_weight(down);
  float* u = hidden + static_cast<size_t>(n_rows) * ff;
  multiply(wg, matrix, 0, wg.n_groups, x, dim, n_rows, hidden, ff, thread);
  multiply(wu, matrix, 0, wu.n_groups, x, dim, n_rows, u, ff, thread);
  k_.silu_mul(hidden, u, static_cast<size_t>(n_rows) * ff);
  multiply(wd, matrix, 0, wd.n_groups, hidden, ff, n_rows, out, round_up(dim, kLanes), thread);
}

void CpuBackend::ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                            const ek_weight& down, int32_t n_rows) {
  const int32_t ff = gate.shape.n_rows;
  std::vector<float> h(static_cast<size_t>(n_rows) * ff), u(h.size());
  linear({h.data(), x, &gate, nullptr, n_rows, false});
  linear({u.data(), x, &up, nullptr, n_rows, false});
  const size_t whole = h.size() / kLanes * kLanes;
  k_.silu_mul(h.data(), u.data(), whole);
  if (whole < h.size()) {
    float g[kLanes] = {}, v[kLanes] = {};
    std::copy(h.begin() + whole, h.end(), g);
    std::copy(u.begin() + whole, u.end(), v);
    k_.silu_mul(g, v, kLanes);
    std::copy(g, g + (h.size() - whole), h.begin() + whole);
  }
  linear({out, h.data(), &down, nullptr, n_rows, true});
}

void CpuBackend::moe(float* out, const float* x, const ek_moe_params& p, int32_t n_rows) {
  const int32_t dim = p.router->shape.n_cols, n_experts = p.router->shape.n_rows, top_k = p.top_k;
  const bool shared = p.shared_gate != nullptr;
  const int32_t per_row = top_k + (shared ? 1 : 0), ldy = round_up(dim, kLanes);
  std::vector<float> score(static_cast<size_t>(n_rows) * n_experts),
      weights(static_cast<size_t>(n_rows) * top_k);
  std::vector<int32_t> ids(weights.size());
  linear({score.data(), x, p.router, nullptr, n_rows, false});
  for (float& s : score) s = 1 / (1 + std::exp(-s));
  for (int32_t r = 0; r < n_rows; r++) {
    choose(&score[static_cast<size_t>(r) * n_experts], static_cast<const float*>(p.router_bias->data),
           n_experts, p, &ids[static_cast<size_t>(r) * top_k], &weights[static_cast<size_t>(r) * top_k]);
  }
  std::vector<Item> items;
  for (int32_t e = shared ? -1 : 0; e < n_experts; e++) {
    Item item{e, {}};
    for (int32_t r = 0; r < n_rows; r++) {
      for (int32_t k = 0; k < per_row; k++) {
        const bool mine = k == top_k ? e == -1 : ids[static_cast<size_t>(r) * top_k + k] == e;
        if (!mine) continue;
        item.slots.push_back(r * per_row + k);
        if (item.slots.size() == kTokens) {
          items.push_back(item);
          item.slots.clear();
        }
      }
    }
    if (!item.slots.empty()) items.push_back(std::move(item));
  }
  const ek_weight* all[] = {p.gate, shared ? p.shared_gate : p.gate};
  const size_t panel = std::max(panel_floats(*all[0]), panel_floats(*all[1]));
  const size_t hidden = std::max(hidden_floats(*all[0]), hidden_floats(*all[1]));
  reserve(panel + hidden + static_cast<size_t>(kTokens) * (dim + ldy));
  std::vector<float> y(static_cast<size_t>(n_rows) * per_row * ldy);
  pool_.run(static_cast<int>(items.size()), [&](int i, int thread) {
    const Item& item = items[i];
    const int32_t n = static_cast<int32_t>(item.slots.size());
    float *h = scratch(thread) + panel, *from = h + hidden, *to = from + static_cast<size_t>(kTokens) * dim;
    for (int32_t j = 0; j < n; j++) {
      std::memcpy(from + static_cast<size_t>(j) * dim, x + static_cast<size_t>(item.slots[j] / per_row) * dim,
                  4 * dim);
    }
    if (item.expert < 0) {
      expert(*p.shared_gate, *p.shared_up, *p.shared_down, 0, from, n, to, h, thread);
    } else {
      expert(*p.gate, *p.up, *p.down, item.expert, from, n, to, h, thread);
    }
    for (int32_t j = 0; j < n; j++) {
      std::memcpy(&y[static_cast<size_t>(item.slots[j]) * ldy], to + static_cast<size_t>(j) * ldy, 4 * ldy);
    }
  });
  for (int32_t r = 0; r < n_rows; r++) {
    for (int32_t k = 0; k < per_row; k++) {
      const float weight = k == top_k ? 1.0f : weights[static_cast<size_t>(r) * top_k + k];
      const float* from = &y[(static_cast<size_t>(r) * per_row + k) * ldy];
      for (int32_t c = 0; c < dim; c++) out[static_cast<size_t>(r) * dim + c] += weight * from[c];
    }
  }
}

}  // namespace ek::cpu
