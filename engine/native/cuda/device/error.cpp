#include "error.h"

#include <new>

#include "../../core/error.h"

namespace ek::cuda {

namespace {

/* Words of the error that ended the device for this process; empty while it lives. */
std::string fatal_words;

/* Errors after which the runtime refuses all further work of the process. */
bool is_sticky(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorLaunchTimeout:
    case cudaErrorDevicesUnavailable:
      return true;
    default:
      return false;
  }
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError(); /* forget it: a failed allocation harms nothing else */
    throw std::bad_alloc();
  }
  std::string words = format("%s: %s (%s)", what, cudaGetErrorString(status), cudaGetErrorName(status));
  if (is_sticky(status) && fatal_words.empty()) {
    fatal_words = words + "; the GPU cannot be used again before the process restarts";
    words = fatal_words;
  }
  throw DeviceError(words);
}

void require_alive() {
  if (!fatal_words.empty()) throw DeviceError(fatal_words);
}

}  // namespace ek::cuda
