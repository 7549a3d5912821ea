/* A weight of the CUDA backend: its planes in device memory. */
#ifndef EK_CUDA_WEIGHTS_WEIGHT_H
#define EK_CUDA_WEIGHTS_WEIGHT_H
#include "../../core/backend.h"
#include "../device/memory.h"
#include "planes.h"

namespace ek::cuda {

struct CudaWeight : Storage {
  WeightView view{};
  DeviceMemory memory;
};

inline const WeightView& weight_view(const ek_weight& w) {
  return static_cast<const CudaWeight&>(*w.storage).view;
}

}  // namespace ek::cuda
#endif
