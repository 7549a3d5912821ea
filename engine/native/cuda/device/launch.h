/* The only way to launch a kernel. */
#ifndef EK_CUDA_DEVICE_LAUNCH_H
#define EK_CUDA_DEVICE_LAUNCH_H
#include "error.h"

namespace ek::cuda {

/* Is told of every launch, or group of launches, in order; for timing. */
class LaunchListener {
 public:
  virtual void launched(const char* name) = 0;

 protected:
  ~LaunchListener() = default;
};

struct Grid {
  Grid(int64_t x, int64_t y = 1, int64_t z = 1)
      : blocks(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z)) {}
  dim3 blocks;
};

struct LaunchShape {
  Grid grid;
  int threads;
  size_t shared = 0; /* bytes of dynamic shared memory of a block */
  /* The kernel may begin while the one before it still runs, and waits for it itself. */
  bool overlaps = false;
};

/* Throws with the kernel's name when the configuration is not possible; a failure of the kernel itself shows
 * at the next wait. */
template <class... Parameters, class... Args>
void launch(cudaStream_t stream, const char* name, const LaunchShape& shape, void (*kernel)(Parameters...),
            Args... args) {
  if (shape.shared > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shape.shared)),
          name);
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid.blocks;
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = shape.shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = shape.overlaps ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(args)...), name);
}

}  // namespace ek::cuda
#endif
