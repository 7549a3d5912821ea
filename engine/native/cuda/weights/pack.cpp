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

/* Runs body(first, end) over ranges of rows, whose bytes in the planes are apart, in as many threads as pay.
 */
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

/* One row's place in every plane. */
struct RowPlanes {
  uint8_t *low, *high, *scale, *super;
};

/* Adds column `col` with stored integer q (value, minus the type's offset). */
void put_quant(ek_type type, const RowPlanes& to, size_t col, uint32_t q) {
  const size_t group = col / kGroup, part = col % kGroup / 32, t = col % 32 / 8, i = col % 8;
  if (type == EK_Q8_0) {
    to.low[group * 128 + (part / 2 * 8 + t * 2 + part % 2) * 8 + i] = static_cast<uint8_t>(q);
    return;
  }
  const size_t word = group * 16 + t * 4 + part;
  to.low[word * 4 + i / 2] = static_cast<uint8_t>(to.low[word * 4 + i / 2] | (q & 15) << i % 2 * 4);
  if (plane_sizes(type).high == 0) return;
  uint32_t high;
  const bool two_bits = type == EK_Q6_K;
  uint8_t* at = to.high + (two_bits ? group * 32 + t * 8 + part / 2 * 4 : group * 16 + t * 4);
  const size_t bit = two_bits ? 8 * (part % 2) + 2 * (i % 4) + i / 4 * 16 : 4 * part + i % 4 + i / 4 * 16;
  std::memcpy(&high, at, 4);
  high |= (q >> 4) << bit;
  std::memcpy(at, &high, 4);
}

template <class Block>
void put_block(ek_type type, const RowPlanes& to, size_t first, const Block& b, int offset) {
  const size_t columns = static_cast<size_t>(block_columns(type));
  for (size_t i = 0; i < columns; i++) {
    put_quant(type, to, first + i, static_cast<uint32_t>(quant_of(b, i) + offset));
  }
}

/* A block of 32 columns with one scale. */
template <class Block>
void pack_small(ek_type type, const uint8_t* row, size_t index, const RowPlanes& to, int offset) {
  const Block b = block_at<Block>(row, index);
  std::memcpy(to.scale + index * 2, &b.d, 2);
  put_block(type, to, index * kQuantBlock, b, offset);
}

template <class Block>
void pack_min_scaled(ek_type type, const uint8_t* row, size_t index, const RowPlanes& to) {
  const Block b = block_at<Block>(row, index);
  std::memcpy(to.super + index * 4, &b.d, 2);
  std::memcpy(to.super + index * 4 + 2, &b.dmin, 2);
  for (size_t part = 0; part < 8; part++) {
    int scale = 0, min = 0;
    scale_and_min(b.scales, part, &scale, &min);
    uint8_t* at = to.scale + (index * 2 + part / 4) * 8 + part % 4;
    at[0] = static_cast<uint8_t>(scale);
    at[4] = static_cast<uint8_t>(min);
  }
  put_block(type, to, index * kSuperBlock, b, 0);
}

void pack_q6(const uint8_t* row, size_t index, const RowPlanes& to) {
  const BlockQ6K b = block_at<BlockQ6K>(row, index);
  std::memcpy(to.super + index * 2, &b.d, 2);
  std::memcpy(to.scale + index * 16, b.scales, 16);
  put_block(EK_Q6_K, to, index * kSuperBlock, b, 32);
}

void pack_bf16(const uint8_t* row, size_t n_cols, const RowPlanes& to) {
  for (size_t col = 0; col < n_cols; col++) {
    const size_t i = col % 8, at = col / 8 * 8 + i % 4 * 2 + i / 4;
    std::memcpy(to.low + at * 2, row + col * 2, 2);
  }
}

void pack_row(const WeightShape& s, const uint8_t* row, const RowPlanes& to) {
  const size_t n_cols = static_cast<size_t>(s.n_cols);
  if (s.type == EK_BF16) return pack_bf16(row, n_cols, to);
  const size_t n_blocks = n_cols / static_cast<size_t>(block_columns(s.type));
  for (size_t b = 0; b < n_blocks; b++) {
    if (s.type == EK_Q4_0) pack_small<BlockQ4>(s.type, row, b, to, 8);
    if (s.type == EK_Q5_0) pack_small<BlockQ5>(s.type, row, b, to, 16);
    if (s.type == EK_Q8_0) pack_small<BlockQ8>(s.type, row, b, to, 128);
    if (s.type == EK_Q4_K) pack_min_scaled<BlockQ4K>(s.type, row, b, to);
    if (s.type == EK_Q5_K) pack_min_scaled<BlockQ5K>(s.type, row, b, to);
    if (s.type == EK_Q6_K) pack_q6(row, b, to);
  }
}

}  // namespace

PlaneOffsets plane_offsets(const WeightShape& s) {
  const size_t rows = static_cast<size_t>(s.n_matrices) * s.n_rows;
  PlaneOffsets o{};
  if (!has_planes(s.type)) {
    o.total = round_256(rows * row_bytes(s.type, s.n_cols));
    return o;
  }
  const PlaneSizes sizes = plane_sizes(s.type);
  o.n_groups = (s.n_cols + kGroup - 1) / kGroup;
  const size_t groups = rows * o.n_groups, pairs = rows * ((o.n_groups + 1) / 2);
  o.high = o.low + round_256(groups * sizes.low);
  o.scale = o.high + round_256(groups * sizes.high);
  o.super = o.scale + round_256(groups * sizes.scale);
  o.total = o.super + round_256(pairs * sizes.super);
  return o;
}

void pack_planes(const WeightShape& s, const uint8_t* data, uint8_t* out) {
  const PlaneOffsets o = plane_offsets(s);
  const size_t rows = static_cast<size_t>(s.n_matrices) * s.n_rows, stride = row_bytes(s.type, s.n_cols);
  if (!has_planes(s.type)) {
    std::memcpy(out, data, rows * stride);
    return;
  }
  std::memset(out, 0, o.total);
  const PlaneSizes sizes = plane_sizes(s.type);
  const size_t groups = static_cast<size_t>(o.n_groups), pairs = (groups + 1) / 2;
  over_rows(rows, rows * stride, [&](size_t first, size_t end) {
    for (size_t r = first; r < end; r++) {
      pack_row(s, data + r * stride,
               {out + o.low + r * groups * sizes.low, out + o.high + r * groups * sizes.high,
                out + o.scale + r * groups * sizes.scale, out + o.super + r * pairs * sizes.super});
    }
  });
}

WeightView view_planes(const WeightShape& s, const uint8_t* base) {
  const PlaneOffsets o = plane_offsets(s);
  return {s.type,       s.n_matrices,  s.n_rows,       s.n_cols,      o.n_groups,
          base + o.low, base + o.high, base + o.scale, base + o.super};
}

}  // namespace ek::cuda
