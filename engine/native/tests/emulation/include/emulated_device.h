/* What kernels use of CUDA C++ itself: qualifiers, built-in variables, vectors, intrinsics. */
#ifndef EK_TESTS_EMULATION_EMULATED_DEVICE_H
#define EK_TESTS_EMULATION_EMULATED_DEVICE_H
#include <atomic>
#include <cstring>

#include "../emulator.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __maxnreg__(...)
#define __restrict__
/* One copy per thread of the CPU, and so per block that runs. */
#define __shared__ static __thread

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

#define EK_SITE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EK_SITE (::emulation::Site{file, line})

inline void __syncthreads(EK_SITE_PARAMETERS) { ::emulation::sync_block(EK_SITE); }
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

namespace emulation {

inline void require_full(unsigned mask) {
  if (mask != 0xffffffffu) fail("an operation of part of a warp (mask %08x) is not emulated", mask);
}

/* Every lane's value of one word. */
template <class T>
T from_lane(const T& value, int from, const Site& site) {
  static_assert(sizeof(T) == 4, "one word");
  uint32_t word;
  std::memcpy(&word, &value, 4);
  const Exchange& e = exchange(site, &word, 1);
  if (from >= e.lanes) fail("a value of lane %d, which the warp does not have", from);
  T out;
  std::memcpy(&out, &e.word[from][0], 4);
  return out;
}

}  // namespace emulation

inline void __syncwarp(unsigned mask = 0xffffffffu, EK_SITE_PARAMETERS) {
  ::emulation::require_full(mask);
  ::emulation::exchange(EK_SITE, nullptr, 0);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int by, EK_SITE_PARAMETERS) {
  ::emulation::require_full(mask);
  return ::emulation::from_lane(value, ::emulation::lane() ^ by, EK_SITE);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from, EK_SITE_PARAMETERS) {
  ::emulation::require_full(mask);
  return ::emulation::from_lane(value, from % 32, EK_SITE);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by, EK_SITE_PARAMETERS) {
  ::emulation::require_full(mask);
  const int own = ::emulation::lane();
  return ::emulation::from_lane(value, own >= by ? own - by : own, EK_SITE);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, EK_SITE_PARAMETERS) {
  ::emulation::require_full(mask);
  const int own = ::emulation::lane();
  return ::emulation::from_lane(value, own + by < 32 ? own + by : own, EK_SITE);
}
inline unsigned __ballot_sync(unsigned mask, int holds, EK_SITE_PARAMETERS) {
  ::emulation::require_full(mask);
  const uint32_t word = holds != 0;
  const ::emulation::Exchange& e = ::emulation::exchange(EK_SITE, &word, 1);
  unsigned out = 0;
  for (int i = 0; i < e.lanes; i++) out |= e.word[i][0] << i;
  return out;
}
namespace emulation {
template <class T, class Join>
T reduce(unsigned mask, T value, const Site& site, Join&& join) {
  require_full(mask);
  const uint32_t word = static_cast<uint32_t>(value);
  const Exchange& e = exchange(site, &word, 1);
  T out = static_cast<T>(e.word[0][0]);
  for (int i = 1; i < e.lanes; i++) out = join(out, static_cast<T>(e.word[i][0]));
  return out;
}
}  // namespace emulation
inline int32_t __reduce_add_sync(unsigned mask, int32_t value, EK_SITE_PARAMETERS) {
  return ::emulation::reduce(mask, value, EK_SITE, [](int32_t a, int32_t b) { return a + b; });
}
inline uint32_t __reduce_min_sync(unsigned mask, uint32_t value, EK_SITE_PARAMETERS) {
  return ::emulation::reduce(mask, value, EK_SITE, [](uint32_t a, uint32_t b) { return a < b ? a : b; });
}
inline uint32_t __reduce_max_sync(unsigned mask, uint32_t value, EK_SITE_PARAMETERS) {
  return ::emulation::reduce(mask, value, EK_SITE, [](uint32_t a, uint32_t b) { return a < b ? b : a; });
}
inline int __any_sync(unsigned mask, int holds, EK_SITE_PARAMETERS) {
  return __ballot_sync(mask, holds, file, line) != 0;
}

inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline float __uint_as_float(unsigned x) {
  float f;
  std::memcpy(&f, &x, 4);
  return f;
}
inline unsigned __float_as_uint(float f) {
  unsigned x;
  std::memcpy(&x, &f, 4);
  return x;
}
inline int __float2int_rn(float f) { return static_cast<int>(__builtin_rintf(f)); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  unsigned out = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned s = selector >> 4 * i & 15;
    unsigned byte = static_cast<unsigned>(bytes >> 8 * (s & 7)) & 255;
    if (s & 8) byte = byte & 128 ? 255 : 0;
    out |= byte << 8 * i;
  }
  return out;
}
template <class T>
T __ldcg(const T* p) {
  return *static_cast<const volatile T*>(p);
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T atomicAdd(T* p, T value) {
  return std::atomic_ref<T>(*p).fetch_add(value);
}
template <class T>
T atomicExch(T* p, T value) {
  return std::atomic_ref<T>(*p).exchange(value);
}
inline float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }

template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}

#endif
