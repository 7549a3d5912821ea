/* The functions of cuda/device/ptx.cuh for the CPU. */
#ifndef EK_TESTS_EMULATION_EMULATED_PTX_H
#define EK_TESTS_EMULATION_EMULATED_PTX_H
#include <atomic>
#include <cmath>

#include "../../../core/quant.h"
#include "cuda_runtime.h"

namespace emulation {

/* Words 0 to 3 of a lane are its part of a, 4 and 5 of b. */
void multiply_tile(Exchange& e);
/* The same of bytes. */
void multiply_bytes(Exchange& e);
/* Words 0 and 1 of a lane are the address of 16 bytes, which go into e.product. */
void load_rows(Exchange& e);
/* Of a warpgroup's product the warp's rows. Words 0 to 3 are two tiles in shared memory, of 16 columns and of
 * 8 n rows of as many. */
template <int N>
void multiply_tiles(Exchange& e);
/* Words 0 to 3 of a lane are its part of a, 4 and 5 a tile in shared memory, 16 rows of 8 n columns, 6 its
 * stride. */
template <int N>
void multiply_by_tile(Exchange& e);

}  // namespace emulation

namespace ek::cuda {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(::emulation::dynamic_shared());
}

inline int thread_now() { return static_cast<int>(threadIdx.x); }

inline uint4 stream16(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0) ::emulation::fail("a load of 16 bytes is not aligned");
  return *static_cast<const uint4*>(p);
}

inline void mma_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                     uint32_t b1, EK_SITE_PARAMETERS) {
  const uint32_t words[6] = {a0, a1, a2, a3, b0, b1};
  const ::emulation::Exchange& e = ::emulation::exchange(EK_SITE, words, 6, ::emulation::multiply_tile);
  const int g = ::emulation::lane() / 4, t = ::emulation::lane() % 4;
  c[0] += e.product[g][2 * t];
  c[1] += e.product[g][2 * t + 1];
  c[2] += e.product[g + 8][2 * t];
  c[3] += e.product[g + 8][2 * t + 1];
}

inline uint32_t pack_f16(float low, float high) {
  return ek::f32_to_f16(low) | static_cast<uint32_t>(ek::f32_to_f16(high)) << 16;
}

/* Sums of bytes are below 2^24, so floats hold them. */
inline void mma_s8(int32_t (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                   uint32_t b1, EK_SITE_PARAMETERS) {
  const uint32_t words[6] = {a0, a1, a2, a3, b0, b1};
  const ::emulation::Exchange& e = ::emulation::exchange(EK_SITE, words, 6, ::emulation::multiply_bytes);
  const int g = ::emulation::lane() / 4, t = ::emulation::lane() % 4;
  for (int i = 0; i < 4; i++) c[i] += static_cast<int32_t>(e.product[g + i / 2 * 8][2 * t + i % 2]);
}

/* Element `column` of row `row` of matrix m, which load_rows brought. */
inline uint32_t matrix_element(const ::emulation::Exchange& e, int m, int row, int column) {
  return reinterpret_cast<const uint16_t*>(e.product)[(8 * m + row) * 8 + column];
}
inline const ::emulation::Exchange& exchange_rows(const void* row, const ::emulation::Site& site) {
  ::emulation::require_shared_16(row);
  const uintptr_t address = reinterpret_cast<uintptr_t>(row);
  const uint32_t words[2] = {static_cast<uint32_t>(address), static_cast<uint32_t>(address >> 32)};
  return ::emulation::exchange(site, words, 2, ::emulation::load_rows);
}

inline void load_matrices(uint32_t (&out)[4], const void* row, EK_SITE_PARAMETERS) {
  const ::emulation::Exchange& e = exchange_rows(row, EK_SITE);
  const int g = ::emulation::lane() / 4, t = ::emulation::lane() % 4;
  for (int m = 0; m < 4; m++)
    out[m] = matrix_element(e, m, g, 2 * t) | matrix_element(e, m, g, 2 * t + 1) << 16;
}
inline void load_matrices_transposed(uint32_t (&out)[4], const void* row, EK_SITE_PARAMETERS) {
  const ::emulation::Exchange& e = exchange_rows(row, EK_SITE);
  const int g = ::emulation::lane() / 4, t = ::emulation::lane() % 4;
  for (int m = 0; m < 4; m++)
    out[m] = matrix_element(e, m, 2 * t, g) | matrix_element(e, m, 2 * t + 1, g) << 16;
}

inline uint32_t in_register(uint32_t constant) { return constant; }

inline void copy_async_16(void* to, const void* from, bool valid) {
  ::emulation::copy_later(to, from, valid);
}
inline void copy_async_commit() { ::emulation::end_copy_group(); }
template <int N>
void copy_async_wait() {
  ::emulation::wait_for_copies(N);
}

template <int Threads>
void sync_some(int number, EK_SITE_PARAMETERS) {
  ::emulation::sync_some(EK_SITE, number, Threads);
}

inline void count_up(uint32_t* counter) { std::atomic_ref<uint32_t>(*counter).fetch_add(1); }
/* The kernels that count have ended. */
inline void wait_for_count(const uint32_t* counter, uint32_t n) {
  if (*counter < n) ::emulation::fail("waits for ever: a counter is %u and should become %u", *counter, n);
}

/* Where 16 bytes lie is told by address bits: a tile is aligned to 1024. */
struct SharedTile {
  const uint8_t* at;
  int stride;

  SharedTile behind(int bytes) const { return {at + bytes, stride}; }

  /* Row r, eight columns from c on, a multiple of 8: of 64 columns, or with a stride of more. */
  void eight(int r, int c, float* out) const {
    const uintptr_t plain = reinterpret_cast<uintptr_t>(at) + r * 128 + c / 64 * stride + c % 64 * 2;
    uint16_t bits[8];
    std::memcpy(bits, reinterpret_cast<const void*>(plain ^ (plain >> 3 & 0x70)), sizeof bits);
    for (int i = 0; i < 8; i++) out[i] = __uint_as_float(static_cast<uint32_t>(bits[i]) << 16);
  }
};

inline SharedTile shared_tile(const void* first, int stride = 16) {
  if (reinterpret_cast<uintptr_t>(first) % 1024 != 0) ::emulation::fail("a tile is not aligned to 1024");
  return {static_cast<const uint8_t*>(first), stride};
}

template <class T>
T* aligned_shared() {
  return dynamic_shared<T>();
}

inline void publish_shared() {}
inline void begin_group_products() {}
inline void commit_group_products() {}
template <int N>
void wait_for_group_products() {}

/* c += what the warp's lanes found together. */
template <int N>
void add_group_product(float (&c)[N][4], const ::emulation::Exchange& e) {
  const int g = ::emulation::lane() / 4, t = ::emulation::lane() % 4;
  for (int n = 0; n < N; n++) {
    for (int i = 0; i < 4; i++) c[n][i] += e.group_product[g + i / 2 * 8][n * 8 + 2 * t + i % 2];
  }
}

inline void put_address(uint32_t* words, const void* p) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  words[0] = static_cast<uint32_t>(address);
  words[1] = static_cast<uint32_t>(address >> 32);
}

template <int N>
void multiply_group(float (&c)[N][4], SharedTile a, SharedTile b, EK_SITE_PARAMETERS) {
  uint32_t words[4];
  put_address(words, a.at + threadIdx.x / 32 % 4 * 16 * 128);
  put_address(words + 2, b.at);
  add_group_product(c, ::emulation::exchange(EK_SITE, words, 4, ::emulation::multiply_tiles<N>));
}

template <int N>
void multiply_group(float (&c)[N][4], const uint32_t (&a)[4], SharedTile b, EK_SITE_PARAMETERS) {
  uint32_t words[7] = {a[0], a[1], a[2], a[3]};
  put_address(words + 4, b.at);
  words[6] = static_cast<uint32_t>(b.stride);
  add_group_product(c, ::emulation::exchange(EK_SITE, words, 7, ::emulation::multiply_by_tile<N>));
}

inline void add_pair(float* to, float2 v) {
  to[0] += v.x;
  to[1] += v.y;
}

inline void multiply_group_first(float (&c)[8][4], SharedTile a, SharedTile b, EK_SITE_PARAMETERS) {
  for (auto& columns : c) {
    for (float& sum : columns) sum = 0;
  }
  multiply_group(c, a, b, file, line);
}

inline void multiply_group(float (&c)[16][4], float (&d)[2][4], const uint32_t (&a)[4], SharedTile b,
                           EK_SITE_PARAMETERS) {
  multiply_group(c, a, b, file, line);
  multiply_group(d, a, b.behind(2 * b.stride), file, line);
}

inline float exp2_approx(float x) { return x < -126 ? 0.0f : std::exp2(x); }

/* Kernels of a stream run one after the other. */
inline void allow_next_kernel() {}
inline void wait_for_kernel_before() {}

}  // namespace ek::cuda
#endif
