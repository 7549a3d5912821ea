/* Cosines and sines of a batch: computed once, used by every layer. */
#ifndef EK_CPU_BATCH_TURNS_H
#define EK_CPU_BATCH_TURNS_H
#include <vector>

#include "../core/backend.h"
#include "../core/host_kv.h"

namespace ek::cpu {

class BatchTurns : public Storage {
 public:
  explicit BatchTurns(const ek_batch& batch);
  /* (n_tokens, rope): cosine and sine of each pair of the batch's tokens. */
  const float* of_tokens() const { return tokens_.data(); }
  /* (n, rope): the same of the pooled rows that the batch's tokens complete, sequence by sequence. */
  const float* of_pooled(const ek_batch& batch, const HostKv& kv);

 private:
  std::vector<float> tokens_;
  std::vector<float> pooled_;
  int32_t cmp_len_ = 0, cmp_stride_ = 0; /* what pooled_ was made for */
};

/* to (rope) = the pairs of from (rope), each turned by its angle and scaled. */
inline void turn_row(const float* from, const float* turns, int32_t rope, float scale, float* to) {
  for (int32_t i = 0; i < rope; i += 2) {
    const float even = from[i], odd = from[i + 1];
    to[i] = (even * turns[i] - odd * turns[i + 1]) * scale;
    to[i + 1] = (even * turns[i + 1] + odd * turns[i]) * scale;
  }
}

}  // namespace ek::cpu
#endif
