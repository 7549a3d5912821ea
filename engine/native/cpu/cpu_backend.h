/* The CPU backend: whole ops, as loops over items that a thread pool shares, on the kernels of one
 * instruction set. No sum is split over threads, so results do not depend on how many there are. */
#ifndef EK_CPU_BACKEND_H
#define EK_CPU_BACKEND_H
#include <vector>

#include "../core/host_backend.h"
#include "../core/quant.h"
#include "kernels.h"
#include "thread_pool.h"

namespace ek::cpu {

/* Groups of 16 rows, the last padded with zeros; within a group the row is the innermost index.
 * F32, F16: (n_cols, 16). Q8_0, per 32 columns: 16 f16 scales, then (32, 16) bytes.
 * Q4_0, per 32 columns: 16 f16 scales, then (4, 16) words of 8 consecutive columns, lowest nibble first. */
struct CpuWeight : Storage {
  WeightShape shape;
  std::vector<uint8_t> data;
  size_t group_bytes;
  int32_t n_groups; /* of one matrix */
  mutable std::unique_ptr<Storage> derived; /* what an op made of it on first use */

  const uint8_t* group(int32_t matrix, int32_t index) const {
    return data.data() + (static_cast<size_t>(matrix) * n_groups + index) * group_bytes;
  }
};

inline const CpuWeight& cpu_weight(const ek_weight& w) { return static_cast<const CpuWeight&>(*w.storage); }

inline int32_t round_up(int32_t n, int32_t to) { return (n + to - 1) / to * to; }

struct AttentionMemory;

class CpuBackend final : public HostBackend {
 public:
  CpuBackend(const Kernels& kernels, int n_threads)
      : k_(kernels), pool_(n_threads), scratch_(pool_.n_threads()) {}
  std::string describe() const override;
  std::unique_ptr<Storage> make_weight(const WeightShape& shape, const uint8_t* data) override;
  void prepare_batch(ek_batch& batch) override;
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

 private:
  /* out (n_rows, 16 * n) = x W^T for groups [first, first + n) of one matrix; uses the first 16 * n_cols
   * floats of the scratch. */
  void multiply(const CpuWeight& w, int32_t matrix, int32_t first, int32_t n, const float* x, size_t ldx,
                int32_t n_rows, float* out, size_t ldo, int thread);
  /* Makes room for n_floats in every thread before a loop, so that the loop cannot fail. */
  void reserve(size_t n_floats);
  float* scratch(int thread) { return scratch_[thread].data(); }
  /* out (n_rows, dim) = down(silu(gate x) * up x) of one matrix of each stack; hidden: 2 * n_rows * ff
   * floats. */
  void expert(const ek_weight& gate, const ek_weight& up, const ek_weight& down, int32_t matrix,
              const float* x, int32_t n_rows, float* out, float* hidden, int thread);

  const Kernels& k_;
  ThreadPool pool_;
  std::vector<std::vector<float>> scratch_;
  std::shared_ptr<AttentionMemory> attention_; /* made on first use */
};

}  // namespace ek::cpu
#endif
