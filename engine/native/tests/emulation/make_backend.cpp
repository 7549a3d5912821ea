/* The backend of EK_CUDA without its shared object: linked into the program, and kernels run on the CPU. */
#include "../../cuda/backend/cuda_backend.h"

namespace ek {

std::shared_ptr<Backend> make_cuda_backend(int32_t ordinal) {
  return std::make_shared<cuda::CudaBackend>(ordinal);
}

}  // namespace ek
