/* A context under test, with everything made on it, freed at the end. */
#ifndef EK_TESTS_DEVICE_H
#define EK_TESTS_DEVICE_H
#include <cstring>

#include "../core/quant.h"
#include "compare.h"

namespace ek::test {

constexpr ek_type kWeightTypes[] = {EK_F32,  EK_F16,  EK_BF16, EK_Q4_0, EK_Q5_0,
                                    EK_Q8_0, EK_Q4_K, EK_Q5_K, EK_Q6_K};

/* Fills the f16 scales of a block so that its values have about the size `value`. */
inline void set_scales(ek_type type, float value, uint8_t* block) {
  const auto put = [&](size_t at, float x) {
    const ek::f16 h = ek::f32_to_f16(x);
    std::memcpy(block + at, &h, 2);
  };
  if (type == EK_Q4_0) put(0, value / 5);
  if (type == EK_Q5_0) put(0, value / 9);
  if (type == EK_Q8_0) put(0, value / 74);
  if (type == EK_Q6_K) put(ek::block_bytes(type) - 2, value / 1400);
  if (type == EK_Q4_K || type == EK_Q5_K) {
    put(0, value / (type == EK_Q4_K ? 150 : 300));
    put(2, value / 32);
  }
}

/* n random values of a type in file layout. */
inline std::vector<uint8_t> random_weight(ek_type type, size_t n, uint32_t seed, float scale) {
  const std::vector<float> values = random_floats(n, seed, scale);
  std::vector<uint8_t> out(ek::row_bytes(type, n));
  std::mt19937 engine(seed);
  if (type == EK_F32) std::memcpy(out.data(), values.data(), out.size());
  for (size_t i = 0; type == EK_F16 && i < n; i++) {
    const ek::f16 h = ek::f32_to_f16(values[i]);
    std::memcpy(&out[2 * i], &h, 2);
  }
  for (size_t i = 0; type == EK_BF16 && i < n; i++) {
    const uint16_t upper = static_cast<uint16_t>(ek::bits_of(values[i]) >> 16);
    std::memcpy(&out[2 * i], &upper, 2);
  }
  if (ek::is_quantised(type)) {
    const size_t block = ek::block_bytes(type);
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(engine());
    for (size_t b = 0; b < out.size(); b += block) set_scales(type, values[b / block], &out[b]);
  }
  return out;
}

struct Device {
  ek_context* ctx = nullptr;
  std::vector<ek_buffer*> buffers;
  std::vector<ek_weight*> weights;

  Device(ek_device device, const char* isa, int threads) {
    must(ek_context_create(device, 0, threads, isa, &ctx));
  }
  ~Device() {
    for (ek_buffer* b : buffers) ek_buffer_free(b);
    for (ek_weight* w : weights) ek_weight_destroy(w);
    ek_context_destroy(ctx);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ek_buffer* put(const std::vector<float>& values) {
    ek_buffer* b = nullptr;
    must(ek_buffer_alloc(ctx, values.size() * 4, &b));
    buffers.push_back(b);
    must(ek_buffer_upload(ctx, b, 0, values.data(), values.size() * 4));
    return b;
  }
  std::vector<float> read(const ek_buffer* b, size_t n) {
    std::vector<float> out(n);
    must(ek_buffer_download(ctx, out.data(), b, 0, n * 4));
    return out;
  }
  ek_weight* weight(ek_type type, int m, int rows, int cols, uint32_t seed, float scale) {
    const size_t n = static_cast<size_t>(m) * rows * cols;
    const std::vector<uint8_t> data = random_weight(type, n, seed, scale);
    ek_weight* w = nullptr;
    must(ek_weight_create_from_memory(ctx, data.data(), data.size(), type, m, rows, cols, &w));
    weights.push_back(w);
    return w;
  }
};

/* The instruction sets of this machine; says which are left out. */
inline std::vector<const char*> available_isas() {
  std::vector<const char*> out;
  for (const char* isa : {"scalar", "avx2", "avx512", "neon"}) {
    ek_context* probe = nullptr;
    const ek_status status = ek_context_create(EK_CPU, 0, 1, isa, &probe);
    ek_context_destroy(probe);
    if (status == EK_ERR_DEVICE) {
      std::printf("%s is not on this machine\n", isa);
    } else {
      out.push_back(isa);
    }
  }
  expect(!out.empty(), "no instruction set was tested");
  return out;
}

}  // namespace ek::test
#endif
