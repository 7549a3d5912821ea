/* The decoder's block selection: for the step's token (select.cuh). */
#include "select.cuh"

namespace ek::cuda {

namespace {

/* One block per kScoreRows pooled rows, and token from position sparse_from on. */
__global__ void __launch_bounds__(kThreads)
    score_kernel(StepBuffers all, int32_t n_blocks, int32_t layer, int32_t sparse_from) {
  const TokenBuffers b = all.of_token(blockIdx.y);
  __shared__ int32_t block_of[kBlocksPerGroup];
  allow_next_kernel();
  /* absorb has begun, so what earlier steps stored and the step's state are there. */
  const int32_t t = b.state->position, group = blockIdx.x;
  if (threadIdx.x < kBlocksPerGroup)
    block_of[threadIdx.x] =
        b.blocks[min(group * kBlocksPerGroup + static_cast<int32_t>(threadIdx.x), n_blocks - 1)];
  if (t < sparse_from || group * kScoreRows > t / kPoolStride) return wait_for_kernel_before();
  __syncthreads();
  const __nv_bfloat16* pooled = all.pooled + static_cast<size_t>(layer) * n_blocks * 4 * kRow;
  score_group(
      dynamic_shared<uint4>(), b.query, group, t, b.state->first / kPoolStride, b.scores,
      [&](int32_t row) {
        if (row == t / kPoolStride) return static_cast<const __nv_bfloat16*>(b.own_pooled);
        return pooled +
               (static_cast<size_t>(block_of[row / 4 - group * kBlocksPerGroup]) * 4 + row % 4) * kRow;
      },
      [] { wait_for_kernel_before(); });
}

/* One block per token. Where the token is the first of a tile of prefill, its list is also the tile's: a
 * prompt may go on inside of it. */
__global__ void __launch_bounds__(kSelectThreads)
    select_kernel(StepBuffers all, LiteShape shape, int32_t layer, int32_t n_keys) {
  const TokenBuffers b = all.of_token(blockIdx.y);
  wait_for_kernel_before();
  allow_next_kernel(); /* attention reads the query before it waits */
  const int32_t t = b.state->position;
  if (t < shape.dense_len) return;
  const uint8_t* marked =
      select_blocks(b.scores, t, shape.local, shape.top, n_keys, dynamic_shared<uint64_t>());
  int32_t* tile_list = t % kTileQueries == 0 ? all.block_list(shape, layer, b.blocks[t / 64]) : nullptr;
  const size_t at = static_cast<size_t>(layer) * shape.n_blocks;
  const int32_t n = visit_marked(marked, t / 64 + 1, [&](int32_t i, int32_t j) {
    b.lists[at + i] = j;
    b.listed[at + i] = b.blocks[j];
    if (tile_list != nullptr) tile_list[i] = j;
  });
  if (threadIdx.x == kSelectThreads - 1) b.n_listed[layer] = n;
}

}  // namespace

void launch_select(const Step& s, int32_t layer_index) {
  launch_overlapped(s, "score", score_kernel, {ceil_div(s.shape.n_blocks, kBlocksPerGroup), s.n_tokens},
                    kThreads, kScoreShared, s.b, s.shape.n_blocks, layer_index, s.shape.dense_len);
  const int32_t n_keys = select_keys(s.shape.n_blocks);
  launch_overlapped(s, "select", select_kernel, {1, s.n_tokens}, kSelectThreads, select_shared(n_keys), s.b,
                    s.shape, layer_index, n_keys);
}

}  // namespace ek::cuda
