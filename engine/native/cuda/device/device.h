/* The device that ops run on: its stream, its scratch memory, and its limits.
 *
 * Conventions of every launcher in cuda/: it takes a Device&, launches on device.stream, and
 * never waits. Activations are f32, row-major. A kernel is called <op>_<variant>_kernel, the
 * function that launches it <op>_<variant>. */
#ifndef EK_CUDA_DEVICE_DEVICE_H
#define EK_CUDA_DEVICE_DEVICE_H
#include "memory.h"

namespace ek::cuda {

struct Device {
  explicit Device(int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int ordinal;
  cudaStream_t stream = nullptr;
  cudaDeviceProp properties{};
  Scratch scratch;

  int capability() const { return properties.major * 10 + properties.minor; }
  int n_multiprocessors() const { return properties.multiProcessorCount; }
  void wait() const { check(cudaStreamSynchronize(stream), "waiting for the GPU"); }
};

/* Whether the current GPU has products of warpgroups (device/ptx.cuh), and this build code for them. */
bool multiplies_in_groups();
/* Bytes of shared memory that a block may have on the current GPU. */
size_t most_block_memory();

inline int32_t ceil_div(int64_t n, int64_t by) { return static_cast<int32_t>((n + by - 1) / by); }

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace ek::cuda
#endif
