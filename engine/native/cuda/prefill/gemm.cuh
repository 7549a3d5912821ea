/* The tiled product, by groups of four warps where the GPU has that. */
#ifndef EK_CUDA_PREFILL_GEMM_CUH
#define EK_CUDA_PREFILL_GEMM_CUH
#include "gemm_groups.cuh"
#include "gemm_warps.cuh"

namespace ek::cuda {

template <bool Gated>
void launch_gemm_kernel(cudaStream_t stream, const char* name, const GemmOp& op) {
  const bool in_groups = multiplies_in_groups();
  for_decode_type(op.w.type, [&]<ek_type F>() {
    if (in_groups) {
      launch_gemm_groups<F, Gated>(stream, name, op);
    } else {
      launch_gemm_warps<F, Gated>(stream, name, op);
    }
  });
}

}  // namespace ek::cuda
#endif
