/* Included by isa_*.cpp after kernels.inl. Products of a few rows with packed weights, decoded on their way
 * into the multiply-add. Every element is the sum over the columns in order, of the exact weights, as
 * gemm_panels over unpacked weights makes it, so both give the same bits. Layouts: CpuWeight. */

/* Readers of one group of 16 rows: block() before the kWords words of a block, word() before the kPerWord
 * columns of a word, then value(i) is column i of the word. */
template <bool Half>
struct ReadFloats {
  static constexpr int kWords = 1, kPerWord = 1;
  const uint8_t* at;
  Vec column;

  void open(const uint8_t* group, int32_t) { at = group; }
  void block() {}
  void word() {
    column = Half ? halves(reinterpret_cast<const f16*>(at)) : load(reinterpret_cast<const float*>(at));
    at += (Half ? 2 : 4) * kLanes;
  }
  Vec value(int) const { return column; }
};

/* Quantised blocks begin with 16 scales; these lie before all words of the group. */
struct ReadScales {
  static constexpr int kWords = 4, kPerWord = 8;
  const uint8_t *scales, *at;
  Vec d;

  void open(const uint8_t* group, int32_t n_cols) {
    scales = group;
    at = group + scales_bytes(n_cols);
  }
  void block() {
    d = halves(reinterpret_cast<const f16*>(scales));
    scales += 2 * kLanes;
  }
};

struct ReadQ8 : ReadScales {
  const uint8_t* bytes;

  void word() {
    bytes = at;
    at += kPerWord * kLanes;
  }
  Vec value(int i) const { return d * signed_bytes(bytes + i * kLanes); }
};

struct ReadQ4 : ReadScales {
  Int q;

  void word() {
    q = load_words(at);
    at += sizeof q;
  }
  Vec value(int i) const { return d * nibbles(q >> (4 * i)); }
};

/* out[r] (16 G) = x[r] (n_cols) times G groups, for R rows. */
template <class Read, int R, int G>
void few_rows(const uint8_t* groups, size_t group_bytes, int32_t n_cols, const float* const* x,
              float* const* out, size_t at) {
  Vec acc[R][G] = {};
  Read read[G];
  const float* row[R];
  for (int r = 0; r < R; r++) row[r] = x[r];
  for (int g = 0; g < G; g++) read[g].open(groups + g * group_bytes, n_cols);
  for (int32_t c = 0; c < n_cols;) {
    for (int g = 0; g < G; g++) read[g].block();
    for (int w = 0; w < Read::kWords; w++, c += Read::kPerWord) {
      for (int g = 0; g < G; g++) read[g].word();
#pragma GCC unroll 8
      for (int i = 0; i < Read::kPerWord; i++) {
        Vec value[G];
        for (int g = 0; g < G; g++) value[g] = read[g].value(i);
        for (int r = 0; r < R; r++) {
          const Vec factor = splat(row[r][c + i]);
          for (int g = 0; g < G; g++) acc[r][g] += factor * value[g];
        }
      }
    }
  }
  for (int r = 0; r < R; r++) {
    for (int g = 0; g < G; g++) store(out[r] + at + g * kLanes, acc[r][g]);
  }
}

/* All groups for R rows: several at a time, so that their sums hide each other's latency. */
template <class Read, int R>
void all_groups(const uint8_t* groups, size_t group_bytes, int32_t n_groups, int32_t n_cols,
                const float* const* x, float* const* out) {
  constexpr int kAtOnce = R <= 2 ? kFewRowGroups : R <= 4 ? kFourRowGroups : kEightRowGroups;
  int32_t g = 0;
  for (; g + kAtOnce <= n_groups; g += kAtOnce) {
    few_rows<Read, R, kAtOnce>(groups + g * group_bytes, group_bytes, n_cols, x, out, g * kLanes);
  }
  if (kAtOnce > 2 && g + 2 <= n_groups) {
    few_rows<Read, R, 2>(groups + g * group_bytes, group_bytes, n_cols, x, out, g * kLanes);
    g += 2;
  }
  for (; g < n_groups; g++) {
    few_rows<Read, R, 1>(groups + g * group_bytes, group_bytes, n_cols, x, out, g * kLanes);
  }
}

template <class Read>
void any_rows(const uint8_t* groups, size_t group_bytes, int32_t n_groups, int32_t n_cols,
              const float* const* x, float* const* out, int32_t n_rows) {
  if (n_rows == 1) return all_groups<Read, 1>(groups, group_bytes, n_groups, n_cols, x, out);
  if (n_rows == 2) return all_groups<Read, 2>(groups, group_bytes, n_groups, n_cols, x, out);
  /* The last row stands in for the missing ones: it is computed again and stored over itself. */
  const float* from[kFewRows] = {};
  float* to[kFewRows] = {};
  for (int32_t r = 0; r < kFewRows; r++) {
    from[r] = x[r < n_rows ? r : n_rows - 1];
    to[r] = out[r < n_rows ? r : n_rows - 1];
  }
  if (n_rows <= 4) return all_groups<Read, 4>(groups, group_bytes, n_groups, n_cols, from, to);
  all_groups<Read, kFewRows>(groups, group_bytes, n_groups, n_cols, from, to);
}

void matvec(ek_type type, const uint8_t* groups, size_t group_bytes, int32_t n_groups, int32_t n_cols,
            const float* const* x, float* const* out, int32_t n_rows) {
  if (type == EK_F32) {
    any_rows<ReadFloats<false>>(groups, group_bytes, n_groups, n_cols, x, out, n_rows);
  } else if (type == EK_F16) {
    any_rows<ReadFloats<true>>(groups, group_bytes, n_groups, n_cols, x, out, n_rows);
  } else if (type == EK_Q8_0) {
    any_rows<ReadQ8>(groups, group_bytes, n_groups, n_cols, x, out, n_rows);
  } else {
    any_rows<ReadQ4>(groups, group_bytes, n_groups, n_cols, x, out, n_rows);
  }
}
