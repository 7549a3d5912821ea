/* Ops that choose: experts by router score, and the next token. */
#include <algorithm>
#include <cfloat>

#include "ops.h"
#include "reduce.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256;

/* score (n_experts) = sigmoids or softmax of the row's logits, by one warp. */
__device__ void score_experts(const RouteOp& op, const float* logits, float* score) {
  const int lane = threadIdx.x;
  if (op.score_func == 2) {
    for (int32_t e = lane; e < op.n_experts; e += kWarp) score[e] = 1.0f / (1.0f + expf(-logits[e]));
    return;
  }
  Candidate top{0, -1};
  for (int32_t e = lane; e < op.n_experts; e += kWarp) top = better(top, {logits[e], e});
  const float most = logits[warp_best(top).index];
  float sum = 0;
  for (int32_t e = lane; e < op.n_experts; e += kWarp) sum += score[e] = expf(logits[e] - most);
  sum = warp_sum(sum);
  for (int32_t e = lane; e < op.n_experts; e += kWarp) score[e] /= sum;
}

/* Sets key (n_experts) of the experts outside of the best groups to minus infinity, by one warp. worth
 * (n_groups). */
__device__ void keep_best_groups(const RouteOp& op, float* key, float* worth) {
  const int lane = threadIdx.x;
  const int32_t size = op.n_experts / op.n_groups;
  for (int32_t g = lane; g < op.n_groups; g += kWarp) {
    float first = -INFINITY, second = -INFINITY;
    for (int32_t e = g * size; e < (g + 1) * size; e++) {
      second = fmaxf(second, fminf(first, key[e]));
      first = fmaxf(first, key[e]);
    }
    worth[g] = op.score_func == 1 || size == 1 ? first : first + second;
  }
  __syncwarp();
  for (int32_t k = 0; k < op.top_groups; k++) {
    Candidate best{0, -1};
    for (int32_t g = lane; g < op.n_groups; g += kWarp) {
      if (!isnan(worth[g])) best = better(best, {worth[g], g});
    }
    best = warp_best(best);
    __syncwarp();
    if (lane == 0) worth[best.index] = NAN; /* kept */
    __syncwarp();
  }
  for (int32_t e = lane; e < op.n_experts; e += kWarp) {
    if (!isnan(worth[e / size])) key[e] = -INFINITY;
  }
  __syncwarp();
}

/* One warp per row. Shared memory: scores and keys of the experts, worths of the groups. */
__global__ void route_kernel(RouteOp op) {
  float* score = dynamic_shared<float>();
  const int lane = threadIdx.x;
  const size_t row = blockIdx.x;
  float* key = score + op.n_experts;
  score_experts(op, op.logits + row * op.n_experts, score);
  for (int32_t e = lane; e < op.n_experts; e += kWarp) {
    const float k = op.bias == nullptr ? score[e] : score[e] + op.bias[e];
    key[e] = isnan(k) ? -INFINITY : k;
  }
  __syncwarp();
  if (op.top_groups < op.n_groups) keep_best_groups(op, key, key + op.n_experts);
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

/* A row's logits are shared out to blocks: one alone would read a large vocabulary for as long as a layer of
 * a decode step takes. The number of pieces follows from the vocabulary, so sums never change their order. */
constexpr int kMostPieces = 128, kPieceLogits = 1024;

struct Pieces {
  const float* logits; /* (rows, vocab) */
  int32_t vocab, n;
  Candidate* best; /* (rows, n) */
  float* sums;     /* (rows, n) */

  __device__ int32_t first(int32_t piece) const {
    return static_cast<int32_t>(static_cast<int64_t>(vocab) * piece / n);
  }
};

/* grid (pieces, rows): the best of each piece. */
__global__ void best_kernel(Pieces p) {
  __shared__ Candidate shared[kThreads / kWarp];
  const float* row = p.logits + static_cast<size_t>(blockIdx.y) * p.vocab;
  const int32_t piece = blockIdx.x, end = p.first(piece + 1);
  Candidate best{0, -1};
  for (int32_t i = p.first(piece) + threadIdx.x; i < end; i += kThreads) {
    if (!isnan(row[i])) best = better(best, {row[i], i});
  }
  best = block_best<kThreads>(best, shared);
  if (threadIdx.x == 0) p.best[blockIdx.y * p.n + piece] = best;
}

/* The best of a row; every thread of the block gets it. */
__device__ int32_t row_best(const Pieces& p, int32_t row, Candidate* shared) {
  Candidate best{0, -1};
  if (static_cast<int32_t>(threadIdx.x) < p.n) best = p.best[row * p.n + threadIdx.x];
  best = block_best<kThreads>(best, shared);
  return best.index < 0 ? 0 : best.index;
}

/* grid (pieces, rows): sums of exponentials below the row's best. */
__global__ void sum_kernel(Pieces p) {
  __shared__ Candidate shared_best[kThreads / kWarp];
  __shared__ float shared_sum[kThreads / kWarp];
  const float* row = p.logits + static_cast<size_t>(blockIdx.y) * p.vocab;
  const int32_t piece = blockIdx.x, end = p.first(piece + 1);
  const float top = row[row_best(p, blockIdx.y, shared_best)];
  float sum = 0;
  for (int32_t i = p.first(piece) + threadIdx.x; i < end; i += kThreads) sum += expf(row[i] - top);
  sum = block_sum<kThreads>(sum, shared_sum);
  if (threadIdx.x == 0) p.sums[blockIdx.y * p.n + piece] = sum;
}

/* One block per row. */
__global__ void argmax_kernel(Pieces p, int32_t* ids, float* log_probs) {
  __shared__ Candidate shared_best[kThreads / kWarp];
  __shared__ float shared_sum[kThreads / kWarp];
  const int32_t id = row_best(p, blockIdx.x, shared_best);
  float sum = static_cast<int32_t>(threadIdx.x) < p.n ? p.sums[blockIdx.x * p.n + threadIdx.x] : 0.0f;
  sum = block_sum<kThreads>(sum, shared_sum);
  if (threadIdx.x != 0) return;
  ids[blockIdx.x] = id;
  log_probs[blockIdx.x] = -logf(sum);
}

}  // namespace

void route(Device& d, const RouteOp& op) {
  const size_t shared =
      sizeof(float) * (2 * static_cast<size_t>(op.n_experts) + static_cast<size_t>(op.n_groups));
  launch(d.stream, "route_kernel", {op.n_rows, kWarp, shared}, route_kernel, op);
}

void argmax(Device& d, const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) {
  static_assert(kMostPieces <= kThreads, "a thread for each piece");
  const int32_t n = std::clamp(ceil_div(vocab, kPieceLogits), 1, kMostPieces);
  const size_t total = static_cast<size_t>(n_rows) * static_cast<size_t>(n);
  const Pieces pieces{logits, vocab, n, d.scratch.take<Candidate>(total), d.scratch.take<float>(total)};
  launch(d.stream, "best_kernel", {{n, n_rows}, kThreads}, best_kernel, pieces);
  launch(d.stream, "sum_kernel", {{n, n_rows}, kThreads}, sum_kernel, pieces);
  launch(d.stream, "argmax_kernel", {n_rows, kThreads}, argmax_kernel, pieces, ids, log_probs);
}

}  // namespace ek::cuda
