/* Selection and window of few new tokens: scores and sums are taken on latent rows as they lie in the cache.
 */
#include "attention.h"

namespace ek::cpu {

namespace {

/* The blocks that one token reads, in order. pages: room for all up to its own. */
struct UsedBlocks {
  Pages pages;
  QueryKeys keys;
};

UsedBlocks used_blocks(const AttentionStep& s, const StepToken& t, const uint8_t* chosen,
                       AttentionScratch& scratch) {
  const int32_t own = t.position / EK_KV_BLOCK, from = std::max(0, t.position - s.a.nsa.window + 1);
  int32_t n = 0, first_in_window = 0;
  for (int32_t b = 0; b <= own; b++) {
    if (chosen[b] == 0 && b < from / EK_KV_BLOCK) continue;
    if (b == from / EK_KV_BLOCK) first_in_window = n * EK_KV_BLOCK + from % EK_KV_BLOCK;
    scratch.pages.data()[n] = s.kv.rows(s.a.layer, t.seq->blocks[b]);
    scratch.flags.data()[n++] = chosen[b];
  }
  const int32_t n_keys = (n - 1) * EK_KV_BLOCK + t.position % EK_KV_BLOCK + 1;
  return {{scratch.pages.data(), n, s.kv.element == 2}, {scratch.flags.data(), n_keys, first_in_window}};
}

/* `n` heads of the token at `index` of the group. scratch: (n, n_blocks * 64) + (n, latent) floats. */
void attend_token(const AttentionStep& s, const TokenGroup& g, int32_t index, int32_t head, int32_t n,
                  AttentionScratch& scratch) {
  const StepToken& t = g.tokens[index];
  const int32_t latent = s.latent(), v = s.a.nsa.v_dim;
  const uint8_t* chosen = s.m.selected.data() + static_cast<size_t>(index) * g.n_blocks;
  const UsedBlocks used = used_blocks(s, t, chosen, scratch);
  const size_t at = static_cast<size_t>(index) * s.heads() + head, lds = used.pages.n * size_t{EK_KV_BLOCK};
  float *scores = scratch.floats.data(), *sums = scores + n * lds;
  s.k.score_rows(used.pages, s.kv.pooled_dim, n, s.m.absorbed.data() + at * s.kv.pooled_dim, scores, lds);
  for (int32_t h = 0; h < n; h++) {
    s.k.weigh_query(used.keys, s.gate(t.row, head + h, 1), s.gate(t.row, head + h, 2), scores + h * lds);
  }
  s.k.sum_rows(used.pages, latent, used.keys.n_keys, n, scores, lds, sums);
  const float* pooled = s.m.sums.data() + at * latent;
  for (int32_t i = 0; i < n * latent; i++) sums[i] += pooled[i];
  for (int32_t h = 0; h < n; h++) {
    const float* uv = s.w.uv.data() + static_cast<size_t>(head + h) * latent * v;
    s.k.gemm(1, v, latent, sums + h * latent, latent, 1, uv, v, s.out(t.row, head + h), v, false);
  }
}

}  // namespace

void attend_absorbed(const AttentionStep& s, const TokenGroup& g) {
  const int32_t per = s.heads_per_item(g.n), parts = (s.heads() + per - 1) / per;
  const size_t keys = static_cast<size_t>(g.n_blocks) * EK_KV_BLOCK;
  s.m.reserve_scratch(s.pool.n_threads(), per * (keys + s.latent()), g.n_blocks);
  s.pool.run(g.n * parts, [&](int item, int thread) {
    const int32_t head = item % parts * per, n = std::min(per, s.heads() - head);
    attend_token(s, g, item / parts, head, n, s.m.scratch[thread]);
  });
}

}  // namespace ek::cpu
