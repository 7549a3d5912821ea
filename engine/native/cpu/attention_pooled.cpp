/* The compressed branch, and the choice of blocks from its probabilities. Both forms of the token branches
 * use it, so a token selects the same blocks however its prompt is cut. */
#include <cmath>

#include "attention.h"

namespace ek::cpu {

namespace {

/* Pooled row i lies in slot i + overlap - 1 when slots are counted through all blocks (see HostKv). */
int32_t first_slot(const HostKv& kv) { return kv.params.cmp_len / kv.params.cmp_stride - 1; }

/* Queries of consecutive rows and one head against latent rows, scaled: (n, latent + rope), `heads` rows
 * apart. */
void absorb(const AttentionStep& s, size_t row, int32_t n, int32_t head, float* to) {
  const int32_t latent = s.latent(), width = s.kv.pooled_dim, nope = s.a.nsa.nope_dim;
  const size_t next = static_cast<size_t>(s.heads()) * width;
  s.k.gemm(n, latent, nope, s.query(row, head), static_cast<size_t>(s.heads()) * s.qk(), 1,
           s.w.uk.data() + static_cast<size_t>(head) * nope * latent, latent, to, next, false);
  for (int32_t i = 0; i < n; i++, to += next) {
    for (int32_t c = 0; c < latent; c++) to[c] *= s.a.nsa.softmax_scale;
    s.rotate(row + i, head, to + latent);
  }
}

/* Probabilities and gated sum of `n` heads of one token, which stands at `index` of its group. */
void attend_token(const AttentionStep& s, const TokenGroup& g, int32_t index, int32_t head, int32_t n,
                  AttentionScratch& scratch) {
  const StepToken& t = g.tokens[index];
  const int32_t n_vis = s.kv.n_visible(t.position), latent = s.latent(), slots = s.kv.n_pooled;
  const size_t at = static_cast<size_t>(index) * s.heads() + head;
  float *p = s.m.p.data() + at * g.ld_pooled, *sums = s.m.sums.data() + at * latent;
  if (n_vis == 0) {
    std::fill(sums, sums + n * latent, 0.0f);
    return;
  }
  const int32_t first = first_slot(s.kv), end = first + n_vis, padded = round_up(end, kLanes);
  Pages pages{scratch.pages.data(), (end + slots - 1) / slots, s.kv.element == 2};
  for (int32_t b = 0; b < pages.n; b++) scratch.pages.data()[b] = s.kv.pooled_k(s.a.layer, t.seq->blocks[b]);
  s.k.score_pooled(pages, s.kv.pooled_dim, slots, n, s.m.absorbed.data() + at * s.kv.pooled_dim,
                   scratch.floats.data(), p, g.ld_pooled);
  for (int32_t h = 0; h < n; h++) {
    float* row = p + static_cast<size_t>(h) * g.ld_pooled;
    std::fill(row, row + first, -INFINITY);
    std::fill(row + end, row + padded, -INFINITY);
    s.k.softmax(row, padded);
  }
  for (int32_t b = 0; b < pages.n; b++) scratch.pages.data()[b] = s.kv.pooled_v(s.a.layer, t.seq->blocks[b]);
  s.k.sum_pooled(pages, latent, slots, first, end, n, p, g.ld_pooled, sums);
  for (int32_t h = 0; h < n; h++) {
    const float gate = s.gate(t.row, head + h, 0);
    for (int32_t c = 0; c < latent; c++) sums[h * latent + c] *= gate;
  }
}

/* Scores of the blocks up to `own` from the probabilities of all heads. score (own + 1); summed (ld_pooled).
 */
void score_blocks(const AttentionStep& s, const float* p, size_t ld, int32_t t, float* score, float* summed) {
  const int32_t own = t / EK_KV_BLOCK, per = s.kv.n_pooled, overlap = first_slot(s.kv) + 1;
  const int32_t first = overlap - 1, end = first + s.kv.n_visible(t);
  std::copy(p, p + end, summed);
  for (int32_t h = 1; h < s.heads(); h++) {
    for (int32_t i = first; i < end; i++) summed[i] += p[h * ld + i];
  }
  for (int32_t j = 0; j <= own; j++) {
    float sum = 0;
    for (int32_t m = 0; m < per; m++) {
      for (int32_t n = 0; n < overlap; n++) {
        const int32_t slot = per * j + m - n + first;
        if (slot >= first && slot < end) sum += summed[slot];
      }
    }
    const bool forced = j < s.a.nsa.init_blocks || j > own - s.a.nsa.local_blocks;
    score[j] = forced ? INFINITY : std::isnan(sum) ? -INFINITY : sum;
  }
}

/* Sets the flags of the blocks that a token selects: chosen (own + 1). */
void select_blocks(const AttentionStep& s, const TokenGroup& g, int32_t index, AttentionScratch& scratch) {
  const int32_t t = g.tokens[index].position, own = t / EK_KV_BLOCK, n = s.a.nsa.select_n;
  uint8_t* chosen = s.m.selected.data() + static_cast<size_t>(index) * g.n_blocks;
  std::fill(chosen, chosen + own + 1, own + 1 <= n);
  if (own + 1 <= n) return;
  float *score = scratch.floats.data(), *summed = score + g.n_blocks;
  const float* p = s.m.p.data() + static_cast<size_t>(index) * s.heads() * g.ld_pooled;
  score_blocks(s, p, g.ld_pooled, t, score, summed);
  int32_t* order = scratch.indices.data();
  for (int32_t j = 0; j <= own; j++) order[j] = j;
  std::nth_element(order, order + n, order + own + 1,
                   [&](int32_t x, int32_t y) { return score[x] != score[y] ? score[x] > score[y] : x < y; });
  for (int32_t i = 0; i < n; i++) chosen[order[i]] = 1;
}

}  // namespace

void attend_pooled(const AttentionStep& s, const TokenGroup& g) {
  const size_t width = s.kv.pooled_dim, rows = static_cast<size_t>(g.n) * s.heads();
  s.m.absorbed.reserve(rows * width);
  s.m.sums.reserve(rows * s.latent());
  s.m.p.reserve(rows * g.ld_pooled);
  s.m.selected.reserve(static_cast<size_t>(g.n) * g.n_blocks);
  s.m.reserve_scratch(s.pool.n_threads(), std::max<size_t>(4 * width * s.heads(), g.n_blocks + g.ld_pooled),
                      g.n_blocks);
  const int32_t tile = g.n >= kTileQueries ? 8 : 1, n_tiles = (g.n + tile - 1) / tile;
  const int32_t per = s.heads_per_item(n_tiles), parts = (s.heads() + per - 1) / per;
  s.pool.run(n_tiles * parts, [&](int item, int thread) {
    const int32_t first = item / parts * tile, end = std::min(first + tile, g.n);
    const int32_t head = item % parts * per, n = std::min(per, s.heads() - head);
    for (int32_t i = first, run = 1; i < end; i += run, run = 1) {
      while (i + run < end && g.tokens[i + run].row == g.tokens[i].row + run) run++;
      for (int32_t h = head; h < head + n; h++) {
        absorb(s, g.tokens[i].row, run, h,
               s.m.absorbed.data() + (static_cast<size_t>(i) * s.heads() + h) * width);
      }
    }
    for (int32_t i = first; i < end; i++) attend_token(s, g, i, head, n, s.m.scratch[thread]);
  });
  s.pool.run(n_tiles, [&](int item, int thread) {
    for (int32_t i = item * tile; i < std::min((item + 1) * tile, g.n); i++)
      select_blocks(s, g, i, s.m.scratch[thread]);
  });
}

}  // namespace ek::cpu
