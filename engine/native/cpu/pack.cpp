/* From the rows of a file to groups of 16 rows: the layouts that group_readers.inl reads. */
#include "../core/check.h"
#include "cpu_backend.h"

namespace ek::cpu {

namespace {

/* Writes the parts of one lane of a group, in the order in which they are read. */
struct LaneWriter {
  int lane;
  uint8_t *head, *words;

  void half(f16 value) {
    std::memcpy(head + 2 * lane, &value, 2);
    head += 2 * kLanes;
  }
  void byte(int value) {
    head[lane] = static_cast<uint8_t>(value);
    head += kLanes;
  }
  void word(uint32_t value) {
    std::memcpy(words + 4 * lane, &value, 4);
    words += 4 * kLanes;
  }
};

/* Columns [first, first + 32) of a block: high bits of q (each kHighBits wide), then nibbles. */
template <int kHighBits, class Block>
void pack_32(const Block& b, size_t first, int offset, LaneWriter& to) {
  uint32_t low[4] = {}, high[2] = {};
  constexpr size_t kPerHigh = kHighBits == 0 ? 32 : 32 / kHighBits;
  for (size_t i = 0; i < 32; i++) {
    const uint32_t q = static_cast<uint32_t>(quant_of(b, first + i) + offset);
    low[i / 8] |= (q & 15) << (4 * (i % 8));
    if (kHighBits > 0) high[i / kPerHigh] |= (q >> 4) << (kHighBits * (i % kPerHigh));
  }
  for (int w = 0; w < kHighBits; w++) to.word(high[w]);
  for (uint32_t w : low) to.word(w);
}

template <int kHighBits, class Block>
void pack_min_scaled(const Block& b, LaneWriter& to) {
  to.half(b.d);
  to.half(b.dmin);
  for (size_t part = 0; part < 8; part++) {
    int scale = 0, min = 0;
    scale_and_min(b.scales, part, &scale, &min);
    to.byte(scale);
    to.byte(min);
    pack_32<kHighBits>(b, 32 * part, 0, to);
  }
}

void pack(const BlockQ4& b, LaneWriter& to) {
  to.half(b.d);
  pack_32<0>(b, 0, 8, to);
}
void pack(const BlockQ5& b, LaneWriter& to) {
  to.half(b.d);
  pack_32<1>(b, 0, 16, to);
}
void pack(const BlockQ8& b, LaneWriter& to) {
  to.half(b.d);
  for (int8_t q : b.q) {
    to.words[to.lane] = static_cast<uint8_t>(q);
    to.words += kLanes;
  }
}
void pack(const BlockQ4K& b, LaneWriter& to) { pack_min_scaled<0>(b, to); }
void pack(const BlockQ5K& b, LaneWriter& to) { pack_min_scaled<1>(b, to); }
void pack(const BlockQ6K& b, LaneWriter& to) {
  to.half(b.d);
  for (size_t part = 0; part < 8; part++) {
    to.byte(b.scales[2 * part]);
    to.byte(b.scales[2 * part + 1]);
    pack_32<2>(b, 32 * part, 32, to);
  }
}

template <class Block>
void pack_blocks(const WeightShape& s, const uint8_t* row, LaneWriter to) {
  const size_t n = static_cast<size_t>(s.n_cols / block_columns(s.type));
  for (size_t i = 0; i < n; i++) pack(block_at<Block>(row, i), to);
}

/* Packs a row into lane `lane` of its group. */
void pack_row(const WeightShape& s, const uint8_t* row, int lane, uint8_t* group) {
  const LaneWriter to{lane, group, group + head_bytes(s.type, s.n_cols)};
  switch (s.type) {
    case EK_F32:
    case EK_F16:
    case EK_BF16: {
      const size_t size = block_bytes(s.type);
      for (int32_t c = 0; c < s.n_cols; c++)
        std::memcpy(group + (static_cast<size_t>(c) * kLanes + lane) * size, row + c * size, size);
      return;
    }
    case EK_Q4_0:
      return pack_blocks<BlockQ4>(s, row, to);
    case EK_Q5_0:
      return pack_blocks<BlockQ5>(s, row, to);
    case EK_Q8_0:
      return pack_blocks<BlockQ8>(s, row, to);
    case EK_Q4_K:
      return pack_blocks<BlockQ4K>(s, row, to);
    case EK_Q5_K:
      return pack_blocks<BlockQ5K>(s, row, to);
    case EK_Q6_K:
      return pack_blocks<BlockQ6K>(s, row, to);
    case EK_FP8_E4M3: /* refused before */
      return;
  }
}

/* Bits of a column's integer in the words. */
size_t word_bits(ek_type type) {
  switch (type) {
    case EK_Q4_0:
    case EK_Q4_K:
      return 4;
    case EK_Q5_0:
    case EK_Q5_K:
      return 5;
    case EK_Q6_K:
      return 6;
    case EK_Q8_0:
      return 8;
    default:
      return 8 * block_bytes(type);
  }
}

}  // namespace

std::unique_ptr<Storage> CpuBackend::make_weight(const WeightShape& shape, const uint8_t* data) {
  auto w = std::make_unique<CpuWeight>();
  w->shape = shape;
  w->n_groups = (shape.n_rows + kLanes - 1) / kLanes;
  w->group_bytes = head_bytes(shape.type, shape.n_cols) +
                   static_cast<size_t>(shape.n_cols) * kLanes * word_bits(shape.type) / 8;
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

}  // namespace ek::cpu
