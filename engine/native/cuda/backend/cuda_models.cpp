/* Whole models on the CUDA backend, and the card's memory that they are planned for. */
#include "../model/lite_model.h"
#include "../model/narrow_model.h"
#include "../nsa/measure.h"
#include "../ops/ops.h"
#include "cuda_backend.h"

namespace ek::cuda {

namespace {

FusedModel& fused(const ek_model& model) { return static_cast<FusedModel&>(*model.storage); }

/* Whether the kernels of narrow models are those to ask: native sparse attention has no others. */
bool is_narrow(const ek_model_params& params) { return params.sparse.cmp_len > 0; }

}  // namespace

double CudaBackend::measure_matrix_rate() {
  require_alive();
  return cuda::measure_matrix_rate(device_);
}

void CudaBackend::device_memory(size_t* free_bytes, size_t* total_bytes) {
  require_alive();
  check(cudaMemGetInfo(free_bytes, total_bytes), "asking for free memory");
}

ek_model_memory CudaBackend::plan_model(const ek_model_params& params) {
  if (is_narrow(params)) return narrow::memory_of(narrow::shape_of(params), params.chunk);
  return memory_of(shape_of(params), params.chunk);
}

std::unique_ptr<Storage> CudaBackend::make_model(const ek_model_params& params,
                                                 const ek_model_weights& weights) {
  require_alive();
  if (is_narrow(params))
    return std::make_unique<narrow::Model>(device_, params, narrow::weights_of(params, weights));
  return std::make_unique<LiteModel>(device_, params, weights_of(params, weights));
}

std::unique_ptr<Storage> CudaBackend::make_random_model(const ek_model_params& params, const char* types,
                                                        uint32_t seed) {
  require_alive();
  EK_REQUIRE(!is_narrow(params),
             "random weights are made for DeepSeek-Coder-V2-Lite's kind of model, found %s",
             "native sparse attention");
  const LiteTypes mix = lite_types(types);
  return std::make_unique<LiteModel>(device_, params,
                                     random_lite_weights(device_, shape_of(params), mix, seed));
}

void CudaBackend::model_copy_block(ek_model& model, int32_t dst_block, int32_t src_block) {
  require_alive();
  fused(model).copy_block(dst_block, src_block);
}

ModelCost CudaBackend::model_cost(const ek_model& model, const ModelStep& step) {
  return fused(model).cost(step);
}

void CudaBackend::model_step(ek_model& model, const ModelStep& step) {
  require_alive();
  fused(model).begin(step);
  if (step.ids == nullptr || step.n_wanted == 0) return device_.wait();
  argmax(step.logits, step.n_wanted, model.params.vocab, step.ids, step.log_probs); /* waits */
}

void CudaBackend::model_fill_cache(ek_model& model, int32_t n_tokens, uint32_t seed) {
  require_alive();
  fused(model).fill_cache(n_tokens, seed);
  device_.wait();
}

ek_attention_times CudaBackend::measure_attention(int32_t n_tokens, int32_t batch, int32_t rounds) {
  require_alive();
  const AttentionTimes t = cuda::measure_attention(device_, {n_tokens, batch, rounds});
  const double dense_us = batch == 0 ? std::min(t.dense_us, t.chunk_us) : t.dense_us;
  return {dense_us,       t.sparse_us,        t.shared_us,         t.dense_bytes,
          t.sparse_bytes, t.dense_operations, t.sparse_operations, t.shared_operations};
}

}  // namespace ek::cuda
