#include "narrow_reference.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "../core/f16.h"

namespace ek::test {

using namespace cuda::narrow;

namespace {

constexpr size_t kRowWidth = kLatent + 2 * kRope;
constexpr int32_t kPooledPerBlock = EK_KV_BLOCK / kPoolStride;

size_t at_row(int32_t i, int32_t width) { return static_cast<size_t>(i) * static_cast<size_t>(width); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

std::vector<int32_t> range(int32_t begin, int32_t end) {
  std::vector<int32_t> out(static_cast<size_t>(std::max(0, end - begin)));
  std::iota(out.begin(), out.end(), begin);
  return out;
}

/* to += weight times n numbers. */
void add(std::vector<double>& to, const float* from, double weight) {
  for (size_t c = 0; c < to.size(); c++) to[c] += weight * from[c];
}

}  // namespace

NarrowReference::NarrowReference(const Decoder& decoder)
    : decoder_(decoder),
      shape_(decoder.shape),
      embedding_(read_matrix(decoder.weights.embedding)),
      head_(read_matrix(decoder.weights.head)),
      norm_(read_floats(decoder.weights.norm, static_cast<size_t>(decoder.shape.hidden))),
      inv_freq_(read_floats(decoder.device_frequencies(), kRope / 2)),
      rows_(static_cast<size_t>(decoder.shape.n_layers)) {
  const size_t hidden = static_cast<size_t>(shape_.hidden), heads = static_cast<size_t>(shape_.n_heads);
  for (const Layer& l : decoder.weights.layers) {
    HostLayer h{};
    h.attn_norm = read_floats(l.attn_norm, hidden);
    h.kv_norm = read_floats(l.kv_norm, kLatent);
    h.ffn_norm = read_floats(l.ffn_norm, hidden);
    h.gate_bias = read_floats(l.attn_gate_bias, heads * 3);
    h.cmp_k = read_floats(l.cmp_k, size_t{kPoolLength} * kWidth);
    h.cmp_v = read_floats(l.cmp_v, size_t{kPoolLength} * kLatent);
    h.q = read_matrix(l.q);
    h.kv_a = read_matrix(l.kv_a);
    h.kv_b = read_matrix(l.kv_b);
    h.out = read_matrix(l.out);
    h.attn_gate = read_matrix(l.attn_gate);
    h.shared_gate = read_matrix(l.shared_gate);
    h.shared_up = read_matrix(l.shared_up);
    h.shared_down = read_matrix(l.shared_down);
    if (!l.is_dense()) {
      h.router = read_matrix(l.router);
      h.router_bias = read_floats(l.router_bias, static_cast<size_t>(shape_.n_experts));
      h.gate = read_matrix(l.gate);
      h.up = read_matrix(l.up);
      h.down = read_matrix(l.down);
    }
    layers_.push_back(std::move(h));
  }
}

void NarrowReference::take_blocks(const std::vector<int32_t>& table, int32_t first, int32_t end) {
  const cuda::KvView& kv = decoder_.cache();
  std::vector<f16> block(kv.block_elements);
  const auto copy = [&](std::vector<float>& to, size_t at, size_t from, size_t n) {
    if (to.size() < at + n) to.resize(at + n);
    for (size_t i = 0; i < n; i++) to[at + i] = f16_to_f32(block[from + i]);
  };
  for (int32_t layer = 0; layer < shape_.n_layers; layer++) {
    NarrowRows& to = rows_[static_cast<size_t>(layer)];
    for (int32_t j = first; j < end; j++) {
      const f16* from = static_cast<const f16*>(kv.base) + kv.block_at(layer, table[static_cast<size_t>(j)]);
      cuda::check(cudaMemcpy(block.data(), from, block.size() * sizeof(f16), cudaMemcpyDeviceToHost),
                  "reading the cache");
      copy(to.rows, at_row(j, EK_KV_BLOCK) * kRowWidth, 0, EK_KV_BLOCK * kRowWidth);
      /* The row in slot 0 of a block begins in the block before: of the first block there is none. */
      const int32_t skipped = j == 0 ? 1 : 0, i = kPooledPerBlock * j - 1 + skipped;
      const size_t n = static_cast<size_t>(kPooledPerBlock - skipped);
      copy(to.pooled_keys, at_row(i, kWidth), kv.pooled_k_at + at_row(skipped, kWidth), n * kWidth);
      copy(to.pooled_values, at_row(i, kLatent), kv.pooled_v_at + at_row(skipped, kLatent), n * kLatent);
    }
  }
}

/* Angles are products of f32, as on the GPU: at position 131072 other ones would be off by 0.004. */
void NarrowReference::turn(double* at, int32_t position) const {
  for (size_t i = 0; i < kRope / 2; i++) {
    const double angle = static_cast<float>(position) * inv_freq_[i];
    const double c = std::cos(angle), s = std::sin(angle), even = at[2 * i], odd = at[2 * i + 1];
    at[2 * i] = even * c - odd * s;
    at[2 * i + 1] = even * s + odd * c;
  }
}

std::vector<double> NarrowReference::row_of(const HostLayer& layer, const std::vector<double>& x,
                                            int32_t t) const {
  const std::vector<double> kv = layer.kv_a.times(0, normed(x, layer.attn_norm, shape_.eps));
  std::vector<double> row = normed({kv.begin(), kv.begin() + kLatent}, layer.kv_norm, shape_.eps);
  for (int copy = 0; copy < 2; copy++) row.insert(row.end(), kv.begin() + kLatent, kv.end());
  turn(row.data() + kLatent, t);
  return row;
}

double NarrowReference::row_error(int32_t index, const std::vector<double>& x, int32_t t) const {
  return error_of(rows(index).rows.data() + at_row(t, kRowWidth),
                  row_of(layers_[static_cast<size_t>(index)], x, t));
}

double NarrowReference::logits_error(const std::vector<double>& x, const std::vector<float>& logits) const {
  return error_of(logits.data(), head_.times(0, normed(x, norm_, shape_.eps)));
}

double NarrowReference::pooled_error(int32_t layer, int32_t i) const {
  const HostLayer& l = layers_[static_cast<size_t>(layer)];
  const NarrowRows& from = rows(layer);
  std::vector<double> key(kWidth, 0.0), value(kLatent, 0.0);
  for (size_t m = 0; m < kPoolLength; m++) {
    const float* row = from.rows.data() + (at_row(i, kPoolStride) + m) * kRowWidth;
    for (size_t c = 0; c < kWidth; c++) /* of the key before it was rotated */
      key[c] += static_cast<double>(l.cmp_k[m * kWidth + c]) * row[c < kLatent ? c : c + kRope];
    for (size_t c = 0; c < kLatent; c++) value[c] += static_cast<double>(l.cmp_v[m * kLatent + c]) * row[c];
  }
  turn(key.data() + kLatent, kPoolStride * i);
  return std::fmax(error_of(from.pooled_keys.data() + at_row(i, kWidth), key),
                   error_of(from.pooled_values.data() + at_row(i, kLatent), value));
}

NarrowReference::Queries NarrowReference::queries(const HostLayer& layer, const std::vector<double>& h,
                                                  int32_t t) const {
  const std::vector<double> q = layer.q.times(0, h);
  Queries out;
  for (int32_t head = 0; head < shape_.n_heads; head++) {
    const double* from = q.data() + at_row(head, kNope + kRope);
    std::vector<double> absorbed(kLatent, 0.0);
    for (int32_t r = 0; r < kNope; r++) add(absorbed, layer.kv_b.row(head * (kNope + kValue) + r), from[r]);
    absorbed.insert(absorbed.end(), from + kNope, from + kNope + kRope);
    turn(absorbed.data() + kLatent, t);
    for (double& v : absorbed) v *= shape_.softmax_scale;
    out.push_back(std::move(absorbed));
  }
  return out;
}

NarrowReference::Attention NarrowReference::attend(int32_t index, const std::vector<double>& x,
                                                   int32_t t) const {
  const HostLayer& layer = layers_[static_cast<size_t>(index)];
  const NarrowRows& from = rows(index);
  const std::vector<double> h = normed(x, layer.attn_norm, shape_.eps);
  const size_t heads = static_cast<size_t>(shape_.n_heads);
  const int32_t n = decoder_.cache().n_visible(t);
  Attention a{
      queries(layer, h, t), layer.attn_gate.times(0, h), Queries(heads, std::vector<double>(kLatent)), {}};
  for (size_t i = 0; i < a.gate.size(); i++) a.gate[i] = sigmoid(a.gate[i] + layer.gate_bias[i]);
  Queries p(heads);
  for (size_t head = 0; head < heads && n > 0; head++) {
    for (int32_t i = 0; i < n; i++)
      p[head].push_back(dot(a.query[head].data(), from.pooled_keys.data() + at_row(i, kWidth), kWidth));
    p[head] = softmax(std::move(p[head]));
    for (int32_t i = 0; i < n; i++)
      add(a.sum[head], from.pooled_values.data() + at_row(i, kLatent),
          a.gate[3 * head] * p[head][static_cast<size_t>(i)]);
  }
  add_branch(a.sum, a, index, range(std::max(0, t + 1 - shape_.window), t + 1), 2);
  a.mass = masses(p, t);
  return a;
}

void NarrowReference::add_branch(Queries& sum, const Attention& a, int32_t index,
                                 const std::vector<int32_t>& at, int32_t branch) const {
  const float* first = rows(index).rows.data();
  for (size_t head = 0; head < sum.size(); head++) {
    std::vector<double> p;
    for (int32_t i : at) p.push_back(dot(a.query[head].data(), first + at_row(i, kRowWidth), kWidth));
    p = softmax(std::move(p));
    const double gate = a.gate[3 * head + static_cast<size_t>(branch)];
    for (size_t i = 0; i < at.size(); i++) add(sum[head], first + at_row(at[i], kRowWidth), gate * p[i]);
  }
}

/* Of every block up to the position's: summed over heads and over the halves of pooled rows that lie in it.
 */
std::vector<double> NarrowReference::masses(const Queries& probabilities, int32_t t) const {
  std::vector<double> mass(static_cast<size_t>(t / EK_KV_BLOCK + 1), 0.0);
  for (const std::vector<double>& p : probabilities) {
    for (size_t i = 0; i < p.size(); i++) {
      if (p[i] < FLT_MIN) continue; /* below the normal range blocks tie */
      for (size_t half = i; half < i + 2; half++) {
        if (half / kPooledPerBlock < mass.size()) mass[half / kPooledPerBlock] += p[i];
      }
    }
  }
  return mass;
}

std::vector<NarrowReference::Selection> NarrowReference::selections(const std::vector<double>& mass,
                                                                    int32_t t) const {
  const int32_t own = t / EK_KV_BLOCK;
  std::vector<int32_t> forced, free;
  for (int32_t j = 0; j <= own; j++)
    (j < shape_.init_blocks || j > own - shape_.local_blocks ? forced : free).push_back(j);
  const auto of = [&](size_t i) { return mass[static_cast<size_t>(free[i])]; };
  std::stable_sort(free.begin(), free.end(), [&](int32_t a, int32_t b) {
    return mass[static_cast<size_t>(a)] > mass[static_cast<size_t>(b)];
  });
  const size_t n = std::min(free.size(), static_cast<size_t>(std::max(0, shape_.select_n)) - forced.size());
  std::vector<int32_t> best = forced;
  best.insert(best.end(), free.begin(), free.begin() + static_cast<ptrdiff_t>(n));
  std::vector<Selection> out{{best, 0}};
  if (n == free.size()) return out;
  for (size_t i = n; i-- > 0 && of(i) <= (1 + kNearTie) * of(n);) {
    for (size_t j = n; j < free.size() && of(i) <= (1 + kNearTie) * of(j); j++) {
      out.push_back({best, of(i) / of(j) - 1});
      out.back().blocks[forced.size() + i] = free[j];
    }
  }
  return out;
}

std::vector<double> NarrowReference::behind(int32_t index, std::vector<double> x, const Attention& a,
                                            const std::vector<int32_t>& blocks, int32_t t) const {
  const HostLayer& layer = layers_[static_cast<size_t>(index)];
  std::vector<int32_t> at;
  for (int32_t block : blocks) {
    for (int32_t i : range(block * EK_KV_BLOCK, std::min(t + 1, (block + 1) * EK_KV_BLOCK))) at.push_back(i);
  }
  Queries sum = a.sum;
  add_branch(sum, a, index, at, 1);
  std::vector<double> heads;
  for (int32_t head = 0; head < shape_.n_heads; head++) {
    for (int32_t v = 0; v < kValue; v++)
      heads.push_back(dot(sum[static_cast<size_t>(head)].data(),
                          layer.kv_b.row(head * (kNope + kValue) + kNope + v), kLatent));
  }
  const std::vector<double> out = layer.out.times(0, heads);
  for (size_t i = 0; i < x.size(); i++) x[i] += out[i];
  feed_forward(layer, x);
  return x;
}

void NarrowReference::feed_forward(const HostLayer& layer, std::vector<double>& x) const {
  const std::vector<double> h = normed(x, layer.ffn_norm, shape_.eps);
  std::vector<double> sum = gated(layer.shared_gate, layer.shared_up, layer.shared_down, 0, h);
  if (!layer.router.values.empty()) {
    std::vector<double> score = layer.router.times(0, h);
    for (double& s : score) s = sigmoid(s);
    std::vector<int32_t> order = range(0, shape_.n_experts);
    const auto key = [&](int32_t e) {
      return score[static_cast<size_t>(e)] + layer.router_bias[static_cast<size_t>(e)];
    };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key(a) > key(b); });
    order.resize(static_cast<size_t>(shape_.top_k));
    double total = 0;
    for (int32_t e : order) total += score[static_cast<size_t>(e)];
    for (int32_t e : order) {
      const std::vector<double> y = gated(layer.gate, layer.up, layer.down, e, h);
      const double weight = score[static_cast<size_t>(e)] * shape_.scale / (shape_.normalize ? total : 1);
      for (size_t i = 0; i < y.size(); i++) sum[i] += weight * y[i];
    }
  }
  for (size_t i = 0; i < x.size(); i++) x[i] += sum[i];
}

NarrowErrors NarrowReference::compare(int32_t token, int32_t t, const std::vector<float>& logits) const {
  const float* embedded = embedding_.row(token);
  std::vector<double> x(embedded, embedded + shape_.hidden);
  NarrowErrors out;
  out.rows.push_back(row_error(0, x, t));
  for (int32_t i = 0; i < shape_.n_layers; i++) {
    const bool is_last = i + 1 == shape_.n_layers;
    if (is_last && logits.empty()) break;
    const Attention a = attend(i, x, t);
    const std::vector<Selection> all = selections(a.mass, t);
    out.n_choices += static_cast<int32_t>(a.mass.size()) > shape_.select_n ? 1 : 0;
    out.n_ties += all.size() > 1 ? 1 : 0;
    std::vector<double> best;
    double least = 0, excess = 0;
    for (const Selection& s : all) {
      std::vector<double> y = behind(i, x, a, s.blocks, t);
      const double error = is_last ? logits_error(y, logits) : row_error(i + 1, y, t);
      if (!best.empty() && !(error < least)) continue;
      best = std::move(y);
      least = error;
      excess = s.excess;
    }
    x = std::move(best);
    out.excess = std::max(out.excess, excess);
    if (is_last) {
      out.logits = least;
    } else {
      out.rows.push_back(least);
    }
  }
  return out;
}

}  // namespace ek::test
