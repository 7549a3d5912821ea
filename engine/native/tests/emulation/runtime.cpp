/* The CUDA runtime's functions that cuda/ calls, but those of streams: one device. */
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "streams.h"

namespace {

constexpr size_t kPage = 4096, kAlignment = 256;
constexpr int kPattern = 0xff;

struct Allocation {
  void* pages;
  size_t n_pages_bytes, n_bytes;
};

/* Of the device: 8 GiB, or as many MiB as EMULATED_GPU_MIB says, for tests of memory that runs out. */
size_t device_bytes() {
  const char* mib = std::getenv("EMULATED_GPU_MIB");
  return mib == nullptr ? size_t{8} << 30 : std::strtoull(mib, nullptr, 10) << 20;
}

/* Of the device, times ten: 90, or what EMULATED_GPU_CAPABILITY says, for tests of kernels of other GPUs. */
int capability() {
  const char* wanted = std::getenv("EMULATED_GPU_CAPABILITY");
  return wanted == nullptr ? 90 : std::atoi(wanted);
}

/* Bytes of shared memory that a block may have. */
size_t block_memory() {
  switch (capability()) {
    case 80:
      return 166912;
    case 90:
    case 100:
      return 232448;
    default:
      return 101376;
  }
}

/* Launches until one fails and the device is lost, as EMULATED_GPU_FAIL_LAUNCH says; 0: never. */
std::atomic<long long> until_lost = [] {
  const char* n = std::getenv("EMULATED_GPU_FAIL_LAUNCH");
  return n == nullptr ? 0ll : std::strtoll(n, nullptr, 10);
}();
/* What every call answers: an illegal address once the device is lost, as the driver does. */
std::atomic<cudaError_t> health = cudaSuccess;

std::mutex mutex;
std::map<void*, Allocation> allocations;
size_t n_allocated = 0;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Bytes between the end of an allocation and the page that nobody may touch. */
size_t slack(const Allocation& a) { return round_up(a.n_bytes, kAlignment) - a.n_bytes; }

}  // namespace

cudaError_t cudaMalloc(void** out, size_t n) {
  const std::lock_guard lock(mutex);
  if (health != cudaSuccess) return health;
  if (n > device_bytes() || n_allocated + n > device_bytes()) return cudaErrorMemoryAllocation;
  Allocation a{nullptr, round_up(round_up(n, kAlignment), kPage) + kPage, n};
  a.pages = mmap(nullptr, a.n_pages_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (a.pages == MAP_FAILED) return cudaErrorMemoryAllocation;
  uint8_t* end = static_cast<uint8_t*>(a.pages) + a.n_pages_bytes - kPage;
  mprotect(end, kPage, PROT_NONE);
  uint8_t* data = end - round_up(n, kAlignment);
  std::memset(data, kPattern, round_up(n, kAlignment));
  allocations[data] = a;
  n_allocated += n;
  *out = data;
  return cudaSuccess;
}

cudaError_t cudaFree(void* p) {
  if (p == nullptr) return cudaSuccess;
  const std::lock_guard lock(mutex);
  const auto found = allocations.find(p);
  if (found == allocations.end()) emulation::fail("cudaFree of memory that cudaMalloc did not give");
  const Allocation& a = found->second;
  const uint8_t* end = static_cast<const uint8_t*>(p) + a.n_bytes;
  for (size_t i = 0; i < slack(a); i++) {
    if (end[i] != kPattern)
      emulation::fail("memory %zu bytes behind an allocation of %zu was written", i, a.n_bytes);
  }
  munmap(a.pages, a.n_pages_bytes);
  n_allocated -= a.n_bytes;
  allocations.erase(found);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const std::lock_guard lock(mutex);
  *total_bytes = device_bytes();
  *free_bytes = *total_bytes > n_allocated ? *total_bytes - n_allocated : 0;
  return health;
}
cudaError_t cudaMemset(void* p, int value, size_t n) {
  if (health == cudaSuccess) std::memset(p, value, n);
  return health;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t stream) {
  return emulation::submit(stream, [=] { cudaMemset(p, value, n); });
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind) {
  if (health == cudaSuccess) std::memcpy(to, from, n);
  return health;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind kind, cudaStream_t stream) {
  return emulation::submit(stream, [=] { cudaMemcpy(to, from, n, kind); });
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t) {
  for (size_t i = 0; i < height; i++)
    std::memcpy(static_cast<uint8_t*>(to) + i * to_pitch, static_cast<const uint8_t*>(from) + i * from_pitch,
                width);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() { return health; }
const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorIllegalAddress) return "an illegal memory access was encountered";
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument"
                                                : "error of the emulated runtime";
}
const char* cudaGetErrorName(cudaError_t error) {
  if (error == cudaErrorIllegalAddress) return "cudaErrorIllegalAddress";
  return error == cudaErrorInvalidConfiguration ? "cudaErrorInvalidConfiguration" : "cudaError";
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  *p = {"emulated on the CPU", device_bytes(), capability() / 10, capability() % 10, 4, 1 << 20};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = capability() / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = capability() % 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(block_memory());
      break;
  }
  return cudaSuccess;
}
namespace emulation {

cudaError_t enqueue(const cudaLaunchConfig_t& c, std::function<void()> body) {
  const GridShape shape{{c.gridDim.x, c.gridDim.y, c.gridDim.z},
                        {c.blockDim.x, c.blockDim.y, c.blockDim.z},
                        c.dynamicSmemBytes};
  const uint64_t threads = uint64_t{shape.block.x} * shape.block.y * shape.block.z;
  if (threads == 0 || threads > 1024 || shape.grid.x == 0 || shape.grid.x > 0x7fffffffu ||
      shape.grid.y == 0 || shape.grid.y > 65535 || shape.grid.z == 0 || shape.grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  if (c.dynamicSmemBytes > block_memory()) return cudaErrorInvalidValue;
  return submit(c.stream, [shape, body] {
    if (until_lost > 0 && --until_lost == 0) health = cudaErrorIllegalAddress;
    if (health == cudaSuccess) run_grid(shape, body);
  });
}

}  // namespace emulation
