/* Packing on the host: file layout to planes.h. */
#include <algorithm>
#include <functional>
#include <thread>
#include <vector>

#include "planes.h"

namespace ek::cuda {

namespace {

/* Bytes of a file's tensor for which a thread more pays, and most threads: reading the file is the limit
 * then. */
constexpr size_t kBytesPerThread = size_t{1} << 20, kMostThreads = 16;

/* Runs body(first, end) over ranges of rows, whose bytes are apart, in as many threads as pay. */
void over_rows(size_t rows, size_t n_bytes, const std::function<void(size_t, size_t)>& body) {
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  const size_t n = std::clamp<size_t>(n_bytes / kBytesPerThread, 1, std::min({cores, kMostThreads, rows}));
  const size_t share = (rows + n - 1) / n;
  std::vector<std::jthread> threads;
  for (size_t first = share; first < rows; first += share)
    threads.emplace_back([&body, first, end = std::min(rows, first + share)] { body(first, end); });
  body(0, std::min(rows, share));
}

size_t round_256(size_t n) { return (n + 255) / 256 * 256; }

/* One row's place in the memory of its 16. */
struct RowPlace {
  ek_type type;
  uint8_t* tile;
  int row; /* of the 16 */

  uint8_t* chunk(size_t group) const { return tile + chunk_offset(type, static_cast<int32_t>(group)); }
  uint8_t* scale(size_t group) const { return chunk(group) + scale_offset(type, row); }
  uint8_t* super(size_t group) const {
    return tile + super_offset(type, static_cast<int32_t>(group)) + row * plane_sizes(type).super;
  }
  /* Byte `at` of piece `piece` of lane t. */
  uint8_t& low(size_t group, size_t piece, size_t t, size_t at) const {
    return chunk(
        group)[low_offset(type, row, static_cast<int>(piece), static_cast<int>(t)) + static_cast<int>(at)];
  }
};

/* Adds column `col` with stored integer q (value, minus the type's offset). */
void put_quant(const RowPlace& to, size_t col, uint32_t q) {
  const size_t group = col / kGroup, part = col % kGroup / 32, t = col % 32 / 8, i = col % 8;
  if (to.type == EK_Q8_0) {
    to.low(group, part / 2, t, part % 2 * 8 + i % 2 * 4 + i / 2) = static_cast<uint8_t>(q);
    return;
  }
  uint8_t& nibbles = to.low(group, 0, t, part * 4 + i / 2);
  nibbles = static_cast<uint8_t>(nibbles | (q & 15) << i % 2 * 4);
  if (plane_sizes(to.type).high == 0) return;
  uint32_t high;
  const bool two_bits = to.type == EK_Q6_K;
  uint8_t* at = to.chunk(group) + high_offset(to.type, to.row) + (two_bits ? t * 8 + part / 2 * 4 : t * 4);
  const size_t bit = i / 2 * 8 + (two_bits ? 4 * (part % 2) + 2 * (i % 2) : 2 * part + i % 2);
  std::memcpy(&high, at, 4);
  high |= (q >> 4) << bit;
  std::memcpy(at, &high, 4);
}

template <class Block>
void put_block(const RowPlace& to, size_t first, const Block& b, int offset) {
  const size_t columns = static_cast<size_t>(block_columns(to.type));
  for (size_t i = 0; i < columns; i++) {
    put_quant(to, first + i, static_cast<uint32_t>(quant_of(b, i) + offset));
  }
}

/* A block of 32 columns with one scale. */
template <class Block>
void pack_small(const uint8_t* row, size_t index, const RowPlace& to, int offset) {
  const Block b = block_at<Block>(row, index);
  std::memcpy(to.scale(index / 4) + index % 4 * 2, &b.d, 2);
  put_block(to, index * kQuantBlock, b, offset);
}

template <class Block>
void pack_min_scaled(const uint8_t* row, size_t index, const RowPlace& to) {
  const Block b = block_at<Block>(row, index);
  std::memcpy(to.super(index * 2), &b.d, 2);
  std::memcpy(to.super(index * 2) + 2, &b.dmin, 2);
  for (size_t part = 0; part < 8; part++) {
    int scale = 0, min = 0;
    scale_and_min(b.scales, part, &scale, &min);
    uint8_t* at = to.scale(index * 2 + part / 4) + part % 4;
    at[0] = static_cast<uint8_t>(scale);
    at[4] = static_cast<uint8_t>(min);
  }
  put_block(to, index * kSuperBlock, b, 0);
}

void pack_q6(const uint8_t* row, size_t index, const RowPlace& to) {
  const BlockQ6K b = block_at<BlockQ6K>(row, index);
  std::memcpy(to.super(index * 2), &b.d, 2);
  for (size_t half = 0; half < 2; half++) std::memcpy(to.scale(index * 2 + half), b.scales + half * 8, 8);
  put_block(to, index * kSuperBlock, b, 32);
}

void pack_bf16(const uint8_t* row, size_t n_cols, const RowPlace& to) {
  for (size_t col = 0; col < n_cols; col++) {
    const size_t i = col % 8;
    std::memcpy(&to.low(col / kGroup, col % kGroup / 32, col % 32 / 8, (i % 4 * 2 + i / 4) * 2),
                row + col * 2, 2);
  }
}

void pack_row(const WeightShape& s, const uint8_t* row, const RowPlace& to) {
  const size_t n_cols = static_cast<size_t>(s.n_cols);
  if (s.type == EK_BF16) return pack_bf16(row, n_cols, to);
  const size_t n_blocks = n_cols / static_cast<size_t>(block_columns(s.type));
  for (size_t b = 0; b < n_blocks; b++) {
    if (s.type == EK_Q4_0) pack_small<BlockQ4>(row, b, to, 8);
    if (s.type == EK_Q5_0) pack_small<BlockQ5>(row, b, to, 16);
    if (s.type == EK_Q8_0) pack_small<BlockQ8>(row, b, to, 0);
    if (s.type == EK_Q4_K) pack_min_scaled<BlockQ4K>(row, b, to);
    if (s.type == EK_Q5_K) pack_min_scaled<BlockQ5K>(row, b, to);
    if (s.type == EK_Q6_K) pack_q6(row, b, to);
  }
}

void pack_fp8(const uint8_t* row, size_t n_cols, const float* scales, const RowPlace& to) {
  for (size_t col = 0; col < n_cols; col++) {
    const size_t part = col % kGroup / 32, i = col % 8;
    to.low(col / kGroup, part / 2, col % 32 / 8, part % 2 * 8 + i % 4 * 2 + i / 4) = row[col];
    if (col % kGroup != 0) continue;
    for (int copy = 0; copy < 4; copy++)
      std::memcpy(to.chunk(col / kGroup) + scale_offset(to.type, 0) + copy * 4, scales + col / kGroup, 4);
  }
}

int32_t stride_of(const WeightShape& s) {
  return has_planes(s.type) ? (s.n_rows + kChunkRows - 1) / kChunkRows * kChunkRows : s.n_rows;
}

int32_t groups_of(const WeightShape& s) { return has_planes(s.type) ? (s.n_cols + kGroup - 1) / kGroup : 0; }

}  // namespace

size_t packed_bytes(const WeightShape& s) {
  const size_t rows = static_cast<size_t>(s.n_matrices) * static_cast<size_t>(stride_of(s));
  return round_256(has_planes(s.type) ? rows / kChunkRows * tile_bytes(s.type, groups_of(s))
                                      : rows * row_bytes(s.type, s.n_cols));
}

void pack_planes(const WeightShape& s, const uint8_t* data, uint8_t* out) {
  const bool is_fp8 = s.type == EK_FP8_E4M3;
  const size_t stride = is_fp8 ? static_cast<size_t>(s.n_cols) : row_bytes(s.type, s.n_cols),
               n_rows = static_cast<size_t>(s.n_rows);
  const size_t n_matrices = static_cast<size_t>(s.n_matrices);
  if (!has_planes(s.type)) {
    std::memcpy(out, data, n_matrices * n_rows * stride);
    return;
  }
  std::memset(out, 0, packed_bytes(s));
  const size_t tile = tile_bytes(s.type, groups_of(s)), padded = static_cast<size_t>(stride_of(s));
  over_rows(n_matrices * n_rows, n_matrices * n_rows * stride, [&](size_t first, size_t end) {
    for (size_t r = first; r < end; r++) {
      const size_t row = r / n_rows * padded + r % n_rows;
      const RowPlace place{s.type, out + row / kChunkRows * tile, static_cast<int>(row % kChunkRows)};
      if (is_fp8) {
        const size_t groups = static_cast<size_t>(groups_of(s)), block_rows = (n_rows + kGroup - 1) / kGroup;
        const size_t block = (r / n_rows * block_rows + r % n_rows / kGroup) * groups;
        const uint8_t* scales = data + n_matrices * n_rows * stride;
        pack_fp8(data + r * stride, stride, reinterpret_cast<const float*>(scales) + block, place);
      } else {
        pack_row(s, data + r * stride, place);
      }
    }
  });
}

WeightView view_planes(const WeightShape& s, const uint8_t* base) {
  return {s.type, s.n_matrices, s.n_rows, s.n_cols, groups_of(s), stride_of(s), base};
}

}  // namespace ek::cuda
