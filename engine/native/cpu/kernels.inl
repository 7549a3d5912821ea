/* Included by isa_*.cpp after lanes.inl and the few functions that each instruction set writes itself. */

/* M rows times V vectors of columns, held in registers; b is V panels (k, 16), `next` floats apart. */
template <int M, int V>
void tile(int32_t k, const float* a, size_t lda, const float* b, size_t next, float* c, size_t ldc) {
  Vec acc[M][V] = {};
  for (int32_t p = 0; p < k; p++) {
    Vec w[V];
    for (int j = 0; j < V; j++) w[j] = load(b + p * kLanes + j * next);
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
void columns(int32_t m, int32_t k, const float* a, size_t lda, const float* b, size_t next, float* c,
             size_t ldc) {
  int32_t i = 0;
  for (; i + kTileRows <= m; i += kTileRows)
    tile<kTileRows, V>(k, a + i * lda, lda, b, next, c + i * ldc, ldc);
  for (; i + 4 <= m; i += 4) tile<4, V>(k, a + i * lda, lda, b, next, c + i * ldc, ldc);
  for (; i < m; i++) tile<1, V>(k, a + i * lda, lda, b, next, c + i * ldc, ldc);
}

void gemm_panels(int32_t m, int32_t n_panels, int32_t k, const float* a, size_t lda, const float* panels,
                 float* c, size_t ldc) {
  const size_t next = static_cast<size_t>(k) * kLanes;
  int32_t j = 0;
  for (; j + kTileVecs <= n_panels; j += kTileVecs)
    columns<kTileVecs>(m, k, a, lda, panels + j * next, next, c + j * kLanes, ldc);
  for (; j < n_panels; j++) columns<1>(m, k, a, lda, panels + j * next, next, c + j * kLanes, ldc);
}

/* exp by range reduction and a polynomial (Cephes), within 2 ulp; below -87.3 it is 0, NaN stays NaN. */
EK_INLINE Vec exp_vec(const Vec& x) {
  const Int tiny = x < splat(-87.3f);
  const Vec clamped = select(tiny, splat(-87.3f), select(x > splat(88.7f), splat(88.7f), x));
  const Int finite = clamped == clamped;
  const Vec safe = select(finite, clamped, Vec{});
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
  const Int bits = (to_int(n) + 127) << 23;
  const Vec value = select(tiny, Vec{}, p * float_of_bits(bits));
  return select(finite, value, x);
}

float exp_sum(float* x, int32_t n, float top) {
  Vec sum = {};
  for (int32_t i = 0; i < n; i += kLanes) {
    const Vec e = exp_vec(load(x + i) - splat(top));
    store(x + i, e);
    sum += e;
  }
  float total = 0;
  float lane[kLanes];
  store(lane, sum);
  for (int i = 0; i < kLanes; i++) total += lane[i];
  return total;
}

float largest(const float* x, size_t n) {
  Vec top = splat(-INFINITY);
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    top = larger(load(x + i), top);
  }
  float best = -INFINITY;
  for (; i < n; i++) best = x[i] > best ? x[i] : best;
  float lane[kLanes];
  store(lane, top);
  for (int j = 0; j < kLanes; j++) best = lane[j] > best ? lane[j] : best;
  return best;
}

void rmsnorm(float* out, const float* x, const float* weight, int32_t dim, float eps) {
  Vec squares = {};
  int32_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) squares += load(x + i) * load(x + i);
  float lane[kLanes], sum = 0;
  store(lane, squares);
  for (int j = 0; j < kLanes; j++) sum += lane[j];
  for (int32_t j = i; j < dim; j++) sum += x[j] * x[j];
  const float scale = 1 / __builtin_sqrtf(sum / static_cast<float>(dim) + eps);
  for (i = 0; i + kLanes <= dim; i += kLanes) store(out + i, load(x + i) * splat(scale) * load(weight + i));
  for (; i < dim; i++) out[i] = x[i] * scale * weight[i];
}

void silu_mul(float* gate, const float* up, size_t n) {
  for (size_t i = 0; i < n; i += kLanes) {
    const Vec g = load(gate + i);
    store(gate + i, g / (splat(1.0f) + exp_vec(-g)) * load(up + i));
  }
}
