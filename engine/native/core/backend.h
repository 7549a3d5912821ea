/* What a device implements. abi.cpp has checked every argument before it calls one of these, so a backend
 * computes and throws only when the device fails. Handles of the C header are defined here. */
#ifndef EK_CORE_BACKEND_H
#define EK_CORE_BACKEND_H
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "engine_kernels.h"
#include "error.h"
#include "shapes.h"

namespace ek {

/* A backend's own form of a weight, a cache or rotary tables; only the backend that made it looks inside. */
struct Storage {
  virtual ~Storage() = default;
};

class Backend;

}  // namespace ek

struct ek_buffer {
  std::shared_ptr<ek::Backend> backend;
  void* data;
  size_t n_bytes;
};

struct ek_mapping {
  const uint8_t* data;
  size_t n_bytes;
};

struct ek_weight {
  std::shared_ptr<ek::Backend> backend;
  ek::WeightShape shape;
  std::unique_ptr<ek::Storage> storage;
};

struct ek_rope {
  std::shared_ptr<ek::Backend> backend;
  std::vector<float> inv_freq; /* (dim / 2) */
};

struct ek_kv_cache {
  std::shared_ptr<ek::Backend> backend;
  ek_kv_params params;
  size_t n_bytes;
  std::unique_ptr<ek::Storage> storage;
};

struct ek_batch {
  std::shared_ptr<ek::Backend> backend;
  std::vector<ek::Sequence> sequences;
  std::vector<int32_t> blocks;
  std::vector<float> inv_freq;
  int32_t n_tokens = 0;
  int32_t max_block = -1;
  std::unique_ptr<ek::Storage> storage;
};

struct ek_model {
  std::shared_ptr<ek::Backend> backend;
  ek_model_params params; /* inv_freq is null */
  std::unique_ptr<ek::Storage> storage;
};

namespace ek {

/* One step of a whole model, checked. */
struct ModelStep {
  const std::vector<Sequence>& sequences;
  const int32_t* tokens; /* of all sequences, in order */
  const uint8_t* wants;  /* (n_seqs) how many of the last tokens */
  float* logits;         /* (n_wanted, vocab), or null when none is wanted */
  int32_t n_wanted;
  int32_t* ids; /* (n_wanted) on the host: the best token of each row of logits; or null */
  float* log_probs;
};

/* What a step reads and computes, at least. */
struct ModelCost {
  double bytes, flops;
};

struct LinearArgs {
  float* out;
  const float* x; /* first row that is read */
  const ek_weight* w;
  const float* bias; /* or null */
  int32_t n_rows;
  bool accumulate;
};

struct StoreArgs {
  ek_kv_cache* kv;
  int32_t layer;
  const ek_batch* batch;
  const float* kv_a;
  const float* norm;
  const float* cmp_k; /* null when the cache has no pooled rows */
  const float* cmp_v;
  float eps;
};

struct AttentionArgs {
  float* out;
  const float* q;
  const float* gates; /* null: every block is selected, and nothing else is added */
  const ek_kv_cache* kv;
  int32_t layer;
  const ek_batch* batch;
  const ek_weight* kv_b;
  ek_nsa_params nsa;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string describe() const = 0;

  virtual void* alloc(size_t n_bytes) = 0;
  virtual void free(void* data) = 0;
  virtual void upload(void* dst, const void* src, size_t n_bytes) = 0;
  virtual void download(void* dst, const void* src, size_t n_bytes) = 0;

  virtual std::unique_ptr<Storage> make_weight(const WeightShape& shape, const uint8_t* data) = 0;
  virtual std::unique_ptr<Storage> make_kv(const ek_kv_params& params, size_t* n_bytes) = 0;
  virtual void copy_block(ek_kv_cache& kv, int32_t dst_block, int32_t src_block) = 0;
  /* Called after the batch's host fields were set. */
  virtual void prepare_batch(ek_batch& batch) = 0;

  virtual void embed(float* out, const ek_weight& table, const int32_t* tokens, int32_t n_tokens) = 0;
  virtual void rmsnorm(float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
                       float eps) = 0;
  virtual void linear(const LinearArgs& args) = 0;
  virtual void gather_rows(float* out, const float* x, const int32_t* rows, int32_t n_rows, int32_t dim) = 0;
  virtual void concat(float* out, const float* a, const float* b, int32_t n_rows, int32_t dim) = 0;
  virtual void ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                          const ek_weight& down, int32_t n_rows) = 0;
  virtual void moe(float* out, const float* x, const ek_moe_params& params, int32_t n_rows) = 0;
  virtual void mla_store(const StoreArgs& args) = 0;
  virtual void nsa_attention(const AttentionArgs& args) = 0;
  virtual void argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) = 0;
  /* Returns when everything issued before has run. */
  virtual void synchronise() = 0;
  virtual void measure_limits(size_t n_bytes, double* gb_per_s, double* gflop_per_s) = 0;
  virtual double measure_matrix_rate() { throw ArgError("this device's ops use no matrix units"); }
  virtual ek_attention_times measure_attention(int32_t, int32_t, int32_t) {
    throw ArgError("this device has no kernels for the attention of DeepSeek-Coder-V2-Lite alone");
  }
  /* Leaves zeros where the device has no memory of its own. */
  virtual void device_memory(size_t*, size_t*) {}

  /* Whole models: only devices with fused kernels have them, and every function throws elsewhere. */
  virtual ek_model_memory plan_model(const ek_model_params&) { no_models(); }
  virtual std::unique_ptr<Storage> make_model(const ek_model_params&, const ek_model_weights&) {
    no_models();
  }
  virtual std::unique_ptr<Storage> make_random_model(const ek_model_params&, const char*, uint32_t) {
    no_models();
  }
  virtual void model_copy_block(ek_model&, int32_t, int32_t) { no_models(); }
  virtual ModelCost model_cost(const ek_model&, const ModelStep&) { no_models(); }
  virtual void model_step(ek_model&, const ModelStep&) { no_models(); }
  virtual void model_fill_cache(ek_model&, int32_t, uint32_t) { no_models(); }

 private:
  [[noreturn]] static void no_models() {
    throw ArgError("expected a device with fused kernels for whole models, found one that has ops alone");
  }
};

std::shared_ptr<Backend> make_reference_backend();
/* isa null: the best; throws ArgError for an unknown one, DeviceError for one that the machine lacks. */
std::shared_ptr<Backend> make_cpu_backend(int32_t n_threads, const char* isa);
/* Throws DeviceError when there is no driver, no such GPU, or no CUDA kernels in this build. */
std::shared_ptr<Backend> make_cuda_backend(int32_t ordinal);

}  // namespace ek
#endif
