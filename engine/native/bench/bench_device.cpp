#include "bench_device.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../core/quant.h"

namespace ek::bench {

void must(ek_status status) {
  if (status == EK_OK) return;
  std::fprintf(stderr, "bench_ops: %s\n", ek_last_error());
  std::exit(1);
}

Device::Device(int n_threads, const std::string& isa, ek_device device) {
  must(ek_context_create(device, 0, n_threads, isa.empty() ? nullptr : isa.c_str(), &ctx_));
}

Device::~Device() {
  for (ek_buffer* buffer : buffers_) ek_buffer_free(buffer);
  for (ek_weight* weight : weights_) ek_weight_destroy(weight);
  ek_context_destroy(ctx_);
}

ek_buffer* Device::floats(size_t n, float deviation) {
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random_);
  ek_buffer* buffer = nullptr;
  must(ek_buffer_alloc(ctx_, n * sizeof(float), &buffer));
  must(ek_buffer_upload(ctx_, buffer, 0, values.data(), n * sizeof(float)));
  buffers_.push_back(buffer);
  return buffer;
}

ek_weight* Device::weight(ek_type type, int n_matrices, int n_rows, int n_cols) {
  const size_t n = static_cast<size_t>(n_matrices) * n_rows * n_cols;
  std::vector<uint8_t> data(row_bytes(type, n));
  const float deviation = 1 / std::sqrt(static_cast<float>(n_cols));
  std::normal_distribution<float> normal(0.0f, deviation);
  if (type == EK_F32) {
    for (size_t i = 0; i < n; i++) {
      const float value = normal(random_);
      std::memcpy(&data[4 * i], &value, sizeof value);
    }
  } else {
    for (uint8_t& byte : data) byte = static_cast<uint8_t>(random_());
    const f16 scale = f32_to_f16(deviation / 4.6f); /* the deviation of a random nibble is 4.6 */
    const size_t block = row_bytes(type, kQuantBlock);
    for (size_t at = 0; at < data.size(); at += block) std::memcpy(&data[at], &scale, sizeof scale);
  }
  ek_weight* weight = nullptr;
  must(ek_weight_create_from_memory(ctx_, data.data(), data.size(), type, n_matrices, n_rows, n_cols,
                                    &weight));
  weights_.push_back(weight);
  return weight;
}

}  // namespace ek::bench
