#include "cuda_backend.h"

#include <algorithm>
#include <cstring>

#include "../ops/ops.h"

namespace ek::cuda {

std::string CudaBackend::describe() const {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  return format("CUDA, %s, compute capability %d.%d, %.0f GiB, driver for CUDA %d.%d",
                device_.properties.name, device_.properties.major, device_.properties.minor,
                static_cast<double>(device_.properties.totalGlobalMem) / (1 << 30), driver / 1000,
                driver % 1000 / 10);
}

void* CudaBackend::alloc(size_t n_bytes) {
  require_alive();
  void* out = nullptr;
  check(cudaMalloc(&out, n_bytes), "cudaMalloc");
  return out;
}

void CudaBackend::free(void* data) { cudaFree(data); }

void CudaBackend::upload(void* dst, const void* src, size_t n_bytes) {
  require_alive();
  check(cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyHostToDevice, device_.stream), "uploading");
  device_.wait(); /* src is the caller's again */
}

void CudaBackend::download(void* dst, const void* src, size_t n_bytes) {
  require_alive();
  check(cudaMemcpyAsync(dst, src, n_bytes, cudaMemcpyDeviceToHost, device_.stream), "downloading");
  device_.wait();
}

std::unique_ptr<Storage> CudaBackend::make_weight(const WeightShape& shape, const uint8_t* data) {
  const size_t n_bytes = packed_bytes(shape);
  auto weight = std::make_unique<CudaWeight>();
  weight->memory = DeviceMemory(n_bytes);
  weight->view = view_planes(shape, weight->memory.as<uint8_t>());
  if (!has_planes(shape.type)) {
    upload(weight->memory.as<uint8_t>(), data,
           row_bytes(shape.type, shape.n_cols) * shape.n_rows * static_cast<size_t>(shape.n_matrices));
    return weight;
  }
  std::vector<uint8_t> planes(n_bytes);
  pack_planes(shape, data, planes.data());
  upload(weight->memory.as<uint8_t>(), planes.data(), n_bytes);
  return weight;
}

std::unique_ptr<Storage> CudaBackend::make_kv(const ek_kv_params& p, size_t* n_bytes) {
  auto kv = std::make_unique<CudaKv>();
  const size_t element = p.type == EK_F32 ? 4 : 2;
  const size_t n_pooled = p.cmp_len == 0 ? 0 : static_cast<size_t>(EK_KV_BLOCK / p.cmp_stride);
  const size_t latent = static_cast<size_t>(p.latent_dim), rope = static_cast<size_t>(p.rope_dim);
  KvView& v = kv->view;
  v.pooled_k_at = (latent + 2 * rope) * EK_KV_BLOCK;
  v.pooled_v_at = v.pooled_k_at + (latent + rope) * n_pooled;
  v.block_elements = (v.pooled_v_at + latent * n_pooled + 63) / 64 * 64; /* blocks begin at 128 bytes */
  v.layer_elements = v.block_elements * static_cast<size_t>(p.n_blocks);
  v.latent = p.latent_dim;
  v.rope = p.rope_dim;
  v.cmp_len = p.cmp_len;
  v.cmp_stride = p.cmp_stride;
  v.is_f32 = p.type == EK_F32;
  *n_bytes = v.layer_elements * element * static_cast<size_t>(p.n_layers);
  kv->memory = DeviceMemory(*n_bytes);
  check(cudaMemsetAsync(kv->memory.as<uint8_t>(), 0, *n_bytes, device_.stream), "clearing the cache");
  v.base = kv->memory.as<uint8_t>();
  return kv;
}

void CudaBackend::copy_block(ek_kv_cache& cache, int32_t dst, int32_t src) {
  require_alive();
  if (dst == src) return;
  const KvView& v = kv_view(cache);
  const size_t element = v.is_f32 ? 4 : 2, pitch = v.layer_elements * element;
  uint8_t* base = static_cast<uint8_t*>(v.base);
  check(cudaMemcpy2DAsync(base + v.block_at(0, dst) * element, pitch, base + v.block_at(0, src) * element,
                          pitch, v.block_elements * element, static_cast<size_t>(cache.params.n_layers),
                          cudaMemcpyDeviceToDevice, device_.stream),
        "copying a block of the cache");
}

void CudaBackend::prepare_batch(ek_batch& batch) {
  require_alive();
  if (!batch.storage) batch.storage = std::make_unique<CudaBatch>();
  CudaBatch& to = static_cast<CudaBatch&>(*batch.storage);
  const size_t n_seqs = batch.sequences.size(), n_tokens = static_cast<size_t>(batch.n_tokens);
  const size_t seq_bytes = n_seqs * sizeof(DeviceSequence), freq_bytes = batch.inv_freq.size() * 4;
  const size_t blocks_at = seq_bytes, owner_at = blocks_at + batch.blocks.size() * 4;
  const size_t freq_at = owner_at + n_tokens * 4, total = freq_at + freq_bytes;
  if (to.memory.n_bytes() < total) to.memory = DeviceMemory(total * 2);

  std::vector<uint8_t> host(total);
  int32_t max_position = 0;
  for (size_t s = 0; s < n_seqs; s++) {
    const Sequence& from = batch.sequences[s];
    const DeviceSequence seq{from.start, from.n_new, from.first_row,
                             static_cast<int32_t>(from.blocks - batch.blocks.data()), from.n_blocks};
    std::memcpy(&host[s * sizeof seq], &seq, sizeof seq);
    const std::vector<int32_t> owner(static_cast<size_t>(from.n_new), static_cast<int32_t>(s));
    std::memcpy(&host[owner_at + static_cast<size_t>(from.first_row) * 4], owner.data(), owner.size() * 4);
    max_position = std::max(max_position, from.start + from.n_new - 1);
  }
  std::memcpy(&host[blocks_at], batch.blocks.data(), batch.blocks.size() * 4);
  std::memcpy(&host[freq_at], batch.inv_freq.data(), freq_bytes);
  upload(to.memory.as<uint8_t>(), host.data(), total);
  to.view = {to.memory.as<const DeviceSequence>(),
             to.memory.as<const int32_t>(blocks_at),
             to.memory.as<const int32_t>(owner_at),
             to.memory.as<const float>(freq_at),
             batch.n_tokens,
             static_cast<int32_t>(n_seqs),
             max_position};
}

const int32_t* CudaBackend::stage_ids(const int32_t* ids, int32_t n) {
  require_alive();
  device_.scratch.reset();
  int32_t* out = device_.scratch.take<int32_t>(static_cast<size_t>(n));
  upload(out, ids, static_cast<size_t>(n) * 4);
  return out;
}

void CudaBackend::embed(float* out, const ek_weight& table, const int32_t* tokens, int32_t n_tokens) {
  cuda::embed(device_, out, weight_view(table), stage_ids(tokens, n_tokens), n_tokens);
}

void CudaBackend::rmsnorm(float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
                          float eps) {
  require_alive();
  cuda::rmsnorm(device_, out, x, weight, n_rows, dim, eps);
}

void CudaBackend::linear(const LinearArgs& a) {
  require_alive();
  cuda::linear(device_, {a.out, a.x, weight_view(*a.w), a.bias, a.n_rows, a.accumulate});
}

void CudaBackend::gather_rows(float* out, const float* x, const int32_t* rows, int32_t n_rows, int32_t dim) {
  cuda::gather_rows(device_, out, x, stage_ids(rows, n_rows), n_rows, dim);
}

void CudaBackend::concat(float* out, const float* a, const float* b, int32_t n_rows, int32_t dim) {
  require_alive();
  cuda::concat(device_, out, a, b, n_rows, dim);
}

void CudaBackend::ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                             const ek_weight& down, int32_t n_rows) {
  require_alive();
  feed_forward(device_, {out, x, weight_view(gate), weight_view(up), weight_view(down), n_rows});
}

void CudaBackend::moe(float* out, const float* x, const ek_moe_params& p, int32_t n_rows) {
  require_alive();
  const float* bias = p.router_bias == nullptr ? nullptr : static_cast<const float*>(p.router_bias->data);
  const Routing how{p.top_k, p.score_func, p.n_groups, p.top_groups, p.normalize != 0, p.scale};
  experts(device_, {out, x, weight_view(*p.router), bias, weight_view(*p.gate), weight_view(*p.up),
                    weight_view(*p.down), how, n_rows});
  if (p.shared_gate != nullptr) ffn_swiglu(out, x, *p.shared_gate, *p.shared_up, *p.shared_down, n_rows);
}

void CudaBackend::mla_store(const StoreArgs& a) {
  require_alive();
  cuda::mla_store(device_,
                  {kv_view(*a.kv), a.layer, batch_view(*a.batch), a.kv_a, a.norm, a.cmp_k, a.cmp_v, a.eps});
}

void CudaBackend::nsa_attention(const AttentionArgs& a) {
  require_alive();
  device_.scratch.reset();
  cuda::nsa_attention(device_, {a.out, a.q, a.gates, kv_view(*a.kv), a.layer, batch_view(*a.batch),
                                weight_view(*a.kv_b), a.nsa});
}

void CudaBackend::argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) {
  require_alive();
  device_.scratch.reset();
  const size_t n = static_cast<size_t>(n_rows);
  int32_t* best = device_.scratch.take<int32_t>(2 * n); /* ids, then log-probabilities: one download */
  cuda::argmax(device_, logits, n_rows, vocab, best, reinterpret_cast<float*>(best + n));
  std::vector<int32_t> host(2 * n);
  download(host.data(), best, host.size() * 4);
  std::memcpy(ids, host.data(), n * 4);
  std::memcpy(log_probs, host.data() + n, n * 4);
}

void CudaBackend::measure_limits(size_t n_bytes, double* gb_per_s, double* gflop_per_s) {
  require_alive();
  cuda::measure_limits(device_, n_bytes, gb_per_s, gflop_per_s);
}

}  // namespace ek::cuda
