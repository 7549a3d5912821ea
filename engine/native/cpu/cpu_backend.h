/* The CPU backend: whole ops, as loops over items that a thread pool shares, on
 * the kernels of one instruction set. No sum is split over threads, so results
 * do not depend on how many there are. */
#ifndef EK_CPU_BACKEND_H
#define EK_CPU_BACKEND_H
#include <algorithm>
#include <vector>

#include "../core/aligned.h"
#include "../core/host_backend.h"
#include "../core/quant.h"
#include "kernels.h"
#include "thread_pool.h"

namespace ek::cpu {

/* Groups of 16 rows, the last padded with zeros; within a group the row is the innermost index. F32, F16,
 * BF16: (n_cols, 16). Quantised: factors and scales of all columns, padded to a cache line; then the
 * integers. Of Q8_0 these are (32, 16) bytes per 32 columns, of the others (4, 16) words of 8 consecutive
 * columns, lowest nibble first, with the bits above the nibbles of 32 columns in words before them. pack.cpp
 * writes this, group_readers.inl reads it. */
struct CpuWeight : Storage {
  WeightShape shape;
  Aligned<uint8_t> data;
  size_t group_bytes;
  int32_t n_groups;                         /* of one matrix */
  mutable std::unique_ptr<Storage> derived; /* what an op made of it on first use */

  const uint8_t* group(int32_t matrix, int32_t index) const {
    return data.data() + (static_cast<size_t>(matrix) * n_groups + index) * group_bytes;
  }
};

inline const CpuWeight& cpu_weight(const ek_weight& w) { return static_cast<const CpuWeight&>(*w.storage); }

inline int32_t round_up(int32_t n, int32_t to) { return (n + to - 1) / to * to; }

constexpr int32_t kPanels = 2; /* groups that are unpacked together: the widest register tile */

inline size_t panel_floats(const CpuWeight& w) {
  return static_cast<size_t>(w.shape.n_cols) * kLanes * kPanels;
}

/* Rows per part when n rows are cut into even parts of at most `most`, which is
 * a multiple of 12. */
inline int32_t even_share(int32_t n, int32_t most) {
  const int32_t parts = (n + most - 1) / most;
  return round_up((n + parts - 1) / parts, 12); /* every register tile divides 12 */
}

/* Groups per item when few rows meet n_groups: small enough to share, large
 * enough to be worth it. */
inline int32_t group_chunk(int32_t n_groups) { return std::min(16, round_up((n_groups + 7) / 8, 4)); }

/* The three stacks of a gated feed-forward. */
struct FfnWeights {
  const CpuWeight &gate, &up, &down;
};

/* A range of groups or of rows, of one expert. */
struct Part {
  int32_t expert, begin, end;
  int32_t size() const { return end - begin; }
};

/* Which experts the rows of a step chose, and the rows of each expert. A pair
 * is a row and one of its top_k experts, or the shared expert as the last of
 * per_row. */
struct MoeRoute {
  int32_t per_row;
  std::vector<float> score;     /* (n_rows, n_experts) */
  std::vector<int32_t> experts; /* (n_rows, per_row): n_experts is the shared one */
  std::vector<float> weights;   /* (n_rows, per_row) */
  std::vector<int32_t> first;   /* (n_experts + 2): where the rows of an expert begin in `rows` */
  std::vector<int32_t> rows;    /* (n_rows * per_row): rows sorted by expert */
  std::vector<int32_t> place;   /* (n_rows, per_row): index in `rows` of a pair */
  std::vector<int32_t> next;    /* (n_experts + 2): used while sorting */
  std::vector<Part> parts;      /* items of a loop over experts */
};

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
  /* Makes room for n_floats in every thread before a loop, so that the loop
   * cannot fail. */
  void reserve(size_t n_floats);
  float* scratch(int thread) { return scratch_[thread].data(); }
  /* Rows of x are ldx floats apart. The first decodes the weights for kFewRows
   * rows at a time, the second unpacks them once for many rows. */
  void linear_few_rows(const LinearArgs& args, size_t ldx);
  void linear_panels(const LinearArgs& args, size_t ldx);
  /* out (n_rows, ldo) = x W^T for groups [first, first + n) of one matrix; uses
   * the first panel_floats(w) of the scratch. */
  void multiply(const CpuWeight& w, int32_t matrix, int32_t first, int32_t n, const float* x, size_t ldx,
                int32_t n_rows, float* out, size_t ldo, int thread);
  /* Groups [first, first + n) of hidden = silu(gate x) * up x, for few rows and
   * for many. up: room for 16 n floats per row of few, for 16 kPanels of many.
   */
  void gated_few_rows(const FfnWeights& w, const Part& part, int32_t matrix, const float* const* x,
                      float* const* hidden, int32_t n_rows, float* up);
  void gated_panels(const FfnWeights& w, const Part& part, int32_t matrix, const float* x, int32_t n_rows,
                    float* hidden, size_t ldh, float* up, int thread);
  void route(const float* x, const ek_moe_params& params, int32_t n_rows);
  void experts_few_rows(float* out, const float* x, const ek_moe_params& params, int32_t n_rows);
  /* Groups [first, first + n) of the down products of all pairs, into the same
   * columns of y. */
  void down_groups(const ek_moe_params& params, const float* hidden, size_t ldh, int32_t first, int32_t n,
                   float* y, size_t ldy);
  void experts_panels(float* out, const float* x, const ek_moe_params& params, int32_t n_rows);

  const Kernels& k_;
  ThreadPool pool_;
  std::vector<Aligned<float>> scratch_; /* per thread */
  Aligned<float> work_;                 /* of the op that runs */
  MoeRoute route_;
  std::shared_ptr<AttentionMemory> attention_; /* made on first use */
};

}  // namespace ek::cpu
#endif
