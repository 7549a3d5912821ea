#include "device.h"

#include "../../core/error.h"

namespace ek::cuda {

Device::Device(int wanted) : ordinal(wanted) {
  require_alive();
  int count = 0;
  check(cudaGetDeviceCount(&count), "looking for a GPU");
  if (wanted < 0 || wanted >= count)
    throw DeviceError(format("GPU %d asked for, this machine has %d", wanted, count));
  check(cudaGetDeviceProperties(&properties, wanted), "reading the GPU's properties");
  if (properties.major < 8)
    throw DeviceError(format("%s has compute capability %d.%d, the kernels need 8.0", properties.name,
                             properties.major, properties.minor));
  check(cudaSetDevice(wanted), "choosing the GPU");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
}

Device::~Device() {
  if (stream != nullptr) cudaStreamDestroy(stream);
}

bool multiplies_in_groups() {
#ifdef EK_GROUP_PRODUCTS
  int gpu = 0, major = 0, minor = 0;
  check(cudaGetDevice(&gpu), "asking for the GPU in use");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, gpu), "reading the capability");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, gpu), "reading the capability");
  return major == 9 && minor == 0;
#else
  return false;
#endif
}

size_t most_block_memory() {
  int gpu = 0, most = 0;
  check(cudaGetDevice(&gpu), "asking for the GPU in use");
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, gpu),
        "asking for the memory of a block");
  return static_cast<size_t>(most);
}

}  // namespace ek::cuda
