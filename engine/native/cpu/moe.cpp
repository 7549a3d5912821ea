/* Gated feed-forwards: one dense, or a mixture of experts. Both have a form for
 * few rows, which decodes the weights on the fly, and one for many, which
 * unpacks them once per tile of rows; the bits are the same. */
#include <cmath>

#include "cpu_backend.h"

namespace ek::cpu {

namespace {

constexpr int32_t kMostFewRows = 32; /* rows of a step; an expert sees a fraction of them */
constexpr int32_t kTokens = 120;     /* most tokens per item of an expert, a multiple of 12 */
constexpr int32_t kGroups = 4;       /* groups per item of few rows: about a microsecond */

FfnWeights ffn_weights(const ek_weight* gate, const ek_weight* up, const ek_weight* down) {
  return {cpu_weight(*gate), cpu_weight(*up), cpu_weight(*down)};
}

/* logits (n) become scores. */
void score_experts(const ek_moe_params& p, float* logits, int32_t n) {
  if (p.score_func == 2) {
    for (int32_t e = 0; e < n; e++) logits[e] = 1 / (1 + std::exp(-logits[e]));
    return;
  }
  const float top = *std::max_element(logits, logits + n);
  float sum = 0;
  for (int32_t e = 0; e < n; e++) sum += logits[e] = std::exp(logits[e] - top);
  for (int32_t e = 0; e < n; e++) logits[e] /= sum;
}

/* to (k) = the places of the largest values of key (n), ties to the lowest index. */
void best_places(const float* key, int32_t n, int32_t k, int32_t* to) {
  for (int32_t i = 0; i < k; i++) {
    int32_t best = -1;
    for (int32_t e = 0; e < n; e++) {
      const bool used = std::find(to, to + i, e) != to + i;
      if (!used && (best < 0 || key[e] > key[best])) best = e;
    }
    to[i] = best;
  }
}

/* Takes experts out of the choice whose group is not among the best. key (n_experts); groups, kept: scratch.
 */
void keep_best_groups(const ek_moe_params& p, float* key, int32_t n_experts, std::vector<float>& groups,
                      std::vector<int32_t>& kept) {
  const int32_t size = n_experts / p.n_groups;
  groups.assign(p.n_groups, 0);
  for (int32_t g = 0; g < p.n_groups; g++) {
    float first = -INFINITY, second = -INFINITY;
    for (int32_t e = g * size; e < (g + 1) * size; e++) {
      second = std::max(second, std::min(first, key[e]));
      first = std::max(first, key[e]);
    }
    groups[g] = p.score_func == 1 || size == 1 ? first : first + second;
  }
  kept.resize(p.top_groups);
  best_places(groups.data(), p.n_groups, p.top_groups, kept.data());
  for (int32_t e = 0; e < n_experts; e++) {
    if (std::find(kept.begin(), kept.end(), e / size) == kept.end()) key[e] = -INFINITY;
  }
}

/* Chosen experts of one token, ties to the lowest index, NaN last. score (n_experts). */
void choose(const float* score, const float* bias, int32_t n_experts, const ek_moe_params& p, int32_t* ids,
            float* weights) {
  thread_local std::vector<float> key, groups;
  thread_local std::vector<int32_t> kept;
  key.resize(n_experts);
  for (int32_t e = 0; e < n_experts; e++) {
    const float sum = score[e] + (bias == nullptr ? 0.0f : bias[e]);
    key[e] = std::isnan(sum) ? -INFINITY : sum;
  }
  if (p.top_groups < p.n_groups) keep_best_groups(p, key.data(), n_experts, groups, kept);
  best_places(key.data(), n_experts, p.top_k, ids);
  float total = 0;
  for (int32_t k = 0; k < p.top_k; k++) total += weights[k] = score[ids[k]];
  for (int32_t k = 0; k < p.top_k; k++)
    weights[k] = (p.normalize ? weights[k] / total : weights[k]) * p.scale;
}

/* Sorts the pairs by expert, rows in order. */
void sort_by_expert(MoeRoute& r, int32_t n_rows, int32_t n_experts) {
  r.first.assign(n_experts + 2, 0);
  for (int32_t e : r.experts) r.first[e + 1]++;
  for (int32_t e = 0; e <= n_experts; e++) r.first[e + 1] += r.first[e];
  std::vector<int32_t>& next = r.next;
  next.assign(r.first.begin(), r.first.end());
  for (int32_t row = 0; row < n_rows; row++) {
    for (int32_t k = 0; k < r.per_row; k++) {
      const size_t pair = static_cast<size_t>(row) * r.per_row + k;
      r.place[pair] = next[r.experts[pair]]++;
      r.rows[r.place[pair]] = row;
    }
  }
}

/* out (n) += the weighted results of one row, in the order of its experts. y
 * (pairs, ldy) in sorted order. */
void combine(const MoeRoute& r, int32_t row, const float* y, size_t ldy, float* out, int32_t n) {
  for (int32_t k = 0; k < r.per_row; k++) {
    const size_t pair = static_cast<size_t>(row) * r.per_row + k;
    const float weight = r.weights[pair];
    const float* from = y + static_cast<size_t>(r.place[pair]) * ldy;
    for (int32_t c = 0; c < n; c++) out[c] += weight * from[c];
  }
}

/* The stacks that hold expert `e`, and its place in them. */
struct Expert {
  FfnWeights w;
  int32_t matrix;
};

Expert find_expert(const ek_moe_params& p, int32_t e) {
  const bool shared = e == p.router->shape.n_rows;
  if (shared) return {ffn_weights(p.shared_gate, p.shared_up, p.shared_down), 0};
  return {ffn_weights(p.gate, p.up, p.down), e};
}

/* Floats per row of the hidden activations of any expert. */
int32_t hidden_width(const ek_moe_params& p) {
  const int32_t shared = p.shared_gate == nullptr ? 0 : p.shared_gate->shape.n_rows;
  return round_up(std::max(p.gate->shape.n_rows, shared), kLanes);
}

}  // namespace

void CpuBackend::gated_few_rows(const FfnWeights& w, const Part& part, int32_t matrix, const float* const* x,
                                float* const* hidden, int32_t n_rows, float* up) {
  const int32_t dim = w.gate.shape.n_cols, n = part.size(), width = n * kLanes;
  float *to_gate[kFewRows], *to_up[kFewRows];
  for (int32_t r = 0; r < n_rows; r++) {
    to_gate[r] = hidden[r] + part.begin * kLanes;
    to_up[r] = up + r * width;
  }
  k_.matvec(w.gate.shape.type, w.gate.group(matrix, part.begin), w.gate.group_bytes, n, dim, x, to_gate,
            n_rows);
  k_.matvec(w.up.shape.type, w.up.group(matrix, part.begin), w.up.group_bytes, n, dim, x, to_up, n_rows);
  for (int32_t r = 0; r < n_rows; r++) k_.silu_mul(to_gate[r], to_up[r], width);
}

void CpuBackend::gated_panels(const FfnWeights& w, const Part& part, int32_t matrix, const float* x,
                              int32_t n_rows, float* hidden, size_t ldh, float* up, int thread) {
  const int32_t dim = w.gate.shape.n_cols;
  for (int32_t g = part.begin; g < part.end; g += kPanels) {
    const int32_t n = std::min(kPanels, part.end - g), width = n * kLanes;
    multiply(w.gate, matrix, g, n, x, dim, n_rows, hidden + g * kLanes, ldh, thread);
    multiply(w.up, matrix, g, n, x, dim, n_rows, up, width, thread);
    for (int32_t r = 0; r < n_rows; r++) k_.silu_mul(hidden + r * ldh + g * kLanes, up + r * width, width);
  }
}

void CpuBackend::ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                            const ek_weight& down, int32_t n_rows) {
  const FfnWeights w = ffn_weights(&gate, &up, &down);
  const int32_t dim = gate.shape.n_cols, n_groups = w.gate.n_groups, ldh = n_groups * kLanes;
  float* hidden = work_.reserve(static_cast<size_t>(n_rows) * ldh);
  const LinearArgs last{out, hidden, &down, nullptr, n_rows, true};
  if (n_rows <= kFewRows) {
    reserve(static_cast<size_t>(kFewRows) * kGroups * kLanes);
    pool_.run((n_groups + kGroups - 1) / kGroups, [&](int item, int thread) {
      const float* from[kFewRows] = {};
      float* to[kFewRows] = {};
      for (int32_t r = 0; r < n_rows; r++) {
        from[r] = x + static_cast<size_t>(r) * dim;
        to[r] = hidden + static_cast<size_t>(r) * ldh;
      }
      const Part part{0, item * kGroups, std::min(n_groups, (item + 1) * kGroups)};
      gated_few_rows(w, part, 0, from, to, n_rows, scratch(thread));
    });
    linear_few_rows(last, ldh);
    return;
  }
  const size_t panels = panel_floats(w.gate);
  const int32_t rows = even_share(n_rows, kTokens), row_tiles = (n_rows + rows - 1) / rows;
  const int32_t pairs = (n_groups + kPanels - 1) / kPanels;
  reserve(panels + static_cast<size_t>(rows) * kPanels * kLanes);
  pool_.run(row_tiles * pairs, [&](int item, int thread) {
    const size_t r0 = static_cast<size_t>(item / pairs) * rows;
    const int32_t m = std::min(rows, n_rows - static_cast<int32_t>(r0)), g = item % pairs * kPanels;
    gated_panels(w, {0, g, std::min(n_groups, g + kPanels)}, 0, x + r0 * dim, m, hidden + r0 * ldh, ldh,
                 scratch(thread) + panels, thread);
  });
  linear_panels(last, ldh);
}

void CpuBackend::route(const float* x, const ek_moe_params& p, int32_t n_rows) {
  const CpuWeight& router = cpu_weight(*p.router);
  const int32_t dim = router.shape.n_cols, n_experts = router.shape.n_rows, ld = router.n_groups * kLanes;
  const bool shared = p.shared_gate != nullptr;
  const float* bias = p.router_bias == nullptr ? nullptr : static_cast<const float*>(p.router_bias->data);
  MoeRoute& to = route_;
  to.per_row = p.top_k + (shared ? 1 : 0);
  const size_t n_pairs = static_cast<size_t>(n_rows) * to.per_row;
  to.score.resize(static_cast<size_t>(n_rows) * ld);
  to.experts.assign(n_pairs, n_experts);
  to.weights.assign(n_pairs, 1.0f);
  to.rows.resize(n_pairs);
  to.place.resize(n_pairs);
  pool_.run((n_rows + kFewRows - 1) / kFewRows, [&](int item, int) {
    const int32_t r0 = item * kFewRows, m = std::min(kFewRows, n_rows - r0);
    const float* from[kFewRows] = {};
    float* score[kFewRows] = {};
    for (int32_t r = 0; r < m; r++) {
      from[r] = x + static_cast<size_t>(r0 + r) * dim;
      score[r] = &to.score[static_cast<size_t>(r0 + r) * ld];
    }
    k_.matvec(EK_F32, router.group(0, 0), router.group_bytes, router.n_groups, dim, from, score, m);
    for (int32_t r = 0; r < m; r++) {
      score_experts(p, score[r], n_experts);
      const size_t pair = static_cast<size_t>(r0 + r) * to.per_row;
      choose(score[r], bias, n_experts, p, &to.experts[pair], &to.weights[pair]);
    }
  });
  sort_by_expert(to, n_rows, n_experts);
}

void CpuBackend::moe(float* out, const float* x, const ek_moe_params& p, int32_t n_rows) {
  route(x, p, n_rows);
  if (n_rows <= kMostFewRows) {
    experts_few_rows(out, x, p, n_rows);
  } else {
    experts_panels(out, x, p, n_rows);
  }
}

void CpuBackend::experts_few_rows(float* out, const float* x, const ek_moe_params& p, int32_t n_rows) {
  const int32_t dim = p.router->shape.n_cols, n_experts = p.router->shape.n_rows, ldh = hidden_width(p);
  const int32_t n_out = cpu_weight(*p.down).n_groups, ldy = n_out * kLanes;
  MoeRoute& r = route_;
  const size_t n_pairs = r.rows.size();
  float *hidden = work_.reserve(n_pairs * (ldh + ldy)), *y = hidden + n_pairs * ldh;
  reserve(static_cast<size_t>(kFewRows) * kGroups * kLanes);
  r.parts.clear();
  for (int32_t e = 0; e <= n_experts; e++) {
    if (r.first[e] == r.first[e + 1]) continue;
    const int32_t n_groups = find_expert(p, e).w.gate.n_groups;
    for (int32_t g = 0; g < n_groups; g += kGroups)
      r.parts.push_back({e, g, std::min(n_groups, g + kGroups)});
  }
  pool_.run(static_cast<int>(r.parts.size()), [&](int item, int thread) {
    const Part part = r.parts[item];
    const Expert expert = find_expert(p, part.expert);
    const float* from[kFewRows] = {};
    float* to[kFewRows] = {};
    for (int32_t at = r.first[part.expert]; at < r.first[part.expert + 1]; at += kFewRows) {
      const int32_t m = std::min(kFewRows, r.first[part.expert + 1] - at);
      for (int32_t i = 0; i < m; i++) {
        from[i] = x + static_cast<size_t>(r.rows[at + i]) * dim;
        to[i] = hidden + static_cast<size_t>(at + i) * ldh;
      }
      gated_few_rows(expert.w, part, expert.matrix, from, to, m, scratch(thread));
    }
  });
  pool_.run((n_out + kGroups - 1) / kGroups, [&](int item, int) {
    const int32_t g = item * kGroups, n = std::min(kGroups, n_out - g), c0 = g * kLanes;
    down_groups(p, hidden, ldh, g, n, y, ldy);
    for (int32_t row = 0; row < n_rows; row++) {
      combine(r, row, y + c0, ldy, out + static_cast<size_t>(row) * dim + c0, std::min(n * kLanes, dim - c0));
    }
  });
}

void CpuBackend::down_groups(const ek_moe_params& p, const float* hidden, size_t ldh, int32_t first,
                             int32_t n, float* y, size_t ldy) {
  const MoeRoute& r = route_;
  const float* from[kFewRows] = {};
  float* to[kFewRows] = {};
  for (int32_t e = 0; e <= p.router->shape.n_rows; e++) {
    for (int32_t at = r.first[e]; at < r.first[e + 1]; at += kFewRows) {
      const Expert expert = find_expert(p, e);
      const CpuWeight& down = expert.w.down;
      const int32_t m = std::min(kFewRows, r.first[e + 1] - at);
      for (int32_t i = 0; i < m; i++) {
        from[i] = hidden + static_cast<size_t>(at + i) * ldh;
        to[i] = y + static_cast<size_t>(at + i) * ldy + first * kLanes;
      }
      k_.matvec(down.shape.type, down.group(expert.matrix, first), down.group_bytes, n, down.shape.n_cols,
                from, to, m);
    }
  }
}

void CpuBackend::experts_panels(float* out, const float* x, const ek_moe_params& p, int32_t n_rows) {
  const int32_t dim = p.router->shape.n_cols, n_experts = p.router->shape.n_rows, ldh = hidden_width(p);
  const int32_t n_out = cpu_weight(*p.down).n_groups, ldy = n_out * kLanes;
  MoeRoute& r = route_;
  float* y = work_.reserve(r.rows.size() * ldy);
  r.parts.clear();
  for (int32_t e = n_experts; e >= 0; e--) { /* the shared expert, the longest, first */
    const int32_t n = r.first[e + 1] - r.first[e];
    if (n == 0) continue;
    const int32_t rows = even_share(n, kTokens);
    for (int32_t at = r.first[e]; at < r.first[e + 1]; at += rows)
      r.parts.push_back({e, at, std::min(r.first[e + 1], at + rows)});
  }
  const size_t panels = static_cast<size_t>(std::max(dim, ldh)) * kLanes * kPanels;
  const size_t from_floats = static_cast<size_t>(kTokens) * dim, hidden_floats = size_t{kTokens} * ldh;
  reserve(panels + from_floats + hidden_floats + static_cast<size_t>(kTokens) * kPanels * kLanes);
  pool_.run(static_cast<int>(r.parts.size()), [&](int item, int thread) {
    const Part part = r.parts[item];
    const Expert expert = find_expert(p, part.expert);
    float *from = scratch(thread) + panels, *hidden = from + from_floats, *up = hidden + hidden_floats;
    for (int32_t i = part.begin; i < part.end; i++) {
      std::memcpy(from + static_cast<size_t>(i - part.begin) * dim, x + static_cast<size_t>(r.rows[i]) * dim,
                  sizeof(float) * dim);
    }
    gated_panels(expert.w, {0, 0, expert.w.gate.n_groups}, expert.matrix, from, part.size(), hidden, ldh, up,
                 thread);
    multiply(expert.w.down, expert.matrix, 0, n_out, hidden, ldh, part.size(),
             y + static_cast<size_t>(part.begin) * ldy, ldy, thread);
  });
  pool_.run(n_rows,
            [&](int row, int) { combine(r, row, y, ldy, out + static_cast<size_t>(row) * dim, dim); });
}

}  // namespace ek::cpu
