/* Ops that choose: experts by router score, and the next token. */
#include <cfloat>

#include "ops.h"
#include "reduce.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256;

/* One warp per row. score: n_experts floats per warp in shared memory, the sigmoids. */
__global__ void route_sigmoid_kernel(RouteOp op) {
  float* score = dynamic_shared<float>();
  const int lane = threadIdx.x;
  const size_t row = blockIdx.x;
  float* key = score + op.n_experts;
  for (int32_t e = lane; e < op.n_experts; e += kWarp) {
    score[e] = 1.0f / (1.0f + expf(-op.logits[row * op.n_experts + e]));
    const float k = score[e] + op.bias[e];
    key[e] = isnan(k) ? -INFINITY : k;
  }
  __syncwarp();
  float total = 0;
  for (int32_t k = 0; k < op.top_k; k++) {
    Candidate best{0, -1};
    for (int32_t e = lane; e < op.n_experts; e += kWarp) {
      bool taken = false;
      for (int32_t before = 0; before < k; before++) taken |= op.experts[row * op.top_k + before] == e;
      if (!taken) best = better(best, {key[e], e});
    }
    best = warp_best(best);
    if (lane == 0) op.experts[row * op.top_k + k] = best.index;
    total += score[best.index];
    __syncwarp();
  }
  for (int32_t k = lane; k < op.top_k; k += kWarp) {
    const float s = score[op.experts[row * op.top_k + k]];
    op.weights[row * op.top_k + k] = (op.normalize ? s / total : s) * op.scale;
  }
}

/* One block per row. */
__global__ void argmax_kernel(const float* logits, int32_t vocab, int32_t* ids, float* log_probs) {
  __shared__ Candidate shared_best[kThreads / kWarp];
  __shared__ float shared_sum[kThreads / kWarp];
  const float* row = logits + static_cast<size_t>(blockIdx.x) * vocab;
  Candidate best{0, -1};
  for (int32_t i = threadIdx.x; i < vocab; i += kThreads) {
    if (!isnan(row[i])) best = better(best, {row[i], i});
  }
  best = block_best<kThreads>(best, shared_best);
  const int32_t id = best.index < 0 ? 0 : best.index;
  const float top = row[id];
  float sum = 0;
  for (int32_t i = threadIdx.x; i < vocab; i += kThreads) sum += expf(row[i] - top);
  sum = block_sum<kThreads>(sum, shared_sum);
  if (threadIdx.x != 0) return;
  ids[blockIdx.x] = id;
  log_probs[blockIdx.x] = -logf(sum);
}

}  // namespace

void route_sigmoid(Device& d, const RouteOp& op) {
  launch(d.stream, "route_sigmoid_kernel", {op.n_rows, kWarp, 2 * sizeof(float) * op.n_experts},
         route_sigmoid_kernel, op);
}

void argmax(Device& d, const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) {
  launch(d.stream, "argmax_kernel", {n_rows, kThreads}, argmax_kernel, logits, vocab, ids, log_probs);
}

}  // namespace ek::cuda
