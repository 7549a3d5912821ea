/* The embedding of a step's token, and logits and choice behind its last layer. */
#include "../ops/cache.cuh"
#include "rows.cuh"

namespace ek::cuda::narrow {

namespace {

constexpr int kPasses = kHeadRows / kRowsPerBlock;

/* State, angles and residual of a step; one block. */
template <ek_type F>
__device__ void begin_step(const Buffers& b, const WeightView& embedding, int32_t token, int32_t position) {
  if (threadIdx.x == 0) *b.state = {token, position};
  if (threadIdx.x < kRope / 2) {
    float s, c;
    sincosf(static_cast<float>(position) * b.inv_freq[threadIdx.x], &s, &c);
    b.turn[threadIdx.x] = {c, s};
  }
  for (int32_t unit = threadIdx.x; unit * 8 < embedding.n_cols; unit += kThreads) {
    float values[8];
    load_unit<F>(embedding, static_cast<size_t>(token), unit, values);
    for (int i = 0; i < 8 && unit * 8 + i < embedding.n_cols; i++) b.x[unit * 8 + i] = values[i];
  }
}

template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    begin_kernel(Buffers b, WeightView embedding, int32_t token, int32_t position) {
  begin_step<F>(b, embedding, token, position);
}

/* 32 rows of the vocabulary per block. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads)
    head_kernel(Buffers b, WeightView head, const float* norm, int32_t hidden, float eps) {
  float* x = dynamic_shared<float>();
  __shared__ float squares[kWarps], logit[kHeadRows];
  allow_next_kernel();
  const int32_t first = blockIdx.x * kHeadRows, own = threadIdx.x / kRowLanes;
  RowProduct<F> product[kPasses];
#pragma unroll
  for (int i = 0; i < kPasses; i++)
    product[i].prefetch(head, static_cast<size_t>(min(first + i * kRowsPerBlock + own, head.n_rows - 1)));
  NormedInput input;
  input.prefetch(norm, hidden);
  wait_for_kernel_before();
  input.stage(x, squares, b.x, norm, hidden);
  const float factor = rms_factor(squares, hidden, eps);
#pragma unroll
  for (int i = 0; i < kPasses; i++) {
    const float y = product[i].multiply(head, x);
    if (threadIdx.x % kRowLanes == 0) logit[i * kRowsPerBlock + own] = y * factor;
  }
  __syncthreads();
  const int32_t i = threadIdx.x;
  if (i >= kWarp) return;
  const bool exists = first + i < head.n_rows;
  if (exists) b.logits[first + i] = logit[i];
  const Candidate c = warp_best({logit[i], exists && !isnan(logit[i]) ? first + i : -1});
  const float top = __shfl_sync(0xffffffffu, logit[i], c.index < 0 ? 0 : c.index - first);
  const float sum = warp_sum(exists ? expf(logit[i] - top) : 0.0f);
  if (i == 0) b.best[blockIdx.x] = {top, c.index, sum};
}

/* The choice, and the beginning of the step that reads it; one block. */
template <ek_type F>
__global__ void __launch_bounds__(kThreads) next_kernel(Buffers b, WeightView embedding, int32_t n_best) {
  __shared__ Candidate shared_best[kWarps];
  __shared__ float shared_sum[kWarps];
  wait_for_kernel_before();
  allow_next_kernel();
  Candidate best{0, -1};
  for (int32_t i = threadIdx.x; i < n_best; i += kThreads)
    best = better(best, {b.best[i].value, b.best[i].index});
  best = block_best<kThreads>(best, shared_best);
  float sum = 0;
  for (int32_t i = threadIdx.x; i < n_best; i += kThreads) {
    const Best part = b.best[i];
    sum += part.sum * expf(part.value - best.value);
  }
  sum = block_sum<kThreads>(sum, shared_sum);
  const int32_t token = max(best.index, 0), position = b.state->position + 1;
  if (threadIdx.x == 0) *b.choice = {token, -logf(sum)};
  __syncthreads(); /* everyone has read the position */
  begin_step<F>(b, embedding, token, position);
}

}  // namespace

void launch_begin(const Step& s, const WeightView& embedding, int32_t token, int32_t position) {
  for_narrow_type(embedding.type, [&]<ek_type F>() {
    launch(s.stream, "begin", {1, kThreads}, begin_kernel<F>, s.b, embedding, token, position);
  });
}

void launch_head(const Step& s, const WeightView& head, const float* norm) {
  const size_t shared = static_cast<size_t>(staged_floats(s.shape.hidden)) * sizeof(float);
  for_narrow_type(head.type, [&]<ek_type F>() {
    s.run("head", ceil_div(head.n_rows, kHeadRows), shared, head_kernel<F>, s.b, head, norm, s.shape.hidden,
          s.shape.eps);
  });
}

void launch_next(const Step& s, const WeightView& embedding) {
  for_narrow_type(embedding.type, [&]<ek_type F>() {
    s.run("next", 1, 0, next_kernel<F>, s.b, embedding, ceil_div(s.shape.vocab, kHeadRows));
  });
}

}  // namespace ek::cuda::narrow
