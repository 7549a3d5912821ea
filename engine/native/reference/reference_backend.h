/* Naive kernels in double, written from docs/model.md to be obviously right; every other backend is tested
 * against them. */
#ifndef EK_REFERENCE_BACKEND_H
#define EK_REFERENCE_BACKEND_H
#include "../core/host_backend.h"
#include "../core/quant.h"

namespace ek {

/* A weight in file layout. */
struct ReferenceWeight : Storage {
  WeightShape shape;
  std::vector<uint8_t> data;

  double at(int32_t matrix, int32_t row, int32_t col) const {
    const size_t index = static_cast<size_t>(matrix) * shape.n_rows + row;
    return element_of_row(shape.type, data.data() + index * row_bytes(shape.type, shape.n_cols), col);
  }
};

inline const ReferenceWeight& reference_weight(const ek_weight& w) {
  return static_cast<const ReferenceWeight&>(*w.storage);
}

/* W x of one matrix of a stack: x (n_cols) -> (n_rows). */
std::vector<double> matvec_ref(const ek_weight& w, int32_t matrix, const std::vector<double>& x);
double sigmoid_ref(double x);
/* down(silu(gate x) * up x) of one matrix of each stack. */
std::vector<double> swiglu_ref(const ek_weight& gate, const ek_weight& up, const ek_weight& down,
                               int32_t matrix, const std::vector<double>& x);

class ReferenceBackend final : public HostBackend {
 public:
  std::string describe() const override { return "reference, double, 1 thread"; }
  std::unique_ptr<Storage> make_weight(const WeightShape& shape, const uint8_t* data) override;
  void embed(float* out, const ek_weight& table, const int32_t* tokens, int32_t n_tokens) override;
  void rmsnorm(float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
               float eps) override;
  void linear(const LinearArgs& args) override;
  void ffn_swiglu(float* out, const float* x, const ek_weight& gate, const ek_weight& up,
                  const ek_weight& down, int32_t n_rows) override;
  void moe(float* out, const float* x, const ek_moe_params& params, int32_t n_rows) override;
  void mla_store(const StoreArgs& args) override;
  void nsa_attention(const AttentionArgs& args) override;
  void argmax(const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs) override;
  void measure_limits(size_t n_bytes, double* gb_per_s, double* gflop_per_s) override;
};

}  // namespace ek
#endif
