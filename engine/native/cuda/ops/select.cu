/* Which blocks a token attends to: the forced ones, those with the largest score, and the window's. */
#include <cfloat>

#include "attention.cuh"
#include "reduce.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256;

/* Sum over heads and over the pooled rows that overlap block j, weighted by the overlap. p (heads, stride).
 */
__device__ float block_sum_of(const float* p, size_t stride, int32_t heads, int32_t n_visible, int32_t j,
                              int32_t per_block, int32_t overlap) {
  float sum = 0;
  for (int32_t m = 0; m < per_block; m++) {
    for (int32_t n = 0; n < overlap; n++) {
      const int32_t i = per_block * j + m - n;
      if (i < 0 || i >= n_visible) continue;
      for (int32_t h = 0; h < heads; h++) sum += p[h * stride + i];
    }
  }
  return sum;
}

/* One block per token. */
__global__ void nsa_select_kernel(AttentionPass a) {
  __shared__ Candidate shared[kThreads / kWarp];
  const ek_nsa_params& nsa = a.op.nsa;
  const KvView& kv = a.op.kv;
  const size_t token = blockIdx.x;
  const int32_t t = place_of(a.op.batch, a.first + blockIdx.x).t, own = t / EK_KV_BLOCK;
  int32_t* list = a.unions + token * a.most_union;
  const int32_t n_selected = min(nsa.select_n, own + 1);
  if (n_selected == own + 1) {
    for (int32_t j = threadIdx.x; j <= own; j += kThreads) list[j] = 2 * j + 1;
  } else {
    float* score = a.block_score + token * a.most_blocks;
    const float* p = a.pooled + token * nsa.n_heads * a.most_pooled;
    for (int32_t j = threadIdx.x; j <= own; j += kThreads) {
      const bool forced = j < nsa.init_blocks || j > own - nsa.local_blocks;
      const float sum = block_sum_of(p, a.most_pooled, nsa.n_heads, kv.n_visible(t), j,
                                     EK_KV_BLOCK / kv.cmp_stride, kv.cmp_len / kv.cmp_stride);
      score[j] = forced ? INFINITY : isnan(sum) ? -INFINITY : sum;
    }
    __syncthreads();
    for (int32_t k = 0; k < n_selected; k++) {
      Candidate best{0, -1};
      for (int32_t j = threadIdx.x; j <= own; j += kThreads) {
        if (!isnan(score[j])) best = better(best, {score[j], j});
      }
      best = block_best<kThreads>(best, shared);
      if (threadIdx.x == 0) {
        score[best.index] = NAN; /* taken */
        int32_t at = k;
        for (; at > 0 && list[at - 1] > 2 * best.index; at--) list[at] = list[at - 1];
        list[at] = 2 * best.index + 1;
      }
      __syncthreads();
    }
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  int32_t n = n_selected;
  for (int32_t j = max(0, t - nsa.window + 1) / EK_KV_BLOCK; j <= own; j++) {
    bool selected = false;
    for (int32_t i = 0; i < n_selected; i++) selected |= list[i] == 2 * j + 1;
    if (!selected) list[n++] = 2 * j;
  }
  a.n_union[token] = n;
}

}  // namespace

void nsa_select(Device& d, const AttentionPass& pass) {
  launch(d.stream, "nsa_select_kernel", {pass.n, kThreads}, nsa_select_kernel, pass);
}

}  // namespace ek::cuda
