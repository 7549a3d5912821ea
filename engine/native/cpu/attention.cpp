/* Cache rows and native sparse attention, absorbed: scores and sums are taken on latent rows, and W_UK and
 * W_UV of a head are applied to the query and to the sum. Every op on rows is the one gemm, so a token's
 * result does not depend on how many tokens are computed with it. */
#include <algorithm>
#include <cmath>

#include "cpu_backend.h"

namespace ek::cpu {

namespace {

constexpr int32_t kQueries = 12; /* queries per item */

/* Widens n elements of the cache to f32; n in multiples of 16 for f16. */
void widen(const Kernels& k, const HostKv& kv, const void* from, float* to, size_t n) {
  if (kv.element == 4) {
    std::memcpy(to, from, 4 * n);
  } else if (n % kLanes == 0) {
    k.widen(static_cast<const f16*>(from), to, n);
  } else {
    for (size_t i = 0; i < n; i++) to[i] = kv.load(from, i);
  }
}

/* f32 copies of what one sequence's queries read in one layer. */
struct SequenceRows {
  int32_t n_blocks, n_pooled, ld_pooled;
  std::vector<float> keys;          /* (n_blocks, latent + rope, 64) */
  std::vector<float> values;        /* (n_blocks, 64, latent) */
  std::vector<float> pooled_keys;   /* (latent + rope, ld_pooled) */
  std::vector<float> pooled_values; /* (ld_pooled, latent) */
};

/* W_UK and W_UV of all heads as f32. */
struct Projections {
  std::vector<float> uk; /* (heads, nope, latent) */
  std::vector<float> uv; /* (heads, latent, v) */
};

/* One item's queries, and where its results go. */
struct Tile {
  const AttentionArgs* a;
  const Sequence* seq;
  const SequenceRows* rows;
  const Projections* w;
  int32_t first, n, head; /* first new token of the tile, count */

  size_t row(int32_t i) const { return static_cast<size_t>(seq->first_row + first + i); }
  int32_t position(int32_t i) const { return seq->start + first + i; }
  float gate(int32_t i, int32_t branch) const {
    return 1 / (1 + std::exp(-a->gates[(row(i) * a->nsa.n_heads + head) * 3 + branch]));
  }
};

/* absorbed (n, latent + rope): the queries of a tile against latent rows, scaled. */
void absorb(const Kernels& k, const Tile& t, float* absorbed) {
  const ek_nsa_params& nsa = t.a->nsa;
  const HostKv& kv = host_kv(*t.a->kv);
  const int32_t latent = kv.params.latent_dim, rope = kv.params.rope_dim, qk = nsa.nope_dim + rope;
  const float* q = t.a->q + (t.row(0) * nsa.n_heads + t.head) * qk;
  const size_t ldq = static_cast<size_t>(nsa.n_heads) * qk;
  k.gemm(t.n, latent, nsa.nope_dim, q, ldq,
         t.w->uk.data() + static_cast<size_t>(t.head) * nsa.nope_dim * latent, latent, absorbed,
         kv.pooled_dim, false);
  for (int32_t i = 0; i < t.n; i++) {
    float* to = absorbed + static_cast<size_t>(i) * kv.pooled_dim;
    std::memcpy(to + latent, q + i * ldq + nsa.nope_dim, sizeof(float) * rope);
    rotate_row(to + latent, t.a->batch->inv_freq.data(), rope / 2, t.position(i));
    for (int32_t c = 0; c < kv.pooled_dim; c++) to[c] *= nsa.softmax_scale;
  }
}

/* out of the tile's head, = or +=, W_UV sums; sums (n, latent). */
void project(const Kernels& k, const Tile& t, const float* sums, bool accumulate) {
  const ek_nsa_params& nsa = t.a->nsa;
  const int32_t latent = t.a->kv->params.latent_dim;
  k.gemm(t.n, nsa.v_dim, latent, sums, latent,
         t.w->uv.data() + static_cast<size_t>(t.head) * latent * nsa.v_dim, nsa.v_dim,
         t.a->out + (t.row(0) * nsa.n_heads + t.head) * nsa.v_dim,
         static_cast<size_t>(nsa.n_heads) * nsa.v_dim, accumulate);
}

/* The compressed branch. p (n, ld_pooled): probabilities, 0 for rows that are not visible. */
void attend_pooled(const Kernels& k, const Tile& t, float* scratch, float* p) {
  const HostKv& kv = host_kv(*t.a->kv);
  const SequenceRows& r = *t.rows;
  const int32_t latent = kv.params.latent_dim;
  float *absorbed = scratch, *sums = absorbed + kQueries * kv.pooled_dim, *gated = sums + kQueries * latent;
  absorb(k, t, absorbed);
  k.gemm(t.n, r.ld_pooled, kv.pooled_dim, absorbed, kv.pooled_dim, r.pooled_keys.data(), r.ld_pooled, p,
         r.ld_pooled, false);
  for (int32_t i = 0; i < t.n; i++) {
    const int32_t n = kv.n_visible(t.position(i));
    float *s = p + static_cast<size_t>(i) * r.ld_pooled, *g = gated + static_cast<size_t>(i) * r.ld_pooled;
    std::fill(s + n, s + r.ld_pooled, -INFINITY);
    const float sum = n == 0 ? 1.0f : k.exp_sum(s, round_up(n, kLanes), *std::max_element(s, s + n));
    const float gate = t.gate(i, 0);
    std::fill(s + n, s + r.ld_pooled, 0.0f);
    for (int32_t j = 0; j < r.ld_pooled; j++) g[j] = (s[j] /= sum) * gate;
  }
  k.gemm(t.n, latent, r.ld_pooled, gated, r.ld_pooled, r.pooled_values.data(), latent, sums, latent, false);
  project(k, t, sums, false);
}

/* Marks the blocks that the token at t selects. p (n_heads) rows of probabilities, `stride` floats apart. */
void select_blocks(const HostKv& kv, const ek_nsa_params& nsa, const float* p, size_t stride, int32_t t,
                   std::vector<float>& summed, uint8_t* chosen) {
  const int32_t own = t / EK_KV_BLOCK, n_vis = kv.n_visible(t), per = kv.n_pooled;
  const int32_t overlap = kv.params.cmp_len / kv.params.cmp_stride;
  std::fill(chosen, chosen + own + 1, own + 1 <= nsa.select_n);
  if (own + 1 <= nsa.select_n) return;
  summed.assign(n_vis, 0.0f);
  for (int32_t h = 0; h < nsa.n_heads; h++) {
    for (int32_t i = 0; i < n_vis; i++) summed[i] += p[h * stride + i];
  }
  std::vector<std::pair<float, int32_t>> order;
  for (int32_t j = 0; j <= own; j++) {
    float score = 0;
    for (int32_t m = 0; m < per; m++) {
      for (int32_t n = 0; n < overlap; n++) {
        const int32_t i = per * j + m - n;
        if (i >= 0 && i < n_vis) score += summed[i];
      }
    }
    const bool forced = j < nsa.init_blocks || j > own - nsa.local_blocks;
    order.emplace_back(forced ? INFINITY : std::isnan(score) ? -INFINITY : score, j);
  }
  std::partial_sort(order.begin(), order.begin() + nsa.select_n, order.end(),
                    [](const auto& a, const auto& b) {
                      return a.first != b.first ? a.first > b.first : a.second < b.second;
                    });
  for (int32_t i = 0; i < nsa.select_n; i++) chosen[order[i].second] = 1;
}

/* Turns scores s (n rows in [0, end)) of one query into g_slc p_slc + g_win p_win. member: bit 0 selected,
 * bit 1 window. */
void combine(const Kernels& k, float* s, float* other, const uint8_t* member, int32_t n, float gate_slc,
             float gate_win) {
  float top[2] = {-INFINITY, -INFINITY};
  for (int32_t i = 0; i < n; i++) {
    other[i] = member[i] & 2 ? s[i] : -INFINITY;
    s[i] = member[i] & 1 ? s[i] : -INFINITY;
    top[0] = std::max(top[0], s[i]);
    top[1] = std::max(top[1], other[i]);
  }
  const float slc = gate_slc / k.exp_sum(s, n, top[0]), win = gate_win / k.exp_sum(other, n, top[1]);
  for (int32_t i = 0; i < n; i++) s[i] = s[i] * slc + other[i] * win;
}

/* Selection and window branches, added to out. chosen: (n, ld_chosen) flags of the tile's queries. */
void attend_tokens(const Kernels& k, const Tile& t, const uint8_t* chosen, int32_t ld_chosen,
                   float* scratch) {
  const HostKv& kv = host_kv(*t.a->kv);
  const int32_t latent = kv.params.latent_dim, width = kv.pooled_dim, window = t.a->nsa.window;
  float *absorbed = scratch, *sums = absorbed + kQueries * width, *s = sums + kQueries * latent;
  absorb(k, t, absorbed);
  const int32_t last = t.position(t.n - 1) / EK_KV_BLOCK;
  const int32_t first_window = std::max(0, t.position(0) - window + 1) / EK_KV_BLOCK;
  const size_t lds = static_cast<size_t>(last + 1) * EK_KV_BLOCK;
  uint8_t* member = reinterpret_cast<uint8_t*>(s + (kQueries + 1) * lds);
  int32_t n_used = 0;
  int32_t* used = reinterpret_cast<int32_t*>(member + lds);
  for (int32_t b = 0; b <= last; b++) {
    bool needed = b >= first_window;
    for (int32_t i = 0; i < t.n; i++) needed = needed || chosen[i * ld_chosen + b] != 0;
    if (!needed) continue;
    k.gemm(t.n, EK_KV_BLOCK, width, absorbed, width,
           &t.rows->keys[static_cast<size_t>(b) * width * EK_KV_BLOCK], EK_KV_BLOCK, s + n_used * EK_KV_BLOCK,
           lds, false);
    used[n_used++] = b;
  }
  for (int32_t i = 0; i < t.n; i++) {
    const int32_t p = t.position(i);
    for (int32_t u = 0; u < n_used; u++) {
      for (int32_t j = 0; j < EK_KV_BLOCK; j++) {
        const int32_t key = used[u] * EK_KV_BLOCK + j;
        const int selected = chosen[i * ld_chosen + used[u]], in_window = key > p - window ? 2 : 0;
        member[u * EK_KV_BLOCK + j] = static_cast<uint8_t>(key <= p ? selected | in_window : 0);
      }
    }
    combine(k, s + i * lds, s + kQueries * lds, member, n_used * EK_KV_BLOCK, t.gate(i, 1), t.gate(i, 2));
  }
  for (int32_t u = 0; u < n_used; u++) {
    k.gemm(t.n, latent, EK_KV_BLOCK, s + u * EK_KV_BLOCK, lds,
           &t.rows->values[static_cast<size_t>(used[u]) * EK_KV_BLOCK * latent], latent, sums, latent, u > 0);
  }
  project(k, t, sums, true);
}

Projections unpack_projections(const Kernels& k, const AttentionArgs& a) {
  const ek_nsa_params& nsa = a.nsa;
  const CpuWeight& w = cpu_weight(*a.kv_b);
  const int32_t latent = w.shape.n_cols, per_head = nsa.nope_dim + nsa.v_dim;
  Projections out;
  out.uk.resize(static_cast<size_t>(nsa.n_heads) * nsa.nope_dim * latent);
  out.uv.resize(static_cast<size_t>(nsa.n_heads) * nsa.v_dim * latent);
  std::vector<float> panel(static_cast<size_t>(latent) * kLanes);
  for (int32_t r = 0; r < w.shape.n_rows; r++) {
    if (r % kLanes == 0) k.unpack(w.shape.type, w.group(0, r / kLanes), latent, panel.data());
    const size_t head = r / per_head, at = r % per_head;
    for (int32_t c = 0; c < latent; c++) {
      const float value = panel[static_cast<size_t>(c) * kLanes + r % kLanes];
      if (at < static_cast<size_t>(nsa.nope_dim)) {
        out.uk[(head * nsa.nope_dim + at) * latent + c] = value;
      } else {
        out.uv[(head * latent + c) * nsa.v_dim + at - nsa.nope_dim] = value;
      }
    }
  }
  return out;
}

/* Widens the blocks of a sequence; `run` shares a loop over threads. */
SequenceRows widen_rows(const Kernels& k, const AttentionArgs& a, const Sequence& seq, ThreadPool& pool) {
  const HostKv& kv = host_kv(*a.kv);
  const int32_t latent = kv.params.latent_dim, width = kv.pooled_dim, end = seq.start + seq.n_new;
  SequenceRows r;
  r.n_blocks = (end + EK_KV_BLOCK - 1) / EK_KV_BLOCK;
  r.n_pooled = kv.n_visible(end - 1);
  r.ld_pooled = std::max(kLanes, round_up(r.n_pooled, kLanes));
  r.keys.resize(static_cast<size_t>(r.n_blocks) * width * EK_KV_BLOCK);
  r.values.resize(static_cast<size_t>(r.n_blocks) * latent * EK_KV_BLOCK);
  r.pooled_keys.assign(static_cast<size_t>(width) * r.ld_pooled, 0.0f);
  r.pooled_values.assign(static_cast<size_t>(latent) * r.ld_pooled, 0.0f);
  pool.run(r.n_blocks, [&](int b, int) {
    float* keys = &r.keys[static_cast<size_t>(b) * width * EK_KV_BLOCK];
    float* values = &r.values[static_cast<size_t>(b) * latent * EK_KV_BLOCK];
    widen(k, kv, kv.rows(a.layer, seq.blocks[b]), keys, static_cast<size_t>(width) * EK_KV_BLOCK);
    /* Slots behind the last token hold anything, even NaN, and a weight of 0 would not silence it. */
    const int32_t filled = std::min(EK_KV_BLOCK, end - b * EK_KV_BLOCK);
    for (int32_t c = 0; c < width; c++)
      std::fill(keys + c * EK_KV_BLOCK + filled, keys + (c + 1) * EK_KV_BLOCK, 0.0f);
    for (int32_t j = 0; j < EK_KV_BLOCK; j++) {
      for (int32_t c = 0; c < latent; c++) values[j * latent + c] = keys[c * EK_KV_BLOCK + j];
    }
  });
  for (int32_t i = 0; i < r.n_pooled; i++) {
    const PooledSlot at = kv.pooled_slot(i);
    const void* from = kv.pooled_k(a.layer, seq.blocks[at.seq_block]);
    for (int32_t c = 0; c < width; c++) {
      r.pooled_keys[static_cast<size_t>(c) * r.ld_pooled + i] =
          kv.load(from, static_cast<size_t>(c) * kv.n_pooled + at.slot);
    }
    from = kv.pooled_v(a.layer, seq.blocks[at.seq_block]);
    for (int32_t c = 0; c < latent; c++) {
      r.pooled_values[static_cast<size_t>(i) * latent + c] =
          kv.load(from, static_cast<size_t>(at.slot) * latent + c);
    }
  }
  return r;
}

}  // namespace

void CpuBackend::nsa_attention(const AttentionArgs& a) {
  const HostKv& kv = host_kv(*a.kv);
  const Projections projections = unpack_projections(k_, a);
  const int32_t n_heads = a.nsa.n_heads;
  for (const Sequence& seq : a.batch->sequences) {
    const SequenceRows rows = widen_rows(k_, a, seq, pool_);
    const size_t lds = static_cast<size_t>(rows.n_blocks) * EK_KV_BLOCK;
    reserve(static_cast<size_t>(kQueries) * (kv.pooled_dim + a.kv->params.latent_dim + rows.ld_pooled) +
            (kQueries + 3) * lds);
    constexpr int32_t kGroup = 4 * kQueries; /* bounds the probabilities that are kept for the selection */
    std::vector<float> p(static_cast<size_t>(kGroup) * n_heads * rows.ld_pooled), summed;
    std::vector<uint8_t> chosen(static_cast<size_t>(kGroup) * rows.n_blocks);
    const size_t head_stride = static_cast<size_t>(kQueries) * rows.ld_pooled;
    for (int32_t first = 0; first < seq.n_new; first += kGroup) {
      const int32_t n = std::min(kGroup, seq.n_new - first), n_tiles = (n + kQueries - 1) / kQueries;
      const auto tile = [&](int item) {
        const int32_t at = item / n_heads * kQueries;
        return Tile{&a, &seq, &rows, &projections, first + at, std::min(kQueries, n - at), item % n_heads};
      };
      pool_.run(n_tiles * n_heads,
                [&](int i, int thread) { attend_pooled(k_, tile(i), scratch(thread), &p[i * head_stride]); });
      std::fill(chosen.begin(), chosen.end(), 0);
      for (int32_t i = 0; i < n; i++) {
        const float* from =
            &p[i / kQueries * n_heads * head_stride + static_cast<size_t>(i % kQueries) * rows.ld_pooled];
        select_blocks(kv, a.nsa, from, head_stride, seq.start + first + i, summed,
                      &chosen[static_cast<size_t>(i) * rows.n_blocks]);
      }
      pool_.run(n_tiles * n_heads, [&](int i, int thread) {
        const size_t at = static_cast<size_t>(i / n_heads) * kQueries * rows.n_blocks;
        attend_tokens(k_, tile(i), &chosen[at], rows.n_blocks, scratch(thread));
      });
    }
  }
}

}  // namespace ek::cpu
