/* Steps of whole models through the C ABI, for tests. */
#ifndef EK_TESTS_MODEL_STEP_H
#define EK_TESTS_MODEL_STEP_H
#include <cstring>

#include "cuda_check.h"
#include "device.h"

namespace ek::test {

/* One sequence's part of a step, and behind how many of its last tokens logits are wanted. */
struct ModelPart {
  int32_t start;
  std::vector<int32_t> tokens, blocks;
  uint8_t wants = 1;
};

/* Rows of logits that a step gives. */
inline size_t wanted_rows(const std::vector<ModelPart>& parts) {
  size_t n = 0;
  for (const ModelPart& p : parts) n += p.wants;
  return n;
}

/* ek_model_step; logits (wanted_rows(parts), vocab). Checks that its choices are those of ek_argmax. */
inline ek_status step_model(ek_context* ctx, ek_model* model, const std::vector<ModelPart>& parts,
                            ek_buffer* logits, int32_t vocab) {
  std::vector<int32_t> start, n_new, n_blocks, blocks, tokens;
  std::vector<uint8_t> wants;
  for (const ModelPart& p : parts) {
    start.push_back(p.start);
    n_new.push_back(static_cast<int32_t>(p.tokens.size()));
    n_blocks.push_back(static_cast<int32_t>(p.blocks.size()));
    blocks.insert(blocks.end(), p.blocks.begin(), p.blocks.end());
    tokens.insert(tokens.end(), p.tokens.begin(), p.tokens.end());
    wants.push_back(p.wants);
  }
  const size_t n_rows = wanted_rows(parts);
  std::vector<int32_t> ids(n_rows, -1), later_ids(n_rows);
  std::vector<float> log_probs(n_rows), later_log_probs(n_rows);
  const ek_model_step_params step{static_cast<int32_t>(parts.size()),
                                  start.data(),
                                  n_new.data(),
                                  n_blocks.data(),
                                  blocks.data(),
                                  tokens.data(),
                                  wants.data(),
                                  n_rows == 0 ? nullptr : ids.data(),
                                  n_rows == 0 ? nullptr : log_probs.data()};
  const ek_status status = ek_model_step(ctx, model, &step, logits);
  if (status != EK_OK || n_rows == 0) return status;
  must(ek_argmax(ctx, logits, static_cast<int32_t>(n_rows), vocab, later_ids.data(), later_log_probs.data()));
  check(ids == later_ids && log_probs == later_log_probs, "a step chose other tokens than argmax");
  return status;
}

/* Whether two results, which are not empty, have the same bits. */
inline bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return !a.empty() && a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

/* Checks that a call was refused in words that mention `mention`. */
inline void refused(ek_status status, const char* mention) {
  check(status == EK_ERR_ARG && std::string(ek_last_error()).find(mention) != std::string::npos,
        std::string("expected a refusal that mentions \"") + mention + "\", got status " +
            std::to_string(status) + ": " + ek_last_error());
}

}  // namespace ek::test
#endif
