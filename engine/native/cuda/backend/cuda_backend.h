/* The CUDA backend: whole ops of core/backend.h on one device and one stream. */
#ifndef EK_CUDA_BACKEND_CUDA_BACKEND_H
#define EK_CUDA_BACKEND_CUDA_BACKEND_H
#include "../device/device.h"
#include "../device/kv_storage.h"
#include "../weights/weight.h"

namespace ek::cuda {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int ordinal) : device_(ordinal) {}
  std::string describe() const override;
  void* alloc(size_t n_bytes) override;
  void free(void* data) override;
  void upload(void* dst, const void* src, size_t n_bytes) override;
  void download(void* dst, const void* src, size_t n_bytes) override;
  std::unique_ptr<Storage> make_weight(const WeightShape& shape, const uint8_t* data) override;
  std::unique_ptr<Storage> make_kv(const ek_kv_params& params, size_t* n_bytes) override;
  void copy_block(ek_kv_cache& kv, int32_t dst_block, int32_t src_block) override;
  void prepare_batch(ek_batch& batch) override;
  void embed(float* out, const ek_weight& table, const int32_t* tokens, int32_t n_tokens) override;
  void rmsnorm(float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
               float eps) override;
  void linear(const LinearArgs& args) override;
  void gather_rows(float* out, const float* x, const int32_t* rows, int32_t n_rows, int32_t dim) override;
  void concat(float* out, const float* a, const float* b, int32_t n_rows, int32_t dim) override;
  void ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                  const ek_weight& down, int32_t n_rows) override;
  void moe(float* out, const float* x, const ek_moe_params& params, int32_t n_rows) override;
  void mla_store(const StoreArgs& args) override;
  void nsa_attention(const AttentionArgs& args) override;
  void argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) override;
  void synchronise() override { device_.wait(); }
  void measure_limits(size_t n_bytes, double* gb_per_s, double* gflop_per_s) override;
  double measure_matrix_rate() override;
  ek_attention_times measure_attention(int32_t n_tokens, int32_t batch, int32_t rounds) override;
  void device_memory(size_t* free_bytes, size_t* total_bytes) override;
  ek_model_memory plan_model(const ek_model_params& params) override;
  std::unique_ptr<Storage> make_model(const ek_model_params& params,
                                      const ek_model_weights& weights) override;
  std::unique_ptr<Storage> make_random_model(const ek_model_params& params, const char* types,
                                             uint32_t seed) override;
  void model_copy_block(ek_model& model, int32_t dst_block, int32_t src_block) override;
  ModelCost model_cost(const ek_model& model, const ModelStep& step) override;
  void model_step(ek_model& model, const ModelStep& step) override;
  void model_fill_cache(ek_model& model, int32_t n_tokens, uint32_t seed) override;

 private:
  /* Ids from the host in scratch memory, after its reset. */
  const int32_t* stage_ids(const int32_t* ids, int32_t n);

  Device device_;
};

}  // namespace ek::cuda
#endif
