/* Selection and window: two softmaxes over one row of scores. Included after attention.inl.
 * One exponential serves both unless their maxima lie so far apart that one of them would vanish. */

constexpr float kFarApart = 40; /* e^-40 leaves e^-47 of the float range for the terms of the smaller one */

/* Whether a and b differ by more in any of the first n lanes. A lane whose difference is not finite comes out
 * as NaN either way, and must not change how its neighbours are computed. */
inline bool far_apart(const float* a, const float* b, int32_t n) {
  bool apart = false;
  for (int32_t i = 0; i < n; i++) {
    const float gap = std::fabs(a[i] - b[i]);
    apart = apart || (gap > kFarApart && gap < INFINITY);
  }
  return apart;
}

/* Which lanes of one vector of a query's keys belong to each branch. */
struct KeyMasks {
  Int selected, window;
};

inline KeyMasks key_masks(const QueryKeys& keys, int32_t first) {
  const Int index = lanes() + first, known = index < keys.n_keys;
  const Int selected = keys.selected[first / EK_KV_BLOCK] != 0 ? known : Int{};
  return {selected, known & (index >= keys.first_in_window)};
}

/* Weights when no exponential is shared. top, gate: [0] selection, [1] window. */
void weigh_apart(const QueryKeys& keys, const float* top, const float* gate, float* s) {
  const auto masked = [&](int32_t i, Int mask, int branch) {
    return select(mask, exp_neg(read(s + i) - splat(top[branch])), Vec{});
  };
  Vec slc = {}, win = {};
  for (int32_t i = 0; i < keys.n_keys; i += kWidth) {
    const KeyMasks m = key_masks(keys, i);
    slc += masked(i, m.selected, 0);
    win += masked(i, m.window, 1);
  }
  const Vec f = splat(gate[0] / total(slc)), g = splat(gate[1] / total(win));
  for (int32_t i = 0; i < keys.n_keys; i += kWidth) {
    const KeyMasks m = key_masks(keys, i);
    write(s + i, masked(i, m.selected, 0) * f + masked(i, m.window, 1) * g);
  }
}

void weigh_query(const QueryKeys& keys, float gate_slc, float gate_win, float* s) {
  Vec slc = splat(-INFINITY), win = slc;
  for (int32_t i = 0; i < keys.n_keys; i += kWidth) {
    const KeyMasks m = key_masks(keys, i);
    const Vec x = read(s + i);
    slc = larger(select(m.selected, x, slc), slc);
    win = larger(select(m.window, x, win), win);
  }
  const float top[2] = {largest(slc), largest(win)}, gate[2] = {gate_slc, gate_win};
  if (far_apart(top, top + 1, 1)) {
    weigh_apart(keys, top, gate, s);
    return;
  }
  const Vec shift = splat(top[0] > top[1] ? top[0] : top[1]);
  slc = win = Vec{};
  for (int32_t i = 0; i < keys.n_keys; i += kWidth) {
    const KeyMasks m = key_masks(keys, i);
    const Vec e = exp_neg(read(s + i) - shift);
    write(s + i, e);
    slc += select(m.selected, e, Vec{});
    win += select(m.window, e, Vec{});
  }
  const Vec f = splat(gate_slc / total(slc)), g = splat(gate_win / total(win));
  for (int32_t i = 0; i < keys.n_keys; i += kWidth) {
    const KeyMasks m = key_masks(keys, i);
    const Vec e = read(s + i);
    write(s + i, select(m.selected, e * f, Vec{}) + select(m.window, e * g, Vec{}));
  }
}

/* The queries of a tile, one per lane, in two vectors. */
constexpr int kHalves = kTileQueries / kWidth;

struct BlockMasks {
  Int selected[kHalves], position[kHalves];
  bool uniform;   /* every key of the block is in the same branches, for each query */
  bool in_window; /* of a uniform block */
};

inline BlockMasks block_masks(const TileBlock& block, const TileState& t) {
  BlockMasks m;
  const int32_t last_key = block.first_key + EK_KV_BLOCK - 1, last = t.first_position + kTileQueries - 1;
  m.in_window = block.first_key > last - t.window;
  m.uniform = last_key <= t.first_position && (m.in_window || last_key <= t.first_position - t.window);
  for (int h = 0; h < kHalves; h++) {
    const Int lane = lanes() + h * kWidth;
    m.selected[h] = ((splat_int(static_cast<int32_t>(block.selected)) >> lane) & 1) != 0;
    m.position[h] = lane + t.first_position;
  }
  return m;
}

inline KeyMasks masks_of(const BlockMasks& m, int h, int32_t key, int32_t window) {
  const Int known = m.position[h] >= key;
  return {known & m.selected[h], known & (m.position[h] < key + window)};
}

void tile_top(const TileBlock& block, const float* s, TileState& t) {
  const BlockMasks m = block_masks(block, t);
  for (int h = 0; h < kHalves; h++, s += kWidth) {
    Vec slc = read(t.top[0] + h * kWidth), win = read(t.top[1] + h * kWidth);
    if (m.uniform) {
      Vec top = read(s);
      for (int32_t j = 1; j < EK_KV_BLOCK; j++) top = larger(read(s + j * kTileQueries), top);
      slc = larger(select(m.selected[h], top, slc), slc);
      if (m.in_window) win = larger(top, win);
    } else {
      for (int32_t j = 0; j < EK_KV_BLOCK; j++) {
        const KeyMasks k = masks_of(m, h, block.first_key + j, t.window);
        const Vec x = read(s + j * kTileQueries);
        slc = larger(select(k.selected, x, slc), slc);
        win = larger(select(k.window, x, win), win);
      }
    }
    write(t.top[0] + h * kWidth, slc);
    write(t.top[1] + h * kWidth, win);
  }
}

void tile_exp(const TileBlock& block, float* s, TileState& t) {
  const BlockMasks m = block_masks(block, t);
  for (int h = 0; h < kHalves; h++, s += kWidth) {
    const Vec top_slc = read(t.top[0] + h * kWidth), top_win = read(t.top[1] + h * kWidth);
    const Vec shift = larger(top_slc, top_win);
    Vec slc = {}, win = {};
    if (m.uniform && !t.apart) {
      for (int32_t j = 0; j < EK_KV_BLOCK; j++) {
        const Vec e = exp_neg(read(s + j * kTileQueries) - shift);
        write(s + j * kTileQueries, e);
        slc += e;
      }
      win = m.in_window ? slc : Vec{};
      slc = select(m.selected[h], slc, Vec{});
    } else {
      for (int32_t j = 0; j < EK_KV_BLOCK; j++) {
        const KeyMasks k = masks_of(m, h, block.first_key + j, t.window);
        const Vec x = read(s + j * kTileQueries), e = exp_neg(x - (t.apart ? top_slc : shift));
        slc += select(k.selected, e, Vec{});
        win += select(k.window, t.apart ? exp_neg(x - top_win) : e, Vec{});
        if (!t.apart) write(s + j * kTileQueries, e);
      }
    }
    write(t.sum[0] + h * kWidth, read(t.sum[0] + h * kWidth) + slc);
    write(t.sum[1] + h * kWidth, read(t.sum[1] + h * kWidth) + win);
  }
}

void tile_weigh(const TileBlock& block, float* s, const TileState& t) {
  const BlockMasks m = block_masks(block, t);
  for (int h = 0; h < kHalves; h++, s += kWidth) {
    const Vec f = read(t.factor[0] + h * kWidth), g = read(t.factor[1] + h * kWidth);
    const Vec top_slc = read(t.top[0] + h * kWidth), top_win = read(t.top[1] + h * kWidth);
    if (m.uniform && !t.apart) {
      const Vec both = select(m.selected[h], f, Vec{}) + (m.in_window ? g : Vec{});
      const Int needed = m.in_window ? ~Int{} : m.selected[h];
      for (int32_t j = 0; j < EK_KV_BLOCK; j++) {
        write(s + j * kTileQueries, select(needed, read(s + j * kTileQueries) * both, Vec{}));
      }
      continue;
    }
    for (int32_t j = 0; j < EK_KV_BLOCK; j++) {
      const KeyMasks k = masks_of(m, h, block.first_key + j, t.window);
      const Vec x = read(s + j * kTileQueries);
      const Vec slc = t.apart ? exp_neg(x - top_slc) : x, win = t.apart ? exp_neg(x - top_win) : x;
      write(s + j * kTileQueries, select(k.selected, slc * f, Vec{}) + select(k.window, win * g, Vec{}));
    }
  }
}

void tile_ready(TileState& t) { t.apart = far_apart(t.top[0], t.top[1], t.n); }
