/* Gate and up of a feed-forward in one product. */
#include "gemm.cuh"

namespace ek::cuda {

void launch_gemm_gated(cudaStream_t stream, const char* name, const GemmOp& op) {
  EK_REQUIRE(op.w.n_cols % 32 == 0 && op.w.n_rows % 16 == 0 && op.w.type == op.up.type,
             "%s: a gated product needs columns in multiples of 32, rows of 16 and one type, got %d, %d, "
             "types %d and "
             "%d",
             name, op.w.n_cols, op.w.n_rows, static_cast<int>(op.w.type), static_cast<int>(op.up.type));
  launch_gemm_kernel<true>(stream, name, op);
}

}  // namespace ek::cuda
