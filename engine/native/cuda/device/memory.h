/* Device memory with an owner, and scratch memory of the op that runs. */
#ifndef EK_CUDA_DEVICE_MEMORY_H
#define EK_CUDA_DEVICE_MEMORY_H
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "error.h"

namespace ek::cuda {

/* Bytes of device memory, freed with their owner. Aligned to 256. */
class DeviceMemory {
 public:
  DeviceMemory() = default;
  /* Throws std::bad_alloc when the device has no room. */
  explicit DeviceMemory(size_t n_bytes) : n_bytes_(n_bytes) {
    require_alive();
    if (n_bytes > 0) check(cudaMalloc(&data_, n_bytes), "cudaMalloc");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
    return *this;
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  template <class T = uint8_t>
  T* as(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<uint8_t*>(data_) + byte_offset);
  }
  size_t n_bytes() const { return n_bytes_; }

 private:
  void* data_ = nullptr;
  size_t n_bytes_ = 0;
};

/* A copy of values, there when this returns: cudaMemcpy from the host's memory may return before, and a
 * device's own stream does not wait for the default one, which it uses. */
template <class T>
DeviceMemory upload(const std::vector<T>& from) {
  DeviceMemory to(from.size() * sizeof(T));
  check(cudaMemcpy(to.as(), from.data(), to.n_bytes(), cudaMemcpyHostToDevice), "uploading");
  check(cudaStreamSynchronize(nullptr), "uploading");
  return to;
}

/* Memory that an op uses while it runs. Ops run in order on one stream, so the next op may use the same
 * bytes: call reset at an op's beginning, then take. Pointers hold until the next reset. */
class Scratch {
 public:
  void reset() {
    used_ = 0;
    if (parts_.size() < 2) return;
    size_t total = 0;
    for (const DeviceMemory& part : parts_) total += part.n_bytes();
    parts_.clear(); /* cudaFree waits for the kernels that use it */
    parts_.emplace_back(total);
  }
  /* n elements, not initialised. */
  template <class T>
  T* take(size_t n) {
    const size_t bytes = (n * sizeof(T) + 255) / 256 * 256;
    if (parts_.empty() || used_ + bytes > parts_.back().n_bytes()) {
      parts_.emplace_back(bytes > kLeast ? bytes : kLeast);
      used_ = 0;
    }
    T* out = parts_.back().as<T>(used_);
    used_ += bytes;
    return out;
  }

 private:
  static constexpr size_t kLeast = size_t{4} << 20;
  std::vector<DeviceMemory> parts_;
  size_t used_ = 0; /* bytes of the last part */
};

}  // namespace ek::cuda
#endif
