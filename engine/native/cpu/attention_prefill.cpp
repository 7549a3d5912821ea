/* Many new tokens of one sequence: keys and values of a head are expanded once and met by tiles of queries.
 * A slab holds the blocks that consecutive tiles need, of one head at a time, so memory stays bounded. */
#include "attention.h"

namespace ek::cpu {

namespace {

/* A block costs a tile about this much less per query than an absorbed query, expansion and softmax included
 * (bench_attention at 1000 cached tokens, where all queries of a tile use the same blocks). */
constexpr double kTileGain = 1.4;
constexpr int32_t kSlabBlocks = 320; /* a slab stays near 10 MB for 64-wide heads */

struct PrefillStep {
  const AttentionStep& s;
  const Sequence& seq;
  int32_t n_blocks, n_tiles;

  size_t block_floats() const { return static_cast<size_t>(s.qk() + s.a.nsa.v_dim) * EK_KV_BLOCK; }
  const uint32_t* masks(int32_t tile) const {
    return s.m.masks.data() + static_cast<size_t>(tile) * n_blocks;
  }
  int32_t first(int32_t tile) const { return seq.start + tile * kTileQueries; }
  int32_t n_queries(int32_t tile) const { return std::min(kTileQueries, seq.n_new - tile * kTileQueries); }
  /* Whether any query of the tile reads the block. */
  bool needs(int32_t tile, int32_t block) const {
    if (s.m.absorbed_tiles[tile] != 0) return false;
    if (block > (first(tile) + n_queries(tile) - 1) / EK_KV_BLOCK) return false;
    return masks(tile)[block] != 0 || block >= std::max(0, first(tile) - s.a.nsa.window + 1) / EK_KV_BLOCK;
  }
};

/* Sets the masks of the group's tiles. */
void fill_masks(const PrefillStep& p, const TokenGroup& g, int32_t first_tile) {
  for (int32_t i = 0; i < g.n; i++) {
    uint32_t* masks = p.s.m.masks.data() + static_cast<size_t>(first_tile + i / kTileQueries) * p.n_blocks;
    const uint8_t* chosen = p.s.m.selected.data() + static_cast<size_t>(i) * g.n_blocks;
    if (i % kTileQueries == 0) std::fill(masks, masks + p.n_blocks, 0u);
    for (int32_t b = 0; b <= g.tokens[i].position / EK_KV_BLOCK; b++)
      masks[b] |= static_cast<uint32_t>(chosen[b]) << (i % kTileQueries);
  }
}

/* Whether the queries of the group's tiles choose so different blocks that a tile would compute mostly zeros.
 */
bool is_scattered(const PrefillStep& p, const TokenGroup& g, int32_t first_tile) {
  int64_t read_by_tiles = 0, used = 0;
  for (int32_t i = 0; i < g.n; i++) {
    const int32_t tile = first_tile + i / kTileQueries, own = g.tokens[i].position / EK_KV_BLOCK;
    const int32_t window = std::max(0, g.tokens[i].position - p.s.a.nsa.window + 1) / EK_KV_BLOCK;
    const uint8_t* chosen = p.s.m.selected.data() + static_cast<size_t>(i) * g.n_blocks;
    for (int32_t b = 0; b < p.n_blocks; b++) {
      read_by_tiles += p.needs(tile, b) ? 1 : 0;
      used += b <= own && (b >= window || chosen[b] != 0) ? 1 : 0;
    }
  }
  return static_cast<double>(read_by_tiles) > kTileGain * static_cast<double>(used);
}

/* The compressed branch of the group into out. */
void project_pooled(const AttentionStep& s, const TokenGroup& g) {
  const int32_t latent = s.latent(), v = s.a.nsa.v_dim, heads = s.heads();
  const int32_t n_tiles = (g.n + kTileQueries - 1) / kTileQueries;
  s.pool.run(n_tiles * heads, [&](int item, int) {
    const int32_t i = item / heads * kTileQueries, h = item % heads, n = std::min(kTileQueries, g.n - i);
    s.k.gemm(n, v, latent, s.m.sums.data() + (static_cast<size_t>(i) * heads + h) * latent,
             static_cast<size_t>(heads) * latent, 1, s.w.uv.data() + static_cast<size_t>(h) * latent * v, v,
             s.out(g.tokens[i].row, h), static_cast<size_t>(heads) * v, false);
  });
}

/* The pooled branch of a group; and all of it when its queries are scattered. */
void start_group(const PrefillStep& p, const TokenGroup& g, int32_t first_tile) {
  attend_pooled(p.s, g);
  fill_masks(p, g, first_tile);
  if (!is_scattered(p, g, first_tile)) {
    project_pooled(p.s, g);
    return;
  }
  attend_absorbed(p.s, g);
  const int32_t n_tiles = (g.n + kTileQueries - 1) / kTileQueries;
  std::fill_n(p.s.m.absorbed_tiles.begin() + first_tile, n_tiles, uint8_t{1});
}

/* Keys (nope + rope, 64) and values (64, v) of one block and head. */
void expand_block(const PrefillStep& p, int32_t block, int32_t head, float* to, float* rows) {
  const AttentionStep& s = p.s;
  const int32_t latent = s.latent(), nope = s.a.nsa.nope_dim, v = s.a.nsa.v_dim;
  const size_t width = s.kv.pooled_dim;
  s.k.widen(s.kv.rows(s.a.layer, p.seq.blocks[block]), s.kv.element == 2, rows, width * EK_KV_BLOCK);
  /* Slots behind the last token hold anything, even NaN, and a weight of 0 would not silence it. */
  const int32_t filled = p.seq.start + p.seq.n_new - block * EK_KV_BLOCK;
  for (size_t c = 0; filled < EK_KV_BLOCK && c < width; c++)
    std::fill(rows + c * EK_KV_BLOCK + filled, rows + (c + 1) * EK_KV_BLOCK, 0.0f);
  s.k.gemm(nope, EK_KV_BLOCK, latent, s.w.uk.data() + static_cast<size_t>(head) * nope * latent, latent, 1,
           rows, EK_KV_BLOCK, to, EK_KV_BLOCK, false);
  std::copy(rows + latent * EK_KV_BLOCK, rows + width * EK_KV_BLOCK, to + nope * EK_KV_BLOCK);
  s.k.gemm(EK_KV_BLOCK, v, latent, rows, 1, EK_KV_BLOCK,
           s.w.uv.data() + static_cast<size_t>(head) * latent * v, v, to + s.qk() * EK_KV_BLOCK, v, false);
}

/* to (nope + rope, kTileQueries): the scaled queries of a tile, zeros behind the last. */
void gather_queries(const PrefillStep& p, int32_t tile, int32_t head, float* to, float* turned) {
  const AttentionStep& s = p.s;
  const int32_t nope = s.a.nsa.nope_dim, qk = s.qk();
  std::fill(to, to + qk * kTileQueries, 0.0f);
  for (int32_t i = 0; i < p.n_queries(tile); i++) {
    const size_t row = static_cast<size_t>(p.seq.first_row) + tile * kTileQueries + i;
    const float* q = s.query(row, head);
    s.rotate(row, head, turned);
    for (int32_t c = 0; c < nope; c++) to[c * kTileQueries + i] = q[c] * s.a.nsa.softmax_scale;
    for (int32_t c = nope; c < qk; c++) to[c * kTileQueries + i] = turned[c - nope];
  }
}

TileState start_tile(const PrefillStep& p, int32_t tile) {
  TileState t{};
  t.n = p.n_queries(tile);
  t.first_position = p.first(tile);
  t.window = p.s.a.nsa.window;
  std::fill(t.top[0], t.top[0] + 2 * kTileQueries, -INFINITY);
  return t;
}

/* Selection and window of one tile and head, added to out. */
void attend_tile(const PrefillStep& p, int32_t tile, int32_t head, AttentionScratch& scratch) {
  const AttentionStep& s = p.s;
  if (s.m.absorbed_tiles[tile] != 0) return;
  const int32_t qk = s.qk(), v = s.a.nsa.v_dim;
  constexpr int32_t kScores = EK_KV_BLOCK * kTileQueries;
  float *queries = scratch.floats.data(), *sums = queries + qk * kTileQueries;
  float* scores = sums + std::max(v, s.rope()) * kTileQueries;
  int32_t n = 0, *used = scratch.indices.data();
  for (int32_t b = 0; b < p.n_blocks; b++) {
    if (p.needs(tile, b)) used[n++] = b;
  }
  const auto block = [&](int32_t u) { return TileBlock{used[u] * EK_KV_BLOCK, p.masks(tile)[used[u]]}; };
  const auto expanded = [&](int32_t u) {
    return s.m.slab.data() + s.m.slab_at.data()[used[u]] * p.block_floats();
  };
  gather_queries(p, tile, head, queries, sums);
  TileState t = start_tile(p, tile);
  for (int32_t u = 0; u < n; u++) {
    s.k.gemm(EK_KV_BLOCK, kTileQueries, qk, expanded(u), 1, EK_KV_BLOCK, queries, kTileQueries,
             scores + u * kScores, kTileQueries, false);
    s.k.tile_top(block(u), scores + u * kScores, t);
  }
  s.k.tile_ready(t);
  for (int32_t u = 0; u < n; u++) s.k.tile_exp(block(u), scores + u * kScores, t);
  const size_t row = static_cast<size_t>(p.seq.first_row) + tile * kTileQueries;
  for (int32_t i = 0; i < t.n; i++) {
    for (int branch = 0; branch < 2; branch++)
      t.factor[branch][i] = s.gate(row + i, head, branch + 1) / t.sum[branch][i];
  }
  for (int32_t u = 0; u < n; u++) {
    s.k.tile_weigh(block(u), scores + u * kScores, t);
    s.k.gemm(t.n, v, EK_KV_BLOCK, scores + u * kScores, 1, kTileQueries, expanded(u) + qk * EK_KV_BLOCK, v,
             sums, v, u > 0);
  }
  for (int32_t i = 0; i < t.n; i++) {
    float* out = s.out(row + i, head);
    for (int32_t c = 0; c < v; c++) out[c] += sums[i * v + c];
  }
}

/* Lists the blocks that tiles from `tile` on need, for as many tiles as the slab has room; returns the tile
 * behind them. needed: the list; slab_at: where each lies. */
int32_t fill_slab(const PrefillStep& p, int32_t tile, std::vector<int32_t>& needed) {
  int32_t* at = p.s.m.slab_at.reserve(p.n_blocks);
  std::fill(at, at + p.n_blocks, -1);
  needed.clear();
  int32_t end = tile;
  for (; end < p.n_tiles; end++) {
    const size_t before = needed.size();
    for (int32_t b = 0; b < p.n_blocks; b++) {
      if (at[b] >= 0 || !p.needs(end, b)) continue;
      at[b] = static_cast<int32_t>(needed.size());
      needed.push_back(b);
    }
    if (end == tile || needed.size() <= kSlabBlocks) continue;
    needed.resize(before);
    break;
  }
  p.s.m.slab.reserve(needed.size() * p.block_floats());
  return end;
}

}  // namespace

void attend_sequence(const AttentionStep& s, const Sequence& seq) {
  const int32_t n_blocks = (seq.start + seq.n_new + EK_KV_BLOCK - 1) / EK_KV_BLOCK;
  const PrefillStep p{s, seq, n_blocks, (seq.n_new + kTileQueries - 1) / kTileQueries};
  s.m.masks.reserve(static_cast<size_t>(p.n_tiles) * n_blocks);
  s.m.absorbed_tiles.assign(p.n_tiles, 0);
  std::vector<StepToken>& tokens = s.m.many;
  tokens.clear();
  for (int32_t i = 0; i < seq.n_new; i++)
    tokens.push_back({&seq, seq.start + i, static_cast<size_t>(seq.first_row + i)});
  for_groups(s, tokens, [&](const TokenGroup& group) {
    start_group(p, group, static_cast<int32_t>(group.tokens - tokens.data()) / kTileQueries);
  });
  const size_t rows = static_cast<size_t>(s.kv.pooled_dim) * EK_KV_BLOCK;
  const size_t per_query = s.qk() + std::max(s.a.nsa.v_dim, s.rope()) + size_t{EK_KV_BLOCK} * n_blocks;
  s.m.reserve_scratch(s.pool.n_threads(), std::max(rows, per_query * kTileQueries), n_blocks);
  for (int32_t tile = 0; tile < p.n_tiles;) {
    const int32_t end = fill_slab(p, tile, s.m.needed);
    for (int32_t head = 0; head < s.heads(); head++) {
      s.pool.run(static_cast<int>(s.m.needed.size()), [&](int i, int thread) {
        expand_block(p, s.m.needed[i], head, s.m.slab.data() + i * p.block_floats(),
                     s.m.scratch[thread].floats.data());
      });
      /* The last tiles read most, so they go first. */
      s.pool.run(end - tile,
                 [&](int i, int thread) { attend_tile(p, end - 1 - i, head, s.m.scratch[thread]); });
    }
    tile = end;
  }
}

}  // namespace ek::cpu
