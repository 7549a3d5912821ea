/* Attention of a run of new tokens with expanded keys and values: dense, or native sparse attention, where
 * every token selects for itself (docs/decisions/0009), or the first of 128 for all of them
 * (docs/decisions/0013). */
#ifndef EK_CUDA_NSA_PREFILL_H
#define EK_CUDA_NSA_PREFILL_H
#include <functional>
#include <memory>
#include <vector>

#include "../device/device.h"
#include "../prefill/expanded.h"
#include "prefill_queries.h"
#include "rule.h"

namespace ek::cuda {

struct PrefillBuffers;

class PrefillAttention {
 public:
  /* Workspace for runs of at most most_queries tokens that end at most_tokens at most. part: tokens whose
   * scores with pooled rows are kept at a time; group: tokens whose selected blocks are turned into lists of
   * the tokens of each block. Both are multiples of kTileQueries, and nothing but memory and speed depends on
   * them. */
  PrefillAttention(Device& d, int32_t most_queries, int32_t most_tokens, const NsaRule& rule = {},
                   int32_t part = 8192, int32_t group = 32768);
  ~PrefillAttention();
  PrefillAttention(const PrefillAttention&) = delete;
  PrefillAttention& operator=(const PrefillAttention&) = delete;

  /* Every token over all before and itself. */
  void dense(const PrefillQueries& q, const ExpandedRows& rows) const;
  /* Pooled rows, selected blocks and window. Bits do not depend on where a prompt is cut into runs. Where
   * tokens share a choice, a run that begins inside of a tile must go on where the one before ended. */
  void sparse(const PrefillQueries& q, const ExpandedRows& rows, const ExpandedRows& pooled) const;

  /* Of the last call of sparse, what each token attends to; waits. */
  std::vector<std::vector<int32_t>> selected(int32_t first, int32_t end) const;

  /* Operations of the products that the rule asks for, over positions [first, end). */
  static double dense_operations(int32_t first, int32_t end);
  double sparse_operations(int32_t first, int32_t end) const;

  /* Called after each launch; for timing. While there is one, kernels run one after the other. */
  std::function<void(const char*)> after;

 private:
  void check_run(const PrefillQueries& q) const;
  void sparse_shared(const PrefillQueries& q, const ExpandedRows& rows, const ExpandedRows& pooled) const;
  /* The pooled branch of the queries [first, end) of a run, and their lists. */
  void select_group(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& pooled, int32_t first,
                    int32_t end) const;
  /* Parts of the blocks that they chose. */
  void attend_chosen(cudaStream_t stream, const PrefillQueries& q, const ExpandedRows& rows, int32_t first,
                     int32_t end) const;
  void mark(const char* name) const {
    if (after) after(name);
  }

  Device& device_;
  int32_t most_queries_, most_tokens_, part_, group_;
  NsaRule rule_;
  std::unique_ptr<PrefillBuffers> b_;
};

}  // namespace ek::cuda
#endif
