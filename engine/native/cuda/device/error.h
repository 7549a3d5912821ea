/* What a failed call of the CUDA runtime becomes. Inside cuda/ everything throws; the plugin's edge turns it
 * into a status (cuda/plugin.h). */
#ifndef EK_CUDA_DEVICE_ERROR_H
#define EK_CUDA_DEVICE_ERROR_H
#include <cuda_runtime.h>

#include "../../core/check.h"

namespace ek::cuda {

/* Throws std::bad_alloc when device memory is short, DeviceError with the runtime's words otherwise. After an
 * error that leaves the device unusable every later call throws the same words: only a new process helps. */
void check(cudaError_t status, const char* what);

/* Throws when an earlier error left the device unusable. */
void require_alive();

}  // namespace ek::cuda
#endif
