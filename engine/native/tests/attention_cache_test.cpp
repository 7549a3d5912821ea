/* What a cache may go through: rollback, forks, several sequences in a step, and values that are not numbers.
 */
#include "attention_model.h"

using namespace ek::test;

namespace {

constexpr int32_t kBlocks = 64;

struct Setup {
  const char* isa;
  ek_type cache;
  std::string name() const { return std::string(isa) + (cache == EK_F32 ? " f32: " : " f16: "); }
};

/* Tokens [start, start + n) of a sequence of `seed` on a fresh cache, after [0, start). */
std::vector<float> fresh(const Setup& s, const AttentionShape& shape, uint32_t seed, int32_t start,
                         int32_t n) {
  AttentionModel model(EK_CPU, s.isa, 2, shape, s.cache, kBlocks);
  const std::vector<int32_t> blocks = block_list(start + n, 1, 2);
  if (start > 0) model.store({{seed, 0, start, blocks}}, model.inputs({{seed, 0, start, blocks}}));
  return model.run({{seed, start, n, blocks}});
}

/* Tokens [0, kept) of seed 1, then some that are taken back, then [kept, kept + n) of seed 1 again. */
void test_rollback(const Setup& s, int32_t kept, int32_t n) {
  AttentionModel model(EK_CPU, s.isa, 2, kSmallShape, s.cache, kBlocks);
  const std::vector<int32_t> blocks = block_list(400, 1, 2);
  model.store({{1, 0, kept, blocks}}, model.inputs({{1, 0, kept, blocks}}));
  const std::vector<Part> taken_back{{2, kept, 50, blocks}};
  StepInputs in = model.inputs(taken_back);
  std::fill(in.kv_a.begin(), in.kv_a.end(), NAN);
  model.store(taken_back, in);
  expect(same_bits(model.run({{1, kept, n, blocks}}), fresh(s, kSmallShape, 1, kept, n)),
         s.name() + std::to_string(n) + " tokens after a rollback to " + std::to_string(kept) +
             " depend on what was taken back");
}

/* Two sequences share their first block and part from token 100 on. */
void test_fork(const Setup& s, int32_t n) {
  AttentionModel model(EK_CPU, s.isa, 2, kSmallShape, s.cache, kBlocks);
  const std::vector<int32_t> blocks{3, 9, 11, 12}, forked{3, 20, 21, 22};
  StepInputs shared = model.inputs({{1, 0, 100, blocks}});
  model.store({{1, 0, 100, blocks}}, shared);
  model.copy_block(20, 9);
  model.store({{2, 100, 50, forked}}, model.inputs({{2, 100, 50, forked}}));
  expect(same_bits(model.run({{1, 100, n, blocks}}), fresh(s, kSmallShape, 1, 100, n)),
         s.name() + "a sequence depends on what its fork computed");
  AttentionModel whole(EK_CPU, s.isa, 2, kSmallShape, s.cache, kBlocks);
  whole.store({{1, 0, 100, blocks}}, shared);
  whole.store({{2, 100, 50, blocks}}, whole.inputs({{2, 100, 50, blocks}}));
  expect(same_bits(model.run({{2, 150, n, forked}}), whole.run({{2, 150, n, blocks}})),
         s.name() + "a fork differs from a sequence of the same tokens");
}

/* Decode and prefill of several sequences in one step, against each alone. */
void test_mixed_step(const Setup& s, const AttentionShape& shape) {
  AttentionModel model(EK_CPU, s.isa, 2, shape, s.cache, kBlocks);
  std::vector<Part> parts{
      {1, 700, 1, {}}, {2, 0, 130, {}}, {3, 1100, 10, {}}, {4, 63, 1, {}}, {5, 64, 77, {}}};
  int32_t next = 0;
  for (Part& part : parts) {
    part.blocks = block_list(part.start + part.n, next);
    next += static_cast<int32_t>(part.blocks.size());
    const std::vector<Part> before{{part.seed, 0, part.start, part.blocks}};
    if (part.start > 0) model.store(before, model.inputs(before));
  }
  const std::vector<float> together = model.run(parts);
  size_t at = 0;
  for (const Part& part : parts) {
    const size_t size = static_cast<size_t>(part.n) * model.out_width();
    const std::vector<float> own(together.begin() + at, together.begin() + at + size);
    expect(same_bits(own, fresh(s, shape, part.seed, part.start, part.n)),
           s.name() + shape.name + ": sequence " + std::to_string(part.seed) + " depends on those beside it");
    at += size;
  }
}

enum class Input { query, gate, row };

/* Puts a bad value into one token's input; what depends on it must not be a number, and the rest unchanged.
 */
void test_bad_value(const Setup& s, Input input, float bad, int32_t n) {
  constexpr int32_t kStart = 300, kBad = 5;
  AttentionModel model(EK_CPU, s.isa, 2, kSmallShape, s.cache, kBlocks);
  const std::vector<int32_t> blocks = block_list(kStart + n, 1, 2);
  model.store({{1, 0, kStart, blocks}}, model.inputs({{1, 0, kStart, blocks}}));
  const std::vector<Part> parts{{1, kStart, n, blocks}};
  StepInputs in = model.inputs(parts);
  if (input == Input::query) in.q[kBad * model.q_width() + 3] = bad;
  if (input == Input::gate) in.gates[kBad * kSmallShape.heads * 3 + 1] = bad;
  if (input == Input::row) in.kv_a[kBad * model.kv_width() + 3] = bad;
  const std::vector<float> out = model.run(parts, in), good = fresh(s, kSmallShape, 1, kStart, n);
  const int32_t width = model.out_width();
  const std::string name = s.name() + "input " + std::to_string(static_cast<int>(input)) + " of " +
                           std::to_string(bad) + ", " + std::to_string(n) + " tokens: ";
  for (int32_t i = 0; i < n; i++) {
    for (int32_t c = 0; c < width; c++) {
      const bool same_head = c < kSmallShape.v;
      const bool touched = input == Input::row ? i >= kBad : i == kBad && same_head;
      const float value = out[i * width + c];
      if (touched) expect(!std::isfinite(value), name + "token " + std::to_string(i) + " became a number");
      /* A tile may pass a bad row on to the tokens before it, but never silence it. */
      if (touched || (input == Input::row && n >= 48)) continue;
      expect(value == good[i * width + c], name + "token " + std::to_string(i) + " changed");
    }
  }
}

void test_setup(const Setup& s) {
  for (int32_t n : {1, 40, 64}) {
    for (int32_t kept : {70, 64, 127, 300}) test_rollback(s, kept, n);
    test_fork(s, n);
  }
  test_mixed_step(s, kSmallShape);
  test_mixed_step(s, kModelShape);
  for (int32_t n : {10, 60}) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      test_bad_value(s, Input::query, bad, n);
      test_bad_value(s, Input::row, bad, n);
    }
    test_bad_value(s, Input::gate, NAN, n);
  }
}

}  // namespace

int main() {
  for (const char* isa : available_isas()) {
    for (ek_type cache : {EK_F32, EK_F16}) test_setup({isa, cache});
  }
  return failures == 0 ? 0 : 1;
}
