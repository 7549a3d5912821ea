#include <algorithm>

#include "../core/check.h"
#include "cpu_backend.h"

namespace ek::cpu {

namespace {

/* Packs a row into lane `lane` of its group. */
void pack_row(const WeightShape& s, const uint8_t* row, int lane, uint8_t* group) {
  if (!is_quantised(s.type)) {
    const size_t size = s.type == EK_F32 ? 4 : 2;
    for (int32_t c = 0; c < s.n_cols; c++) {
      std::memcpy(group + (static_cast<size_t>(c) * kLanes + lane) * size, row + c * size, size);
    }
    return;
  }
  uint8_t *scale = group + 2 * lane, *at = group + scales_bytes(s.n_cols);
  for (int32_t b = 0; b < s.n_cols / kQuantBlock; b++, row += row_bytes(s.type, kQuantBlock)) {
    std::memcpy(scale, row, 2);
    scale += 2 * kLanes;
    if (s.type == EK_Q8_0) {
      for (int i = 0; i < 32; i++) at[i * kLanes + lane] = row[2 + i];
      at += 32 * kLanes;
      continue;
    }
    uint32_t words[4] = {};
    for (int i = 0; i < 32; i++) {
      const uint32_t q = i < 16 ? row[2 + i] & 15 : row[2 + i - 16] >> 4;
      words[i / 8] |= q << (4 * (i % 8));
    }
    for (int i = 0; i < 4; i++) std::memcpy(at + (i * kLanes + lane) * 4, &words[i], 4);
    at += 4 * 4 * kLanes;
  }
}

/* Bytes of a packed group: scales and words, or plain columns. */
size_t packed_bytes(const WeightShape& s) {
  if (s.type == EK_F32) return size_t{4} * kLanes * s.n_cols;
  if (s.type == EK_F16) return size_t{2} * kLanes * s.n_cols;
  return scales_bytes(s.n_cols) + static_cast<size_t>(s.n_cols) * kLanes / (s.type == EK_Q4_0 ? 2 : 1);
}

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

std::unique_ptr<Storage> CpuBackend::make_weight(const WeightShape& shape, const uint8_t* data) {
  EK_REQUIRE(shape.type == EK_F32 || shape.type == EK_F16 || shape.type == EK_Q4_0 || shape.type == EK_Q8_0,
             "the CPU has kernels for weights of F32, F16, Q4_0 and Q8_0, got type %d",
             static_cast<int>(shape.type));
  auto w = std::make_unique<CpuWeight>();
  w->shape = shape;
  w->n_groups = (shape.n_rows + kLanes - 1) / kLanes;
  w->group_bytes = packed_bytes(shape);
  const size_t n_bytes = w->group_bytes * w->n_groups * shape.n_matrices;
  std::memset(w->data.reserve(n_bytes), 0, n_bytes);
  const size_t stride = row_bytes(shape.type, shape.n_cols);
  for (int32_t m = 0; m < shape.n_matrices; m++) {
    for (int32_t r = 0; r < shape.n_rows; r++) {
      const size_t group = static_cast<size_t>(m) * w->n_groups + r / kLanes;
      pack_row(shape, data + (static_cast<size_t>(m) * shape.n_rows + r) * stride, r % kLanes,
               w->data.data() + group * w->group_bytes);
    }
  }
  return w;
}

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
