#include <algorithm>

#include "cpu_backend.h"

namespace ek::cpu {

namespace {

/* Packs row `lane` of a group; row null: zeros. */
void pack_row(const CpuWeight& w, const uint8_t* row, int lane, uint8_t* group) {
  const WeightShape& s = w.shape;
  if (row == nullptr) return; /* the vector was filled with zeros; a zero scale makes zero weights */
  if (!is_quantised(s.type)) {
    const size_t size = s.type == EK_F32 ? 4 : 2;
    for (int32_t c = 0; c < s.n_cols; c++) {
      std::memcpy(group + (static_cast<size_t>(c) * kLanes + lane) * size, row + c * size, size);
    }
    return;
  }
  for (int32_t b = 0; b < s.n_cols / kQuantBlock; b++, row += row_bytes(s.type, kQuantBlock)) {
    std::memcpy(group + 2 * lane, row, 2);
    group += 2 * kLanes;
    if (s.type == EK_Q8_0) {
      for (int i = 0; i < 32; i++) group[i * kLanes + lane] = row[2 + i];
      group += 32 * kLanes;
      continue;
    }
    uint32_t words[4] = {};
    for (int i = 0; i < 32; i++) {
      const uint32_t q = i < 16 ? row[2 + i] & 15 : row[2 + i - 16] >> 4;
      words[i / 8] |= q << (4 * (i % 8));
    }
    for (int i = 0; i < 4; i++) std::memcpy(group + (i * kLanes + lane) * 4, &words[i], 4);
    group += 4 * 4 * kLanes;
  }
}

}  // namespace

std::unique_ptr<Storage> CpuBackend::make_weight(const WeightShape& shape, const uint8_t* data) {
  auto w = std::make_unique<CpuWeight>();
  w->shape = shape;
  w->n_groups = (shape.n_rows + kLanes - 1) / kLanes;
  w->group_bytes = row_bytes(shape.type, shape.n_cols) * kLanes;
  w->data.assign(w->group_bytes * w->n_groups * shape.n_matrices, 0);
  const size_t stride = row_bytes(shape.type, shape.n_cols);
  for (int32_t m = 0; m < shape.n_matrices; m++) {
    for (int32_t r = 0; r < shape.n_rows; r++) {
      const size_t group = static_cast<size_t>(m) * w->n_groups + r / kLanes;
      pack_row(*w, data + (static_cast<size_t>(m) * shape.n_rows + r) * stride, r % kLanes,
               w->data.data() + group * w->group_bytes);
    }
  }
  return w;
}

void CpuBackend::reserve(size_t n_floats) {
  for (std::vector<float>& s : scratch_) {
    if (s.size() < n_floats) s.resize(n_floats);
  }
}

void CpuBackend::multiply(const CpuWeight& w, int32_t matrix, int32_t first, int32_t n, const float* x,
                          size_t ldx, int32_t n_rows, float* out, size_t ldo, int thread) {
  float* panel = scratch(thread);
  for (int32_t g = 0; g < n; g++) {
    k_.unpack(w.shape.type, w.group(matrix, first + g), w.shape.n_cols, panel);
    k_.gemm(n_rows, kLanes, w.shape.n_cols, x, ldx, panel, kLanes, out + g * kLanes, ldo, false);
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
  constexpr int32_t kRows = 240; /* rows of x per item: a multiple of every register tile */
  const CpuWeight& w = cpu_weight(*a.w);
  const int32_t n_in = w.shape.n_cols, n_out = w.shape.n_rows, row_tiles = (a.n_rows + kRows - 1) / kRows;
  const size_t panel = static_cast<size_t>(n_in) * kLanes;
  reserve(panel + static_cast<size_t>(kRows) * kLanes);
  pool_.run(row_tiles * w.n_groups, [&](int item, int thread) {
    const int32_t r0 = item / w.n_groups * kRows, g = item % w.n_groups, m = std::min(kRows, a.n_rows - r0);
    float* y = scratch(thread) + panel;
    multiply(w, 0, g, 1, a.x + static_cast<size_t>(r0) * n_in, n_in, m, y, kLanes, thread);
    const int32_t c0 = g * kLanes, n = std::min(kLanes, n_out - c0);
    for (int32_t r = 0; r < m; r++) {
      float* out = a.out + static_cast<size_t>(r0 + r) * n_out + c0;
      for (int32_t c = 0; c < n; c++) {
        const float bias = a.bias == nullptr ? 0.0f : a.bias[c0 + c];
        out[c] = y[r * kLanes + c] + bias + (a.accumulate ? out[c] : 0.0f);
      }
    }
  });
}

}  // namespace ek::cpu
