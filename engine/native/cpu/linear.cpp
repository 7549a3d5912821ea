#include <algorithm>

#include "cpu_backend.h"

namespace ek::cpu {

namespace {

/* Writes columns [c0, c0 + 16 n) of rows y (n_rows, 16 n) to the output of a
 * linear layer. */
void finish(const LinearArgs& a, const float* y, int32_t r0, int32_t n_rows, int32_t c0, int32_t n) {
  const int32_t n_out = a.w->shape.n_rows, width = n * kLanes, used = std::min(width, n_out - c0);
  for (int32_t r = 0; r < n_rows; r++, y += width) {
    float* out = a.out + static_cast<size_t>(r0 + r) * n_out + c0;
    if (a.bias != nullptr) {
      for (int32_t c = 0; c < used; c++) out[c] = y[c] + a.bias[c0 + c] + (a.accumulate ? out[c] : 0.0f);
    } else if (a.accumulate) {
      for (int32_t c = 0; c < used; c++) out[c] += y[c];
    } else {
      std::memcpy(out, y, sizeof(float) * used);
    }
  }
}

constexpr int32_t kMostFewRows = 16; /* above, unpacking once costs less than decoding per kFewRows rows */
constexpr int32_t kTileRows = 240;   /* most rows of x per item of many rows */

}  // namespace

void CpuBackend::reserve(size_t n_floats) {
  for (Aligned<float>& s : scratch_) s.reserve(n_floats);
}

void CpuBackend::multiply(const CpuWeight& w, int32_t matrix, int32_t first, int32_t n, const float* x,
                          size_t ldx, int32_t n_rows, float* out, size_t ldo, int thread) {
  float* panels = scratch(thread);
  const int32_t k = w.shape.n_cols;
  for (int32_t g = 0; g < n; g += kPanels) {
    const int32_t count = std::min(kPanels, n - g);
    for (int32_t j = 0; j < count; j++) {
      k_.unpack(w.shape.type, w.group(matrix, first + g + j), k,
                panels + static_cast<size_t>(j) * k * kLanes);
    }
    k_.gemm_panels(n_rows, count, k, x, ldx, panels, out + g * kLanes, ldo);
  }
}

void CpuBackend::embed(float* out, const ek_weight& table, const int32_t* tokens, int32_t n_tokens) {
  const CpuWeight& w = cpu_weight(table);
  const int32_t dim = w.shape.n_cols;
  reserve(static_cast<size_t>(dim) * kLanes);
  pool_.run(n_tokens, [&](int i, int thread) {
    k_.unpack(w.shape.type, w.group(0, tokens[i] / kLanes), dim, scratch(thread));
    const float* panel = scratch(thread) + tokens[i] % kLanes;
    for (int32_t c = 0; c < dim; c++)
      out[static_cast<size_t>(i) * dim + c] = panel[static_cast<size_t>(c) * kLanes];
  });
}

void CpuBackend::linear(const LinearArgs& a) {
  if (a.n_rows <= kMostFewRows) {
    linear_few_rows(a, a.w->shape.n_cols);
  } else {
    linear_panels(a, a.w->shape.n_cols);
  }
}

void CpuBackend::linear_few_rows(const LinearArgs& a, size_t ldx) {
  const CpuWeight& w = cpu_weight(*a.w);
  const int32_t chunk = group_chunk(w.n_groups);
  reserve(static_cast<size_t>(kFewRows) * chunk * kLanes);
  pool_.run((w.n_groups + chunk - 1) / chunk, [&](int item, int thread) {
    const int32_t g = item * chunk, n = std::min(chunk, w.n_groups - g);
    float* y = scratch(thread);
    for (int32_t r0 = 0; r0 < a.n_rows; r0 += kFewRows) {
      const int32_t m = std::min(kFewRows, a.n_rows - r0);
      const float* from[kFewRows] = {};
      float* to[kFewRows] = {};
      for (int32_t r = 0; r < m; r++) {
        from[r] = a.x + (r0 + r) * ldx;
        to[r] = y + r * n * kLanes;
      }
      k_.matvec(w.shape.type, w.group(0, g), w.group_bytes, n, w.shape.n_cols, from, to, m);
      finish(a, y, r0, m, g * kLanes, n);
    }
  });
}

void CpuBackend::linear_panels(const LinearArgs& a, size_t ldx) {
  const CpuWeight& w = cpu_weight(*a.w);
  const int32_t rows = even_share(a.n_rows, kTileRows);
  const int32_t row_tiles = (a.n_rows + rows - 1) / rows, pairs = (w.n_groups + kPanels - 1) / kPanels;
  const size_t panels = panel_floats(w);
  reserve(panels + static_cast<size_t>(rows) * kLanes * kPanels);
  pool_.run(row_tiles * pairs, [&](int item, int thread) {
    const int32_t r0 = item / pairs * rows, m = std::min(rows, a.n_rows - r0);
    const int32_t g = item % pairs * kPanels, n = std::min(kPanels, w.n_groups - g);
    float* y = scratch(thread) + panels;
    multiply(w, 0, g, n, a.x + r0 * ldx, ldx, m, y, static_cast<size_t>(n) * kLanes, thread);
    finish(a, y, r0, m, g * kLanes, n);
  });
}

}  // namespace ek::cpu
