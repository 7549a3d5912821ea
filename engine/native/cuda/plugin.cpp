/* Inside the shared object: the table that the host looks up. */
#include "plugin.h"

#include <cstdio>
#include <new>

#include "backend/cuda_backend.h"

namespace {

ek_status run(void (*body)(void*), void* argument, char* message, size_t capacity) {
  try {
    body(argument);
    return EK_OK;
  } catch (const ek::ArgError& e) {
    std::snprintf(message, capacity, "%s", e.what());
    return EK_ERR_ARG;
  } catch (const ek::DeviceError& e) {
    std::snprintf(message, capacity, "%s", e.what());
    return EK_ERR_DEVICE;
  } catch (const std::bad_alloc&) {
    std::snprintf(message, capacity, "out of GPU memory");
    return EK_ERR_OOM;
  } catch (const std::exception& e) {
    std::snprintf(message, capacity, "%s", e.what());
    return EK_ERR_INTERNAL;
  }
}

ek::Backend* make_backend(int ordinal) { return new ek::cuda::CudaBackend(ordinal); }

}  // namespace

extern "C" __attribute__((visibility("default")))
const ek_cuda_plugin_table ek_cuda_plugin = {EK_CUDA_PLUGIN_VERSION, run, make_backend};
