/* Native sparse attention with an explicit loop over tokens, heads and keys; nothing is absorbed or tiled. */
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "reference_backend.h"

namespace ek {

namespace {

/* One head's view of one sequence in one layer. */
struct Head {
  const AttentionArgs& a;
  const HostKv& kv;
  const Sequence& seq;
  int32_t h;
  const std::vector<double>& w; /* kv_b (heads * (nope + v), latent) */

  /* W_UK,h or W_UV,h times a latent row. */
  std::vector<double> expand(const std::vector<double>& c, bool value) const {
    const int32_t nope = a.nsa.nope_dim, v = a.nsa.v_dim;
    const int32_t first = h * (nope + v) + (value ? nope : 0), n = value ? v : nope;
    std::vector<double> out(n, 0.0);
    for (int32_t r = 0; r < n; r++) {
      for (size_t i = 0; i < c.size(); i++) {
        out[r] += w[(first + r) * c.size() + i] * c[i];
      }
    }
    return out;
  }
  /* Channels [from, from + n) of the cache row of token t. */
  std::vector<double> row(int32_t t, int32_t from, int32_t n) const {
    const void* rows = kv.rows(a.layer, seq.blocks[t / EK_KV_BLOCK]);
    std::vector<double> out(n);
    for (int32_t i = 0; i < n; i++) {
      out[i] = kv.load(rows, static_cast<size_t>(from + i) * EK_KV_BLOCK + t % EK_KV_BLOCK);
    }
    return out;
  }
  std::vector<double> token_key(int32_t t) const {
    return join(expand(row(t, 0, kv.params.latent_dim), false),
                row(t, kv.params.latent_dim, kv.params.rope_dim));
  }
  std::vector<double> token_value(int32_t t) const { return expand(row(t, 0, kv.params.latent_dim), true); }
  std::vector<double> pooled_key(int32_t index) const {
    const PooledSlot at = kv.pooled_slot(index);
    const void* base = kv.pooled_k(a.layer, seq.blocks[at.seq_block]);
    std::vector<double> c, k;
    for (int32_t i = 0; i < kv.pooled_dim; i++) {
      (i < kv.params.latent_dim ? c : k)
          .push_back(kv.load(base, static_cast<size_t>(i) * kv.n_pooled + at.slot));
    }
    return join(expand(c, false), k);
  }
  std::vector<double> pooled_value(int32_t index) const {
    const PooledSlot at = kv.pooled_slot(index);
    const void* base = kv.pooled_v(a.layer, seq.blocks[at.seq_block]);
    std::vector<double> c(kv.params.latent_dim);
    for (size_t i = 0; i < c.size(); i++) c[i] = kv.load(base, at.slot * c.size() + i);
    return expand(c, true);
  }
  static std::vector<double> join(std::vector<double> x, const std::vector<double>& y) {
    x.insert(x.end(), y.begin(), y.end());
    return x;
  }
};

/* Keys and values of one head, expanded once per row instead of once per query. */
struct Rows {
  std::vector<std::vector<double>> keys, values;
};

std::vector<double> softmax(std::vector<double> s) {
  const double top = *std::max_element(s.begin(), s.end());
  double sum = 0;
  for (double& x : s) sum += x = std::exp(x - top);
  for (double& x : s) x /= sum;
  return s;
}

std::vector<double> scores(const std::vector<double>& q, const Rows& rows, const std::vector<int32_t>& at,
                           double scale) {
  std::vector<double> s;
  for (int32_t i : at) {
    double dot = 0;
    for (size_t d = 0; d < q.size(); d++) dot += q[d] * rows.keys[i][d];
    s.push_back(dot * scale);
  }
  return s;
}

/* out += gate * softmax(q K) V over the rows `at`; nothing for no row. Returns the probabilities. */
std::vector<double> attend(const std::vector<double>& q, const Rows& rows, const std::vector<int32_t>& at,
                           double scale, double gate, std::vector<double>* out) {
  if (at.empty()) return {};
  std::vector<double> p = softmax(scores(q, rows, at, scale));
  for (size_t i = 0; i < at.size(); i++) {
    for (size_t d = 0; d < out->size(); d++) (*out)[d] += gate * p[i] * rows.values[at[i]][d];
  }
  return p;
}

/* Blocks that the token at t selects. p (n_visible): probabilities summed over heads. */
std::vector<int32_t> select_blocks(const ek_nsa_params& nsa, int32_t overlap, int32_t per_block,
                                   const std::vector<double>& p, int32_t t) {
  const int32_t own = t / nsa.select_block;
  std::vector<int32_t> order, chosen;
  std::vector<float> score(own + 1, 0.0f);
  for (int32_t j = 0; j <= own; j++) {
    double sum = 0;
    for (int32_t m = 0; m < per_block; m++) {
      for (int32_t n = 0; n < overlap; n++) {
        const int32_t i = per_block * j + m - n;
        if (i >= 0 && i < static_cast<int32_t>(p.size())) sum += p[i];
      }
    }
    const bool forced = j < nsa.init_blocks || j > own - nsa.local_blocks;
    score[j] = forced ? INFINITY : std::isnan(sum) ? -INFINITY : static_cast<float>(sum);
    order.push_back(j);
  }
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return score[a] > score[b]; });
  for (int32_t j : order) {
    if (static_cast<int32_t>(chosen.size()) < nsa.select_n) chosen.push_back(j);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

std::vector<int32_t> range(int32_t from, int32_t to) {
  std::vector<int32_t> out;
  for (int32_t i = from; i < to; i++) out.push_back(i);
  return out;
}

/* The new token at position t of a sequence. tokens, pooled: (n_heads) expanded rows. */
void attend_token(const AttentionArgs& a, const HostKv& kv, const Sequence& seq, int32_t t,
                  const std::vector<Rows>& tokens, const std::vector<Rows>& pooled) {
  const ek_nsa_params& nsa = a.nsa;
  const int32_t n_heads = nsa.n_heads, qk = nsa.nope_dim + kv.params.rope_dim, n_vis = kv.n_visible(t);
  const size_t row = static_cast<size_t>(seq.first_row + t - seq.start);
  std::vector<std::vector<double>> q(n_heads), out(n_heads, std::vector<double>(nsa.v_dim, 0.0));
  const auto gate = [&](int32_t h, int32_t branch) {
    if (a.gates == nullptr) return branch == 1 ? 1.0 : 0.0;
    return sigmoid_ref(a.gates[(row * n_heads + h) * 3 + branch]);
  };
  std::vector<double> p_sum(n_vis, 0.0);
  for (int32_t h = 0; h < n_heads; h++) {
    const float* from = a.q + (row * n_heads + h) * qk;
    q[h].assign(from, from + qk);
    rotate_row(q[h].data() + nsa.nope_dim, a.batch->inv_freq.data(), kv.params.rope_dim / 2, t);
    const std::vector<double> p =
        attend(q[h], pooled[h], range(0, n_vis), nsa.softmax_scale, gate(h, 0), &out[h]);
    /* Block scores are fp32: a probability below its normal range counts as 0, and blocks then tie. */
    for (size_t i = 0; i < p.size(); i++) p_sum[i] += p[i] < FLT_MIN ? 0.0 : p[i];
  }
  const int32_t stride = kv.params.cmp_stride;
  const std::vector<int32_t> blocks =
      stride == 0 ? select_blocks(nsa, 0, 0, p_sum, t)
                  : select_blocks(nsa, kv.params.cmp_len / stride, nsa.select_block / stride, p_sum, t);
  std::vector<int32_t> selected;
  for (int32_t j : blocks) {
    for (int32_t i = j * nsa.select_block; i <= std::min(t, (j + 1) * nsa.select_block - 1); i++)
      selected.push_back(i);
  }
  for (int32_t h = 0; h < n_heads; h++) {
    attend(q[h], tokens[h], selected, nsa.softmax_scale, gate(h, 1), &out[h]);
    attend(q[h], tokens[h], range(std::max(0, t - nsa.window + 1), t + 1), nsa.softmax_scale, gate(h, 2),
           &out[h]);
    for (int32_t d = 0; d < nsa.v_dim; d++)
      a.out[(row * n_heads + h) * nsa.v_dim + d] = static_cast<float>(out[h][d]);
  }
}

}  // namespace

void ReferenceBackend::nsa_attention(const AttentionArgs& a) {
  const HostKv& kv = host_kv(*a.kv);
  std::vector<double> w;
  for (int32_t r = 0; r < a.kv_b->shape.n_rows; r++) {
    for (int32_t c = 0; c < a.kv_b->shape.n_cols; c++) w.push_back(reference_weight(*a.kv_b).at(0, r, c));
  }
  for (const Sequence& seq : a.batch->sequences) {
    const int32_t end = seq.start + seq.n_new;
    std::vector<Rows> tokens(a.nsa.n_heads), pooled(a.nsa.n_heads);
    for (int32_t h = 0; h < a.nsa.n_heads; h++) {
      const Head head{a, kv, seq, h, w};
      for (int32_t t = 0; t < end; t++) {
        tokens[h].keys.push_back(head.token_key(t));
        tokens[h].values.push_back(head.token_value(t));
      }
      for (int32_t i = 0; i < kv.n_visible(end - 1); i++) {
        pooled[h].keys.push_back(head.pooled_key(i));
        pooled[h].values.push_back(head.pooled_value(i));
      }
    }
    for (int32_t t = seq.start; t < end; t++) attend_token(a, kv, seq, t, tokens, pooled);
  }
}

}  // namespace ek
