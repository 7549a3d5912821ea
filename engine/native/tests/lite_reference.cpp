#include "lite_reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "parallel.h"

namespace ek::test {

using cuda::kHeads;
using cuda::kLatent;
using cuda::kNope;
using cuda::kRope;
using cuda::kRow;
using cuda::kValue;

namespace {

/* The released checkpoint's YaRN frequencies. */
double frequency(int pair) {
  const double plain = std::pow(10000.0, -2.0 * pair / kRope),
               keep = 1 - std::clamp((pair - 10) / 13.0, 0.0, 1.0);
  return plain * keep + plain / 40 * (1 - keep);
}

/* Turns the last kRope numbers of v to `position`. */
void turn(std::vector<double>& v, int32_t position) {
  double* at = v.data() + v.size() - kRope;
  for (int i = 0; i < kRope / 2; i++) {
    const double angle = static_cast<float>(position) * static_cast<float>(frequency(i));
    const double c = std::cos(angle), s = std::sin(angle), even = at[2 * i], odd = at[2 * i + 1];
    at[2 * i] = even * c - odd * s;
    at[2 * i + 1] = even * s + odd * c;
  }
}

/* The latents of a row as fp8 stores them: e4m3 times a power of two for each 128. */
void round_latents(std::vector<double>& row) {
  constexpr double kMost = 448, kLeast = 0x1p-6; /* largest number, least that is normal */
  for (size_t first = 0; first < kLatent; first += cuda::kScaledLatents) {
    double most = 0;
    for (size_t i = first; i < first + cuda::kScaledLatents; i++) most = std::max(most, std::fabs(row[i]));
    const double scale = most > 0 ? std::exp2(std::ceil(std::log2(most / kMost))) : 1;
    for (size_t i = first; i < first + cuda::kScaledLatents; i++) {
      const double size = std::max(std::fabs(row[i]) / scale, kLeast);
      const double step = std::exp2(std::floor(std::log2(size)) - 3) * scale;
      row[i] = std::nearbyint(row[i] / step) * step;
    }
  }
}

int32_t n_tokens(const HostLayer& layer) { return static_cast<int32_t>(layer.rows.size() / kRow); }

/* Tokens that keep a thread busy for longer than it takes to start. */
constexpr size_t kLeastShare = 1024;

}  // namespace

double bf16(double x) {
  float f = static_cast<float>(x);
  uint32_t u = bits_of(f);
  u += 0x7fff + (u >> 16 & 1);
  return float_of(u & 0xffff0000u);
}

LiteReference::LiteReference(const cuda::LiteShape& s, const cuda::LiteWeights& w)
    : shape_(s), embedding_(read_matrix(w.embedding)), head_(read_matrix(w.head)) {
  const size_t hidden = static_cast<size_t>(s.hidden);
  norm_ = read_floats(w.norm, hidden);
  for (const cuda::LiteLayer& l : w.layers) {
    HostLayer h{read_floats(l.attn_norm, hidden),
                read_floats(l.kv_norm, kLatent),
                read_floats(l.ffn_norm, hidden),
                read_matrix(l.q),
                read_matrix(l.kv_a),
                read_matrix(l.k_b),
                read_matrix(l.v_b),
                read_matrix(l.out),
                read_matrix(l.gate),
                read_matrix(l.up),
                read_matrix(l.down),
                read_matrix(l.shared_gate),
                read_matrix(l.shared_up),
                read_matrix(l.shared_down),
                {},
                l.router == nullptr,
                {},
                {}};
    if (!h.dense)
      h.router = {s.n_experts, s.hidden, read_floats(l.router, static_cast<size_t>(s.n_experts) * hidden)};
    layers_.push_back(std::move(h));
  }
}

void LiteReference::set_rows(int32_t layer, const std::vector<float>& rows) {
  layers_[static_cast<size_t>(layer)].rows = rows;
}

void LiteReference::add_rows(int32_t layer, const float* rows, size_t n_rows) {
  std::vector<float>& to = layers_[static_cast<size_t>(layer)].rows;
  to.insert(to.end(), rows, rows + n_rows * kRow);
}

void LiteReference::rewind(int32_t n_tokens) {
  for (HostLayer& layer : layers_) layer.rows.resize(static_cast<size_t>(n_tokens) * kRow);
}

std::vector<double> LiteReference::masses(const HostLayer& layer, const Queries& query) const {
  const int32_t n = n_tokens(layer), n_pooled = (n + cuda::kPoolStride - 1) / cuda::kPoolStride;
  Queries scores(kHeads, std::vector<double>(static_cast<size_t>(n_pooled)));
  in_parallel(static_cast<size_t>(n_pooled), kLeastShare / cuda::kPoolStride,
              [&](size_t begin, size_t end, size_t) {
                for (size_t i = begin; i < end; i++) {
                  const int32_t first = static_cast<int32_t>(i) * cuda::kPoolStride,
                                tokens = std::min(cuda::kPoolStride, n - first);
                  std::vector<double> mean(kRow, 0.0);
                  const float* row = layer.rows.data() + static_cast<size_t>(first) * kRow;
                  for (int32_t j = 0; j < tokens; j++, row += kRow) {
                    for (size_t c = 0; c < kRow; c++) mean[c] += row[c];
                  }
                  for (double& v : mean) v = bf16(v / tokens);
                  const double weight = std::log(static_cast<double>(tokens) / cuda::kPoolStride);
                  for (size_t h = 0; h < kHeads; h++)
                    scores[h][i] = dot(query[h].data(), mean.data(), size_t{kRow}) + weight;
                }
              });
  std::vector<double> mass(static_cast<size_t>((n + 63) / 64), 0.0);
  for (const std::vector<double>& of_head : scores) {
    const std::vector<double> p = softmax(of_head);
    for (size_t i = 0; i < p.size(); i++) mass[i / 4] += p[i];
  }
  return mass;
}

std::vector<int32_t> LiteReference::choose(const std::vector<double>& mass) const {
  const int32_t n = static_cast<int32_t>(mass.size());
  std::vector<int32_t> free, out{0};
  for (int32_t j = 1; j < n - shape_.local; j++) free.push_back(j);
  std::stable_sort(free.begin(), free.end(), [&](int32_t a, int32_t b) {
    return mass[static_cast<size_t>(a)] > mass[static_cast<size_t>(b)];
  });
  if (free.size() > static_cast<size_t>(shape_.top)) free.resize(static_cast<size_t>(shape_.top));
  out.insert(out.end(), free.begin(), free.end());
  for (int32_t j = std::max(1, n - shape_.local); j < n; j++) out.push_back(j);
  std::sort(out.begin(), out.end());
  return out;
}

void LiteReference::judge(const std::vector<int32_t>& list, const std::vector<double>& mass) {
  const int32_t n = static_cast<int32_t>(mass.size()), last_free = n - shape_.local;
  std::vector<uint8_t> in(mass.size(), 0);
  for (int32_t j : list) {
    if (j >= 0 && j < n) in[static_cast<size_t>(j)] = 1;
  }
  bool proper = list.size() == choose(mass).size() && std::is_sorted(list.begin(), list.end()) && in[0];
  double left = 0, worst = INFINITY;
  for (int32_t j = 1; j < n; j++) {
    const double m = mass[static_cast<size_t>(j)];
    if (j >= last_free) {
      proper &= in[static_cast<size_t>(j)] == 1;
    } else if (in[static_cast<size_t>(j)]) {
      worst = std::min(worst, m);
    } else {
      left = std::max(left, m);
    }
  }
  proper &= std::count(in.begin(), in.end(), 1) == static_cast<ptrdiff_t>(list.size());
  if (!proper) worst_choice_ = INFINITY;
  if (left > 0) worst_choice_ = std::max(worst_choice_, (left - worst) / worst);
  n_choices_ += left > 0;
}

std::vector<int32_t> LiteReference::blocks_of(HostLayer& layer, int32_t index, const Queries& query,
                                              bool by_tile) {
  const int32_t t = n_tokens(layer) - 1, tile = t / cuda::kTileQueries * cuda::kTileQueries;
  std::vector<int32_t> out;
  if (t < shape_.dense_len || index < shape_.dense_layers) {
    for (int32_t j = 0; j <= t / 64; j++) out.push_back(j);
    return out;
  }
  if (!by_tile || t == tile) {
    const std::vector<double> mass = masses(layer, query);
    out = choose(mass);
    if (lists_ && (!by_tile || t == tile)) {
      out = lists_(index, t);
      judge(out, mass);
    }
    if (t == tile) layer.tile_blocks = out;
    return out;
  }
  out = layer.tile_blocks;
  for (int32_t j = tile / 64 + 1; j <= t / 64; j++) out.push_back(j);
  return out;
}

LiteReference::Queries LiteReference::attended(const HostLayer& layer, const Queries& query,
                                               const std::vector<int32_t>& positions) {
  const auto row_of = [&](size_t i) { return layer.rows.data() + static_cast<size_t>(positions[i]) * kRow; };
  Queries weights(kHeads, std::vector<double>(positions.size()));
  in_parallel(positions.size(), kLeastShare, [&](size_t begin, size_t end, size_t) {
    for (size_t i = begin; i < end; i++) {
      for (size_t h = 0; h < kHeads; h++) weights[h][i] = dot(query[h].data(), row_of(i), size_t{kRow});
    }
  });
  for (std::vector<double>& of_head : weights) of_head = softmax(std::move(of_head));
  std::vector<Queries> parts(most_workers(), Queries(kHeads, std::vector<double>(kLatent, 0.0)));
  in_parallel(positions.size(), kLeastShare, [&](size_t begin, size_t end, size_t worker) {
    for (size_t i = begin; i < end; i++) {
      const float* row = row_of(i);
      for (size_t h = 0; h < kHeads; h++) {
        double* to = parts[worker][h].data();
        for (size_t c = 0; c < kLatent; c++) to[c] += weights[h][i] * row[c];
      }
    }
  });
  for (size_t w = 1; w < parts.size(); w++) {
    for (size_t h = 0; h < kHeads; h++) {
      for (size_t c = 0; c < kLatent; c++) parts[0][h][c] += parts[w][h][c];
    }
  }
  return parts[0];
}

void LiteReference::attend(HostLayer& layer, int32_t index, std::vector<double>& x, bool by_tile) {
  const std::vector<double> h = normed(x, layer.attn_norm, shape_.eps), q = layer.q.times(0, h);
  const std::vector<double> kv = layer.kv_a.times(0, h);
  const int32_t t = n_tokens(layer);
  std::vector<double> row = normed({kv.begin(), kv.begin() + kLatent}, layer.kv_norm, shape_.eps);
  row.insert(row.end(), kv.begin() + kLatent, kv.end());
  turn(row, t);
  if (shape_.rows == cuda::RowFormat::kFp8) round_latents(row);
  for (double v : row)
    layer.rows.push_back(static_cast<float>(bf16(v))); /* latents of fp8 are such numbers */
  Queries query;
  for (int head = 0; head < kHeads; head++) {
    const auto from = q.begin() + head * (kNope + kRope);
    std::vector<double> absorbed = layer.k_b.times(head, {from, from + kNope});
    absorbed.insert(absorbed.end(), from + kNope, from + kNope + kRope);
    turn(absorbed, t);
    for (double& v : absorbed) v = bf16(v * shape_.softmax_scale);
    query.push_back(absorbed);
  }
  std::vector<int32_t> positions;
  for (int32_t block : blocks_of(layer, index, query, by_tile)) {
    for (int32_t i = block * 64; i < std::min(block * 64 + 64, t + 1); i++) positions.push_back(i);
  }
  const Queries latents = attended(layer, query, positions);
  std::vector<double> heads;
  for (int head = 0; head < kHeads; head++) {
    for (double v : layer.v_b.times(head, latents[static_cast<size_t>(head)])) heads.push_back(v);
  }
  const std::vector<double> out = layer.out.times(0, heads);
  for (size_t i = 0; i < x.size(); i++) x[i] += out[i];
}

void LiteReference::feed_forward(const HostLayer& layer, int32_t index, std::vector<double>& x) {
  const std::vector<double> h = normed(x, layer.ffn_norm, shape_.eps);
  std::vector<double> sum = gated(layer.shared_gate, layer.shared_up, layer.shared_down, 0, h);
  if (!layer.dense) {
    const std::vector<double> p = softmax(layer.router.times(0, h));
    std::vector<int32_t> order(p.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
    });
    if (shape_.top_k < shape_.n_experts) {
      int32_t &last = order[static_cast<size_t>(shape_.top_k - 1)],
              &next = order[static_cast<size_t>(shape_.top_k)];
      gaps_[static_cast<size_t>(index)] =
          std::log(p[static_cast<size_t>(last)] / p[static_cast<size_t>(next)]);
      if (std::count(runners_up_.begin(), runners_up_.end(), index) > 0) std::swap(last, next);
    }
    for (int32_t k = 0; k < shape_.top_k; k++) {
      const int32_t e = order[static_cast<size_t>(k)];
      const std::vector<double> y = gated(layer.gate, layer.up, layer.down, e, h);
      for (size_t i = 0; i < y.size(); i++) sum[i] += p[static_cast<size_t>(e)] * y[i];
    }
  }
  for (size_t i = 0; i < x.size(); i++) x[i] += sum[i];
}

std::vector<int32_t> LiteReference::close_choices(double gap) const {
  std::vector<int32_t> out;
  for (size_t i = 0; i < gaps_.size(); i++) {
    if (gaps_[i] < gap) out.push_back(static_cast<int32_t>(i));
  }
  return out;
}

std::vector<double> LiteReference::step_with_runners_up(int32_t token, const std::vector<int32_t>& layers) {
  rewind(n_tokens(layers_[0]) - 1);
  runners_up_ = layers;
  std::vector<double> out = step(token);
  runners_up_.clear();
  return out;
}

std::vector<double> LiteReference::forward(int32_t token, bool by_tile) {
  gaps_.assign(layers_.size(), INFINITY);
  const float* from = embedding_.values.data() + static_cast<size_t>(token) * shape_.hidden;
  std::vector<double> x(from, from + shape_.hidden);
  for (size_t i = 0; i < layers_.size(); i++) {
    attend(layers_[i], static_cast<int32_t>(i), x, by_tile);
    feed_forward(layers_[i], static_cast<int32_t>(i), x);
  }
  return head_.times(0, normed(x, norm_, shape_.eps));
}

}  // namespace ek::test
