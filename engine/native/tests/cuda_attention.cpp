/* Attention of the CUDA backend against the reference over all cases, and against itself however a prompt is
 * cut; rollback, forks and steps of several sequences. On a GPU: scripts/gpu.sh; emulated: ctest. */
#include <future>

#include "attention_model.h"
#include "cuda_check.h"
#include "tolerance.h"

using namespace ek::test;

namespace {

struct Run {
  AttentionCase c;
  ek_type cache;
  StepInputs in;
  std::future<std::vector<float>> expected;
  std::string name() const {
    return std::string(c.shape.name) + (cache == EK_F32 ? " f32, " : " f16, ") + std::to_string(c.n_tokens) +
           " tokens, queries of size " + std::to_string(static_cast<int>(c.q_scale));
  }
};

std::vector<float> run_case(const Run& run, ek_device device, int32_t step) {
  const std::vector<int32_t> blocks = block_list(run.c.n_tokens);
  AttentionModel model(device, nullptr, 1, run.c.shape, run.cache, static_cast<int32_t>(blocks.size()));
  const int32_t before = run.c.n_tokens - run.c.n_checked;
  if (before > 0) model.store({{7, 0, before, blocks}}, model.slice(run.in, 0, before));
  return model.run_cut({7, before, run.c.n_checked, blocks}, run.in, step);
}

/* Cases that take long under emulation, and lengths whose neighbour is tested. */
bool left_out(const AttentionCase& c) {
  return static_cast<int64_t>(c.n_tokens) * c.n_checked > 5000 || (c.n_tokens > 1 && c.n_tokens % 32 != 1);
}

std::vector<Run> all_runs() {
  std::vector<Run> runs;
  std::vector<AttentionCase> cases = attention_cases();
  for (const AttentionCase& c : dense_cases()) cases.push_back(c);
  for (const AttentionCase& c : cases) {
    if (kSmallShapes && left_out(c)) continue;
    for (ek_type cache : {EK_F32, EK_F16}) {
      runs.push_back({c, cache, make_inputs(c.shape, c.q_scale, {{7, 0, c.n_tokens, {}}}), {}});
    }
  }
  for (Run& run : runs) {
    run.expected =
        std::async(std::launch::async, [&run] { return run_case(run, EK_REFERENCE, run.c.n_checked); });
  }
  return runs;
}

void test_case(Run& run) {
  const std::vector<float> expected = run.expected.get(), whole = run_case(run, EK_CUDA, run.c.n_checked);
  const Tolerance t = attention_tolerance(run.cache, run.c.q_scale);
  check_close(run.name(), whole, expected, t.absolute, t.relative);
  check(same_bits(run_case(run, EK_CUDA, run.c.n_checked), whole),
        run.name() + ": a second run gives other bits");
  if (run.c.n_checked > 33)
    check_close(run.name() + ", in steps of 33", run_case(run, EK_CUDA, 33), expected, t.absolute,
                t.relative);
  if (run.c.n_checked > 1 && run.c.n_checked <= (kSmallShapes ? 33 : 70))
    check_close(run.name() + ", token by token", run_case(run, EK_CUDA, 1), expected, t.absolute, t.relative);
}

constexpr int32_t kBlocks = 64;

std::vector<float> fresh(const AttentionShape& shape, uint32_t seed, int32_t start, int32_t n) {
  AttentionModel model(EK_CUDA, nullptr, 0, shape, EK_F16, kBlocks);
  const std::vector<int32_t> blocks = block_list(start + n, 1, 2);
  if (start > 0) model.store({{seed, 0, start, blocks}}, model.inputs({{seed, 0, start, blocks}}));
  return model.run({{seed, start, n, blocks}});
}

/* Tokens that were NaN and are taken back leave no trace. */
void test_rollback(int32_t kept, int32_t n) {
  AttentionModel model(EK_CUDA, nullptr, 0, kSmallShape, EK_F16, kBlocks);
  const std::vector<int32_t> blocks = block_list(400, 1, 2);
  model.store({{1, 0, kept, blocks}}, model.inputs({{1, 0, kept, blocks}}));
  const std::vector<Part> taken_back{{2, kept, 50, blocks}};
  StepInputs in = model.inputs(taken_back);
  std::fill(in.kv_a.begin(), in.kv_a.end(), NAN);
  model.store(taken_back, in);
  check(same_bits(model.run({{1, kept, n, blocks}}), fresh(kSmallShape, 1, kept, n)),
        std::to_string(n) + " tokens after a rollback to " + std::to_string(kept) +
            " depend on what was taken back");
}

void test_fork(int32_t n) {
  AttentionModel model(EK_CUDA, nullptr, 0, kSmallShape, EK_F16, kBlocks);
  const std::vector<int32_t> blocks{3, 9, 11, 12}, forked{3, 20, 21, 22};
  model.store({{1, 0, 100, blocks}}, model.inputs({{1, 0, 100, blocks}}));
  model.copy_block(20, 9);
  model.store({{2, 100, 50, forked}}, model.inputs({{2, 100, 50, forked}}));
  check(same_bits(model.run({{1, 100, n, blocks}}), fresh(kSmallShape, 1, 100, n)),
        "a sequence depends on what its fork computed");
}

void test_mixed_step(const AttentionShape& shape) {
  AttentionModel model(EK_CUDA, nullptr, 0, shape, EK_F16, kBlocks);
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
  const Tolerance t = attention_tolerance(EK_F16, 1.0f);
  size_t at = 0;
  for (const Part& part : parts) {
    const size_t size = static_cast<size_t>(part.n) * model.out_width();
    const std::vector<float> own(together.begin() + at, together.begin() + at + size);
    check_close(std::string(shape.name) + ": sequence " + std::to_string(part.seed) + " beside others", own,
                fresh(shape, part.seed, part.start, part.n), t.absolute, t.relative);
    at += size;
  }
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  for (int32_t kept : {70, 64, 127, 300}) test_rollback(kept, 40);
  test_fork(1);
  test_fork(40);
  test_mixed_step(kSmallShape);
  if (!kSmallShapes) test_mixed_step(kModelShape);
  std::vector<Run> runs = all_runs();
  for (Run& run : runs) test_case(run);
  return summary("cuda_attention");
}
