/* Writes a step's cache rows, then the pooled rows that they complete. */
#include "cache.cuh"
#include "reduce.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 128;

/* One block per token. */
template <class T>
__global__ void mla_store_kernel(StoreOp op) {
  __shared__ float shared[kThreads / kWarp];
  const KvView& kv = op.kv;
  const TokenPlace at = place_of(op.batch, blockIdx.x);
  const float* from = op.kv_a + static_cast<size_t>(blockIdx.x) * kv.pooled_dim();
  T* to = static_cast<T*>(kv.base) + row_at(kv, op.layer, op.batch, at.seq, at.t);
  float sum = 0;
  for (int32_t i = threadIdx.x; i < kv.latent; i += kThreads) sum += from[i] * from[i];
  sum = block_sum<kThreads>(sum, shared);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(kv.latent) + op.eps);
  for (int32_t i = threadIdx.x; i < kv.latent; i += kThreads)
    store_element(to + i, from[i] * scale * op.norm[i]);
  for (int32_t i = threadIdx.x; i < kv.rope / 2; i += kThreads) {
    const int32_t first = kv.latent + 2 * i;
    float even = from[first], odd = from[first + 1];
    store_element(to + first + kv.rope, even);
    store_element(to + first + kv.rope + 1, odd);
    rotate_pair(even, odd, op.batch.inv_freq[i], at.t);
    store_element(to + first, even);
    store_element(to + first + 1, odd);
  }
}

/* One block per token; does nothing unless the token is the last of a pooled row. */
template <class T>
__global__ void mla_pool_kernel(StoreOp op) {
  const KvView& kv = op.kv;
  const TokenPlace at = place_of(op.batch, blockIdx.x);
  const int32_t index = kv.n_visible(at.t) - 1;
  if (index < 0 || index < kv.n_visible(at.t - 1)) return;
  const int32_t first = kv.cmp_stride * index, width = kv.pooled_dim();
  T* base = static_cast<T*>(kv.base);
  T* key = base + pooled_at(kv, op.layer, op.batch, at.seq, index, false);
  T* value = base + pooled_at(kv, op.layer, op.batch, at.seq, index, true);
  for (int32_t pair = threadIdx.x; pair < width / 2; pair += kThreads) {
    const int32_t i = 2 * pair;
    const bool rotary = i >= kv.latent;
    float k[2] = {}, v[2] = {};
    for (int32_t m = 0; m < kv.cmp_len; m++) {
      /* The key before rotation lies behind the rotated one. */
      const T* row = base + row_at(kv, op.layer, op.batch, at.seq, first + m) + i + (rotary ? kv.rope : 0);
      for (int j = 0; j < 2; j++) {
        const float x = load_element(row + j);
        k[j] = fmaf(op.cmp_k[m * width + i + j], x, k[j]);
        if (!rotary) v[j] = fmaf(op.cmp_v[m * kv.latent + i + j], x, v[j]);
      }
    }
    if (rotary) rotate_pair(k[0], k[1], op.batch.inv_freq[(i - kv.latent) / 2], first);
    for (int j = 0; j < 2; j++) {
      store_element(key + i + j, k[j]);
      if (!rotary) store_element(value + i + j, v[j]);
    }
  }
}

template <class T>
void store_as(Device& d, const StoreOp& op) {
  launch(d.stream, "mla_store_kernel", {op.batch.n_tokens, kThreads}, mla_store_kernel<T>, op);
  if (op.kv.cmp_len == 0) return;
  launch(d.stream, "mla_pool_kernel", {op.batch.n_tokens, kThreads}, mla_pool_kernel<T>, op);
}

}  // namespace

void mla_store(Device& d, const StoreOp& op) {
  if (op.kv.is_f32) {
    store_as<float>(d, op);
  } else {
    store_as<__half>(d, op);
  }
}

}  // namespace ek::cuda
