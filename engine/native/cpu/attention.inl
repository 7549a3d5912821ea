/* Included by attention_<isa>.cpp inside its own namespace, after kRows, kVecs, kScoreVecs, kSumDims,
 * lanes.inl, halves16 and narrow16. */
typedef float Quarter __attribute__((vector_size(16)));

constexpr int32_t kWidth = 16; /* floats of a Vec */

EK_INLINE Vec read(const float* p) { return load(p); }
EK_INLINE Vec read(const f16* p) { return halves16(p); }
inline float read_one(const float* p) { return *p; }
inline float read_one(const f16* p) { return f16_to_f32(*p); }
EK_INLINE void write(float* p, const Vec& v) { store(p, v); }

/* Adds the four quarters: lane i is the sum of lanes i, i + 4, i + 8 and i + 12. */
EK_INLINE Quarter quarters(Quarter v) { return v; }
template <class T>
EK_INLINE Quarter quarters(const T& v) {
  Quarter q[sizeof v / sizeof(Quarter)];
  __builtin_memcpy(q, &v, sizeof v);
  Quarter sum = q[0];
  for (size_t i = 1; i < sizeof v / sizeof(Quarter); i++) sum += q[i];
  return sum;
}
template <class Half>
EK_INLINE Quarter quarters(const Pair<Half>& v) {
  return quarters(v.low + v.high);
}
EK_INLINE Quarter fold(const Vec& v) { return quarters(v); }
inline float total(const Vec& v) {
  const Quarter q = fold(v);
  return (q[0] + q[1]) + (q[2] + q[3]);
}
inline float largest(const Vec& v) {
  float lane[kWidth], top = -INFINITY;
  write(lane, v);
  for (int i = 0; i < kWidth; i++) top = lane[i] > top ? lane[i] : top;
  return top;
}

/* exp of x <= 0 by range reduction and a polynomial (Cephes), within 2 ulp; below -87.3 it is 0, NaN stays
 * NaN. */
EK_INLINE Vec exp_neg(const Vec& x) {
  const Vec biased = x * splat(1.44269504f) + splat(12582912.0f);
  const Vec n = biased - splat(12582912.0f);
  const Vec r = x - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
  Vec p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * (r * r) + (r + splat(1.0f));
  const Int bits = (bits_of_float(biased) + 127) << 23; /* the low bits of biased are n */
  return select(x < splat(-87.3f), Vec{}, p * float_of_bits(bits));
}

template <int M, int V, bool Packed>
void tile(int32_t k, const float* a, size_t stride, const float* b, size_t ldb, float* c, size_t ldc,
          bool accumulate) {
  Vec acc[M][V];
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < V; j++) acc[i][j] = accumulate ? read(c + i * ldc + j * kWidth) : Vec{};
  }
  for (int32_t p = 0; p < k; p++) {
    Vec w[V];
    for (int j = 0; j < V; j++) w[j] = read(b + p * ldb + j * kWidth);
    for (int i = 0; i < M; i++) {
      const Vec x = splat(Packed ? a[p * stride + i] : a[i * stride + p]);
      for (int j = 0; j < V; j++) acc[i][j] += x * w[j];
    }
  }
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < V; j++) write(c + i * ldc + j * kWidth, acc[i][j]);
  }
}

template <int V, bool Packed>
void columns(int32_t m, int32_t k, const float* a, size_t stride, const float* b, size_t ldb, float* c,
             size_t ldc, bool accumulate) {
  const size_t next = Packed ? 1 : stride;
  int32_t i = 0;
  for (; i + kRows <= m; i += kRows)
    tile<kRows, V, Packed>(k, a + i * next, stride, b, ldb, c + i * ldc, ldc, accumulate);
  for (; i < m; i++) tile<1, V, Packed>(k, a + i * next, stride, b, ldb, c + i * ldc, ldc, accumulate);
}

template <bool Packed>
void product(int32_t m, int32_t n, int32_t k, const float* a, size_t stride, const float* b, size_t ldb,
             float* c, size_t ldc, bool accumulate) {
  const int32_t wide = m == 1 ? 4 : kVecs; /* one row alone needs more columns in flight */
  int32_t j = 0;
  for (; j + wide * kWidth <= n; j += wide * kWidth) {
    if (m == 1) {
      tile<1, 4, Packed>(k, a, stride, b + j, ldb, c + j, ldc, accumulate);
    } else {
      columns<kVecs, Packed>(m, k, a, stride, b + j, ldb, c + j, ldc, accumulate);
    }
  }
  for (; j < n; j += kWidth) columns<1, Packed>(m, k, a, stride, b + j, ldb, c + j, ldc, accumulate);
}

void gemm(int32_t m, int32_t n, int32_t k, const float* a, size_t row, size_t step, const float* b,
          size_t ldb, float* c, size_t ldc, bool accumulate) {
  if (row == 1) {
    product<true>(m, n, k, a, step, b, ldb, c, ldc, accumulate);
  } else {
    product<false>(m, n, k, a, row, b, ldb, c, ldc, accumulate);
  }
}

void widen(const void* in, bool half, float* out, size_t n) {
  for (size_t i = 0; i < n; i += kWidth) {
    write(out + i, half ? read(static_cast<const f16*>(in) + i) : read(static_cast<const float*>(in) + i));
  }
}

void narrow(const float* in, bool half, void* out, int32_t n) {
  if (!half) {
    __builtin_memcpy(out, in, sizeof(float) * n);
    return;
  }
  f16* to = static_cast<f16*>(out);
  int32_t i = 0;
  for (; i + kWidth <= n; i += kWidth) narrow16(in + i, to + i);
  for (; i < n; i++) to[i] = f32_to_f16(in[i]);
}

template <class T>
void pool_typed(const Pooled& from, int32_t dim, int32_t n_dims, const float* weights, float* out) {
  const T* x = static_cast<const T*>(from.rows) + dim * EK_KV_BLOCK + from.at;
  for (int32_t d = 0; d < n_dims; d++, x += EK_KV_BLOCK, weights += from.ld) {
    Vec acc = {};
    int32_t i = 0;
    for (; i + kWidth <= from.n; i += kWidth) acc += read(weights + i) * read(x + i);
    float rest = 0;
    for (; i < from.n; i++) rest += weights[i] * read_one(x + i);
    out[d] += total(acc) + rest;
  }
}

void pool(const Pooled& from, int32_t dim, int32_t n_dims, const float* weights, float* out) {
  if (from.half) {
    pool_typed<f16>(from, dim, n_dims, weights, out);
  } else {
    pool_typed<float>(from, dim, n_dims, weights, out);
  }
}

template <int M, class T>
void score_some(const Pages& pages, int32_t width, const float* q, float* s, size_t lds) {
  for (int32_t u = 0; u < pages.n; u++) {
    const T* page = static_cast<const T*>(pages.at[u]);
    for (int32_t j = 0; j < EK_KV_BLOCK; j += kScoreVecs * kWidth) {
      Vec acc[M][kScoreVecs] = {};
      for (int32_t c = 0; c < width; c++) {
        Vec x[kScoreVecs];
        for (int v = 0; v < kScoreVecs; v++) x[v] = read(page + c * EK_KV_BLOCK + j + v * kWidth);
        for (int i = 0; i < M; i++) {
          const Vec w = splat(q[i * width + c]);
          for (int v = 0; v < kScoreVecs; v++) acc[i][v] += w * x[v];
        }
      }
      for (int i = 0; i < M; i++) {
        for (int v = 0; v < kScoreVecs; v++) write(s + i * lds + u * EK_KV_BLOCK + j + v * kWidth, acc[i][v]);
      }
    }
  }
}

template <int M, class T>
void sum_some(const Pages& pages, int32_t latent, int32_t n_keys, const float* p, size_t ldp, float* sums) {
  const int32_t n_full = n_keys / kWidth, rest = n_keys % kWidth;
  const Int kept = lanes() < rest;
  for (int32_t d = 0; d < latent; d += kSumDims) {
    Vec acc[M][kSumDims] = {};
    for (int32_t v = 0; v < n_full; v++) {
      const T* page = static_cast<const T*>(pages.at[v / 4]) + d * EK_KV_BLOCK + v % 4 * kWidth;
      Vec x[kSumDims];
      for (int e = 0; e < kSumDims; e++) x[e] = read(page + e * EK_KV_BLOCK);
      for (int i = 0; i < M; i++) {
        const Vec w = read(p + i * ldp + v * kWidth);
        for (int e = 0; e < kSumDims; e++) acc[i][e] += w * x[e];
      }
    }
    if (rest >
        0) { /* slots behind the query hold anything, even NaN, which a weight of 0 would not silence */
      const T* page = static_cast<const T*>(pages.at[n_full / 4]) + d * EK_KV_BLOCK + n_full % 4 * kWidth;
      for (int e = 0; e < kSumDims; e++) {
        const Vec x = select(kept, read(page + e * EK_KV_BLOCK), Vec{});
        for (int i = 0; i < M; i++) acc[i][e] += select(kept, read(p + i * ldp + n_full * kWidth), Vec{}) * x;
      }
    }
    for (int i = 0; i < M; i++) {
      for (int e = 0; e < kSumDims; e++) sums[i * latent + d + e] = total(acc[i][e]);
    }
  }
}

/* Four pooled rows per page: a vector holds 4 channels of them, so each channel of q is repeated 4 times. */
template <int M, class T>
void score_four_slots(const Pages& pages, int32_t width, const float* repeated, float* s, size_t lds) {
  const int32_t n = 4 * width;
  for (int32_t u = 0; u < pages.n; u++) {
    const T* page = static_cast<const T*>(pages.at[u]);
    Vec even[M] = {}, odd[M] = {};
    int32_t c = 0;
    for (; c + 2 * kWidth <= n; c += 2 * kWidth) {
      const Vec x = read(page + c), y = read(page + c + kWidth);
      for (int i = 0; i < M; i++) {
        even[i] += read(repeated + i * n + c) * x;
        odd[i] += read(repeated + i * n + c + kWidth) * y;
      }
    }
    for (; c < n; c += kWidth) {
      const Vec x = read(page + c);
      for (int i = 0; i < M; i++) even[i] += read(repeated + i * n + c) * x;
    }
    for (int i = 0; i < M; i++) {
      const Quarter sum = fold(even[i] + odd[i]);
      __builtin_memcpy(s + i * lds + u * 4, &sum, sizeof sum);
    }
  }
}

/* Any number of pooled rows per page, as other strides have. */
template <int M, class T>
void score_any_slots(const Pages& pages, int32_t width, int32_t n_slots, const float* q, float* s,
                     size_t lds) {
  for (int32_t u = 0; u < pages.n; u++) {
    const T* page = static_cast<const T*>(pages.at[u]);
    for (int i = 0; i < M; i++) {
      for (int32_t slot = 0; slot < n_slots; slot++) {
        float sum = 0;
        for (int32_t c = 0; c < width; c++) sum += q[i * width + c] * read_one(page + c * n_slots + slot);
        s[i * lds + u * n_slots + slot] = sum;
      }
    }
  }
}

template <int M, int V, class T>
void sum_slots(const Pages& pages, int32_t latent, int32_t n_slots, int32_t first, int32_t end, int32_t d,
               const float* p, size_t ldp, float* sums) {
  Vec acc[M][V] = {};
  for (int32_t r = first; r < end; r++) {
    const T* row =
        static_cast<const T*>(pages.at[r / n_slots]) + static_cast<size_t>(r % n_slots) * latent + d;
    Vec x[V];
    for (int v = 0; v < V; v++) x[v] = read(row + v * kWidth);
    for (int i = 0; i < M; i++) {
      const Vec w = splat(p[i * ldp + r]);
      for (int v = 0; v < V; v++) acc[i][v] += w * x[v];
    }
  }
  for (int i = 0; i < M; i++) {
    for (int v = 0; v < V; v++) write(sums + i * latent + d + v * kWidth, acc[i][v]);
  }
}

template <int M, class T>
void sum_pooled_some(const Pages& pages, int32_t latent, int32_t n_slots, int32_t first, int32_t end,
                     const float* p, size_t ldp, float* sums) {
  int32_t d = 0;
  for (; d + kScoreVecs * kWidth <= latent; d += kScoreVecs * kWidth)
    sum_slots<M, kScoreVecs, T>(pages, latent, n_slots, first, end, d, p, ldp, sums);
  for (; d < latent; d += kWidth) sum_slots<M, 1, T>(pages, latent, n_slots, first, end, d, p, ldp, sums);
}

/* Calls body with 6, 3 or 1 rows at a time until all m are done, and with the cache's element type. */
template <class Body>
void by_rows(bool half, int32_t m, Body&& body) {
  const auto typed = [&](auto zero) {
    int32_t i = 0;
    for (; i + 6 <= m; i += 6) body.template operator()<6>(i, zero);
    for (; i + 3 <= m; i += 3) body.template operator()<3>(i, zero);
    for (; i < m; i++) body.template operator()<1>(i, zero);
  };
  if (half) {
    typed(f16{});
  } else {
    typed(float{});
  }
}

void score_rows(const Pages& pages, int32_t width, int32_t m, const float* q, float* s, size_t lds) {
  by_rows(pages.half, m, [&]<int M, class T>(int32_t i, T) {
    score_some<M, T>(pages, width, q + i * width, s + i * lds, lds);
  });
}

void sum_rows(const Pages& pages, int32_t latent, int32_t n_keys, int32_t m, const float* p, size_t ldp,
              float* sums) {
  by_rows(pages.half, m, [&]<int M, class T>(int32_t i, T) {
    sum_some<M, T>(pages, latent, n_keys, p + i * ldp, ldp, sums + i * latent);
  });
}

void score_pooled(const Pages& pages, int32_t width, int32_t n_slots, int32_t m, const float* q,
                  float* repeated, float* s, size_t lds) {
  const bool four = n_slots == 4 && width % 4 == 0;
  for (int32_t i = 0; four && i < m * width; i++) {
    for (int32_t j = 0; j < 4; j++) repeated[4 * i + j] = q[i];
  }
  by_rows(pages.half, m, [&]<int M, class T>(int32_t i, T) {
    if (four) {
      score_four_slots<M, T>(pages, width, repeated + 4 * i * width, s + i * lds, lds);
    } else {
      score_any_slots<M, T>(pages, width, n_slots, q + i * width, s + i * lds, lds);
    }
  });
}

void sum_pooled(const Pages& pages, int32_t latent, int32_t n_slots, int32_t first, int32_t end, int32_t m,
                const float* p, size_t ldp, float* sums) {
  by_rows(pages.half, m, [&]<int M, class T>(int32_t i, T) {
    sum_pooled_some<M, T>(pages, latent, n_slots, first, end, p + i * ldp, ldp, sums + i * latent);
  });
}

void softmax(float* s, int32_t n) {
  Vec top = splat(-INFINITY), sum = {};
  for (int32_t i = 0; i < n; i += kWidth) top = larger(read(s + i), top);
  const Vec shift = splat(largest(top));
  for (int32_t i = 0; i < n; i += kWidth) {
    const Vec e = exp_neg(read(s + i) - shift);
    write(s + i, e);
    sum += e;
  }
  const Vec scale = splat(1 / total(sum));
  for (int32_t i = 0; i < n; i += kWidth) {
    const Vec p = read(s + i) * scale;
    write(s + i, select(p < splat(FLT_MIN), Vec{}, p));
  }
}
