/* The host's side of the CUDA backend: finds the shared object, and forwards every call through its `run`. */
#include <dlfcn.h>

#include <cstdlib>
#include <new>

#include "../core/backend.h"
#include "../core/check.h"
#include "plugin.h"

namespace ek {

namespace {

const ek_cuda_plugin_table* plugin = nullptr;

/* Runs body inside the shared object and throws on this side what it threw there. */
template <class Body>
void inside(const ek_cuda_plugin_table& table, Body&& body) {
  char message[512] = "";
  const auto call = [](void* argument) { (*static_cast<Body*>(argument))(); };
  switch (table.run(call, &body, message, sizeof message)) {
    case EK_OK:
      return;
    case EK_ERR_ARG:
      throw ArgError(message);
    case EK_ERR_OOM:
      throw std::bad_alloc();
    case EK_ERR_DEVICE:
      throw DeviceError(message);
    case EK_ERR_INTERNAL:
      throw std::runtime_error(message);
  }
}

/* The folder of the library or program that holds this function, with its last slash. */
std::string own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return "";
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

/* Where the shared object lies. TIDEPOOL_CUDA_PLUGIN names another one, which needs no driver: tests bring
 * kernels that run on the CPU. */
std::string plugin_path() {
  const char* other = std::getenv("TIDEPOOL_CUDA_PLUGIN");
  if (other != nullptr && *other != 0) return other;
  if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) == nullptr)
    throw DeviceError("this machine has no NVIDIA driver: libcuda.so.1 cannot be loaded; use the CPU");
  return own_folder() + "libtidepool_cuda.so";
}

const ek_cuda_plugin_table& load_plugin() {
  if (plugin != nullptr) return *plugin;
  const std::string path = plugin_path();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw DeviceError(format("no CUDA kernels in this build: %s", dlerror()));
  const auto* table = static_cast<const ek_cuda_plugin_table*>(dlsym(library, EK_CUDA_PLUGIN_SYMBOL));
  if (table == nullptr || table->version != EK_CUDA_PLUGIN_VERSION)
    throw DeviceError(format("%s does not belong to this build of the engine", path.c_str()));
  plugin = table;
  return *plugin;
}

class PluginBackend final : public Backend {
 public:
  PluginBackend(const ek_cuda_plugin_table& table, int32_t ordinal) : table_(table) {
    inside(table_, [&] { inner_.reset(table_.make_backend(ordinal)); });
  }
  std::string describe() const override { return inner_->describe(); }
  void* alloc(size_t n_bytes) override {
    void* out = nullptr;
    inside(table_, [&] { out = inner_->alloc(n_bytes); });
    return out;
  }
  void free(void* data) override { inner_->free(data); }
  void upload(void* dst, const void* src, size_t n_bytes) override {
    inside(table_, [&] { inner_->upload(dst, src, n_bytes); });
  }
  void download(void* dst, const void* src, size_t n_bytes) override {
    inside(table_, [&] { inner_->download(dst, src, n_bytes); });
  }
  std::unique_ptr<Storage> make_weight(const WeightShape& shape, const uint8_t* data) override {
    std::unique_ptr<Storage> out;
    inside(table_, [&] { out = inner_->make_weight(shape, data); });
    return out;
  }
  std::unique_ptr<Storage> make_kv(const ek_kv_params& params, size_t* n_bytes) override {
    std::unique_ptr<Storage> out;
    inside(table_, [&] { out = inner_->make_kv(params, n_bytes); });
    return out;
  }
  void copy_block(ek_kv_cache& kv, int32_t dst_block, int32_t src_block) override {
    inside(table_, [&] { inner_->copy_block(kv, dst_block, src_block); });
  }
  void prepare_batch(ek_batch& batch) override {
    inside(table_, [&] { inner_->prepare_batch(batch); });
  }
  void embed(float* out, const ek_weight& table, const int32_t* tokens, int32_t n_tokens) override {
    inside(table_, [&] { inner_->embed(out, table, tokens, n_tokens); });
  }
  void rmsnorm(float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
               float eps) override {
    inside(table_, [&] { inner_->rmsnorm(out, x, weight, n_rows, dim, eps); });
  }
  void linear(const LinearArgs& args) override {
    inside(table_, [&] { inner_->linear(args); });
  }
  void gather_rows(float* out, const float* x, const int32_t* rows, int32_t n_rows, int32_t dim) override {
    inside(table_, [&] { inner_->gather_rows(out, x, rows, n_rows, dim); });
  }
  void concat(float* out, const float* a, const float* b, int32_t n_rows, int32_t dim) override {
    inside(table_, [&] { inner_->concat(out, a, b, n_rows, dim); });
  }
  void ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                  const ek_weight& down, int32_t n_rows) override {
    inside(table_, [&] { inner_->ffn_swiglu(out, x, gate, up, down, n_rows); });
  }
  void moe(float* out, const float* x, const ek_moe_params& params, int32_t n_rows) override {
    inside(table_, [&] { inner_->moe(out, x, params, n_rows); });
  }
  void mla_store(const StoreArgs& args) override {
    inside(table_, [&] { inner_->mla_store(args); });
  }
  void nsa_attention(const AttentionArgs& args) override {
    inside(table_, [&] { inner_->nsa_attention(args); });
  }
  void argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) override {
    inside(table_, [&] { inner_->argmax(logits, n_rows, vocab, ids, log_probs); });
  }
  void synchronise() override {
    inside(table_, [&] { inner_->synchronise(); });
  }
  void measure_limits(size_t n_bytes, double* gb_per_s, double* gflop_per_s) override {
    inside(table_, [&] { inner_->measure_limits(n_bytes, gb_per_s, gflop_per_s); });
  }
  double measure_matrix_rate() override {
    double out = 0;
    inside(table_, [&] { out = inner_->measure_matrix_rate(); });
    return out;
  }
  ek_attention_times measure_attention(int32_t n_tokens, int32_t batch, int32_t rounds) override {
    ek_attention_times out{};
    inside(table_, [&] { out = inner_->measure_attention(n_tokens, batch, rounds); });
    return out;
  }
  void device_memory(size_t* free_bytes, size_t* total_bytes) override {
    inside(table_, [&] { inner_->device_memory(free_bytes, total_bytes); });
  }
  ek_model_memory plan_model(const ek_model_params& params) override {
    ek_model_memory out{};
    inside(table_, [&] { out = inner_->plan_model(params); });
    return out;
  }
  std::unique_ptr<Storage> make_model(const ek_model_params& params,
                                      const ek_model_weights& weights) override {
    std::unique_ptr<Storage> out;
    inside(table_, [&] { out = inner_->make_model(params, weights); });
    return out;
  }
  std::unique_ptr<Storage> make_random_model(const ek_model_params& params, const char* types,
                                             uint32_t seed) override {
    std::unique_ptr<Storage> out;
    inside(table_, [&] { out = inner_->make_random_model(params, types, seed); });
    return out;
  }
  void model_copy_block(ek_model& model, int32_t dst, int32_t src) override {
    inside(table_, [&] { inner_->model_copy_block(model, dst, src); });
  }
  ModelCost model_cost(const ek_model& model, const ModelStep& step) override {
    ModelCost out{};
    inside(table_, [&] { out = inner_->model_cost(model, step); });
    return out;
  }
  void model_step(ek_model& model, const ModelStep& step) override {
    inside(table_, [&] { inner_->model_step(model, step); });
  }
  void model_fill_cache(ek_model& model, int32_t n_tokens, uint32_t seed) override {
    inside(table_, [&] { inner_->model_fill_cache(model, n_tokens, seed); });
  }

 private:
  const ek_cuda_plugin_table& table_;
  std::unique_ptr<Backend> inner_;
};

}  // namespace

std::shared_ptr<Backend> make_cuda_backend(int32_t ordinal) {
  return std::make_shared<PluginBackend>(load_plugin(), ordinal);
}

}  // namespace ek
