/* Included by isa_*.cpp after group_readers.inl. Products of a few rows with packed weights, decoded on their
 * way into the multiply-add. Every element is the sum over the columns in order, of the exact weights, as
 * gemm_panels over unpacked weights makes it, so both give the same bits. Layouts: CpuWeight. */

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
  with_reader(type, [&](auto read) {
    any_rows<decltype(read)>(groups, group_bytes, n_groups, n_cols, x, out, n_rows);
  });
}
