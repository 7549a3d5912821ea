/* What the handles of caches and batches hold on a GPU. */
#ifndef EK_CUDA_DEVICE_KV_STORAGE_H
#define EK_CUDA_DEVICE_KV_STORAGE_H
#include "../../core/backend.h"
#include "kv.h"
#include "memory.h"

namespace ek::cuda {

struct CudaKv : Storage {
  KvView view{};
  DeviceMemory memory;
};

struct CudaBatch : Storage {
  BatchView view{};
  DeviceMemory memory;
};

inline const KvView& kv_view(const ek_kv_cache& kv) { return static_cast<const CudaKv&>(*kv.storage).view; }
inline const BatchView& batch_view(const ek_batch& batch) {
  return static_cast<const CudaBatch&>(*batch.storage).view;
}

}  // namespace ek::cuda
#endif
