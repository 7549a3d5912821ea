/* Included by isa_*.cpp inside its own namespace. GCC's vector type becomes one AVX-512 register, or two, or
 * four. */
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Int __attribute__((vector_size(64)));

inline Vec load(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { __builtin_memcpy(p, &v, sizeof v); }
inline Vec splat(float x) { return x - Vec{}; }
inline Vec to_float(Int v) { return __builtin_convertvector(v, Vec); }

/* M rows times V vectors of columns, held in registers. */
template <int M, int V>
void tile(int32_t k, const float* a, size_t lda, const float* b, size_t ldb, float* c, size_t ldc,
          bool accumulate) {
  Vec acc[M][V];
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < V; j++) acc[i][j] = accumulate ? load(c + i * ldc + j * kLanes) : Vec{};
  }
  for (int32_t p = 0; p < k; p++) {
    Vec w[V];
    for (int j = 0; j < V; j++) w[j] = load(b + p * ldb + j * kLanes);
    for (int i = 0; i < M; i++) {
      const Vec x = splat(a[i * lda + p]);
      for (int j = 0; j < V; j++) acc[i][j] += x * w[j];
    }
  }
  for (int i = 0; i < M; i++) {
    for (int j = 0; j < V; j++) store(c + i * ldc + j * kLanes, acc[i][j]);
  }
}

template <int V>
void columns(int32_t m, int32_t k, const float* a, size_t lda, const float* b, size_t ldb, float* c,
             size_t ldc, bool accumulate) {
  int32_t i = 0;
  for (; i + kTileRows <= m; i += kTileRows)
    tile<kTileRows, V>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc, accumulate);
  for (; i + 4 <= m; i += 4) tile<4, V>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc, accumulate);
  for (; i < m; i++) tile<1, V>(k, a + i * lda, lda, b, ldb, c + i * ldc, ldc, accumulate);
}

void gemm(int32_t m, int32_t n, int32_t k, const float* a, size_t lda, const float* b, size_t ldb, float* c,
          size_t ldc, bool accumulate) {
  int32_t j = 0;
  for (; j + kTileVecs * kLanes <= n; j += kTileVecs * kLanes) {
    columns<kTileVecs>(m, k, a, lda, b + j, ldb, c + j, ldc, accumulate);
  }
  for (; j < n; j += kLanes) columns<1>(m, k, a, lda, b + j, ldb, c + j, ldc, accumulate);
}

void widen(const f16* in, float* out, size_t n) {
  for (size_t i = 0; i < n; i += kLanes) widen16(in + i, out + i);
}

/* Layouts: cpu_weight.h. */
void unpack(ek_type type, const uint8_t* group, int32_t n_cols, float* out) {
  if (type == EK_F32) {
    __builtin_memcpy(out, group, sizeof(float) * kLanes * n_cols);
    return;
  }
  if (type == EK_F16) {
    widen(reinterpret_cast<const f16*>(group), out, static_cast<size_t>(n_cols) * kLanes);
    return;
  }
  for (int32_t block = 0; block < n_cols / 32; block++, out += 32 * kLanes) {
    float scale[kLanes];
    widen16(reinterpret_cast<const f16*>(group), scale);
    group += 2 * kLanes;
    const Vec d = load(scale);
    if (type == EK_Q8_0) {
      for (int i = 0; i < 32; i++, group += kLanes) {
        int8_t q __attribute__((vector_size(16)));
        __builtin_memcpy(&q, group, sizeof q);
        store(out + i * kLanes, d * __builtin_convertvector(q, Vec));
      }
      continue;
    }
    for (int word = 0; word < 4; word++, group += 4 * kLanes) {
      Int q;
      __builtin_memcpy(&q, group, sizeof q);
      for (int i = 0; i < 8; i++)
        store(out + (word * 8 + i) * kLanes, d * to_float(((q >> (4 * i)) & 15) - 8));
    }
  }
}

/* exp by range reduction and a polynomial (Cephes), within 2 ulp; below -87.3 it is 0, NaN stays NaN. */
inline Vec exp_vec(Vec x) {
  const Int tiny = x < splat(-87.3f);
  const Vec clamped = tiny ? splat(-87.3f) : (x > splat(88.7f) ? splat(88.7f) : x);
  const Int finite = clamped == clamped;
  const Vec safe = finite ? clamped : Vec{};
  const Vec biased = safe * splat(1.44269504f) + splat(12582912.0f);
  const Vec n = biased - splat(12582912.0f);
  const Vec r = safe - n * splat(0.693359375f) - n * splat(-2.12194440e-4f);
  Vec p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * r * r + r + splat(1.0f);
  const Int bits = (__builtin_convertvector(n, Int) + 127) << 23;
  Vec power;
  __builtin_memcpy(&power, &bits, sizeof power);
  const Vec value = tiny ? Vec{} : p * power;
  return finite ? value : x;
}

float exp_sum(float* x, int32_t n, float top) {
  Vec sum = {};
  for (int32_t i = 0; i < n; i += kLanes) {
    const Vec e = exp_vec(load(x + i) - splat(top));
    store(x + i, e);
    sum += e;
  }
  float total = 0;
  for (int i = 0; i < kLanes; i++) total += sum[i];
  return total;
}

void silu_mul(float* gate, const float* up, size_t n) {
  for (size_t i = 0; i < n; i += kLanes) {
    const Vec g = load(gate + i);
    store(gate + i, g / (splat(1.0f) + exp_vec(-g)) * load(up + i));
  }
}
