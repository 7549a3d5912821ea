/* What a decoder holds, for tests. */
#include <algorithm>
#include <cstring>

#include "../device/e4m3.h"
#include "kernels.h"
#include "lite.h"

namespace ek::cuda {

namespace {

std::vector<uint8_t> read_bytes(const void* from, size_t n) {
  std::vector<uint8_t> out(n);
  check(cudaMemcpy(out.data(), from, n, cudaMemcpyDeviceToHost), "reading the cache");
  return out;
}

/* Rows (n, latent + rope) as f32. */
std::vector<float> row_values(const std::vector<uint8_t>& bytes, RowFormat format) {
  const size_t pitch = static_cast<size_t>(cache_row_bytes(format)),
               before = static_cast<size_t>(rope_offset(format));
  const auto bf16_at = [&](size_t at) {
    uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + at, 2);
    return bf16_value(bits);
  };
  std::vector<float> out;
  for (size_t row = 0; row < bytes.size(); row += pitch) {
    for (size_t c = 0; c < kLatent; c++) {
      if (format == RowFormat::kBf16) {
        out.push_back(bf16_at(row + c * 2));
        continue;
      }
      float scale = 0;
      std::memcpy(&scale, bytes.data() + row + kLatent + c / kScaledLatents * sizeof scale, sizeof scale);
      out.push_back(e4m3_value(bytes[row + c]) * scale);
    }
    for (size_t c = 0; c < kRope; c++) out.push_back(bf16_at(row + before + c * 2));
  }
  return out;
}

}  // namespace

std::vector<uint8_t> LiteDecoder::stored_rows(int32_t layer, int32_t n_tokens) {
  device_.wait();
  const CachedRows& cache = buffers().cache;
  return read_bytes(cache.row(static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks) * 64),
                    static_cast<size_t>(n_tokens) * static_cast<size_t>(cache_row_bytes(shape.rows)));
}

std::vector<float> LiteDecoder::cache_rows(int32_t layer, int32_t n_tokens) {
  return row_values(stored_rows(layer, n_tokens), shape.rows);
}

std::vector<float> LiteDecoder::pooled_rows(int32_t layer, int32_t n_rows) {
  device_.wait();
  const __nv_bfloat16* from =
      buffers().pooled + static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks) * 4 * kRow;
  constexpr size_t kPooledBytes = kRow * sizeof(__nv_bfloat16);
  return row_values(read_bytes(from, static_cast<size_t>(n_rows) * kPooledBytes), RowFormat::kBf16);
}

std::vector<int32_t> LiteDecoder::step_list(int32_t layer) {
  device_.wait();
  int32_t n = 0;
  check(cudaMemcpy(&n, buffers().n_listed + layer, sizeof n, cudaMemcpyDeviceToHost), "reading a list");
  std::vector<int32_t> out(static_cast<size_t>(n));
  check(cudaMemcpy(out.data(),
                   buffers().lists + static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks),
                   out.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
        "reading a list");
  return out;
}

std::vector<float> LiteDecoder::score_sums(int32_t index) {
  device_.wait();
  std::vector<float> out(static_cast<size_t>(score_groups(shape)) * kHeads);
  check(cudaMemcpy(out.data(), buffers().of_token(static_cast<uint32_t>(index)).scores.sum,
                   out.size() * sizeof(float), cudaMemcpyDeviceToHost),
        "reading sums of scores");
  return out;
}

std::vector<int32_t> LiteDecoder::tile_list(int32_t layer, int32_t position) {
  device_.wait();
  std::vector<int32_t> out(static_cast<size_t>(std::min(shape.most_listed(), position / 64 + 1)));
  /* The block table is the identity. */
  const size_t place =
      static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks) + static_cast<size_t>(position / 64);
  check(cudaMemcpy(out.data(), buffers().tile_lists + place * static_cast<size_t>(shape.most_listed()),
                   out.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
        "reading the list of a tile");
  return out;
}

}  // namespace ek::cuda
