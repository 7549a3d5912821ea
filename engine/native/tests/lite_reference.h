/* A decoder of the architecture of cuda/decode/lite.h in double on the host, token by token, on the same
 * weights. It rounds where the kernels store bf16: cache rows, pooled rows and absorbed queries. */
#ifndef EK_TESTS_LITE_REFERENCE_H
#define EK_TESTS_LITE_REFERENCE_H
#include "../cuda/decode/lite.h"

namespace ek::test {

/* A stack of matrices as plain numbers. */
struct HostMatrix {
  int32_t n_rows = 0, n_cols = 0;
  std::vector<float> values;

  /* y = matrix m times x. */
  std::vector<double> times(int32_t m, const std::vector<double>& x) const;
};

struct HostLayer {
  std::vector<float> attn_norm, kv_norm, ffn_norm;
  HostMatrix q, kv_a, k_b, v_b, out, gate, up, down, shared_gate, shared_up, shared_down, router;
  bool dense;
  std::vector<std::vector<double>> rows; /* cache, (latent + rope) each */
};

class LiteReference {
 public:
  LiteReference(const cuda::LiteShape& shape, const cuda::LiteWeights& weights);
  /* Rows (n, latent + rope) of a layer's cache, as if their tokens had been read. */
  void set_rows(int32_t layer, const std::vector<float>& rows);
  /* Logits after `token` at the next position. */
  std::vector<double> step(int32_t token);
  const std::vector<std::vector<double>>& rows(int32_t layer) const {
    return layers_[static_cast<size_t>(layer)].rows;
  }

 private:
  void attend(HostLayer& layer, int32_t index, std::vector<double>& x);
  void feed_forward(const HostLayer& layer, std::vector<double>& x) const;
  /* Positions that the last token attends to; scores of all heads with all rows are for choosing. */
  std::vector<int32_t> chosen_rows(const HostLayer& layer, int32_t index,
                                   const std::vector<std::vector<double>>& query) const;

  cuda::LiteShape shape_;
  std::vector<HostLayer> layers_;
  HostMatrix embedding_, head_;
  std::vector<float> norm_;
};

}  // namespace ek::test
#endif
