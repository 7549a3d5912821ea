/* Attention of every instruction set against the reference, and against itself however a prompt is cut. */
#include "attention_model.h"
#include "tolerance.h"

using namespace ek::test;

namespace {

/* Attention of the checked tokens of a case with inputs `in`, fed in steps of `step`; the tokens before are
 * only stored. */
std::vector<float> run_case(const AttentionCase& c, const StepInputs& in, ek_device device, const char* isa,
                            int threads, ek_type cache, int32_t step) {
  const std::vector<int32_t> blocks = block_list(c.n_tokens);
  AttentionModel model(device, isa, threads, c.shape, cache, static_cast<int32_t>(blocks.size()));
  const int32_t before = c.n_tokens - c.n_checked;
  if (before > 0) model.store({{7, 0, before, blocks}}, model.slice(in, 0, before));
  return model.run_cut({7, before, c.n_checked, blocks}, in, step);
}

void test_case(const AttentionCase& c, const StepInputs& in, ek_type cache,
               const std::vector<const char*>& isas) {
  const std::vector<float> expected = run_case(c, in, EK_REFERENCE, nullptr, 1, cache, c.n_checked);
  const Tolerance t = attention_tolerance(cache, c.q_scale);
  for (const char* isa : isas) {
    const std::string name = std::string(isa) + " " + c.shape.name + (cache == EK_F32 ? " f32" : " f16") +
                             ", " + std::to_string(c.n_tokens) + " tokens, queries of size " +
                             std::to_string(c.q_scale);
    const std::vector<float> whole = run_case(c, in, EK_CPU, isa, 1, cache, c.n_checked);
    expect_close(name, whole, expected, t.absolute, t.relative);
    expect(same_bits(run_case(c, in, EK_CPU, isa, 2, cache, c.n_checked), whole),
           name + ": 1 and 2 threads give other bits");
    expect(same_bits(run_case(c, in, EK_CPU, isa, 5, cache, c.n_checked), whole),
           name + ": 1 and 5 threads give other bits");
    if (c.n_checked == 1) continue;
    const std::vector<float> single = run_case(c, in, EK_CPU, isa, 2, cache, 1);
    expect_close(name + ", token by token", single, expected, t.absolute, t.relative);
    expect(same_bits(run_case(c, in, EK_CPU, isa, 2, cache, 33), single) || c.n_checked < 33,
           name + ": 33 tokens at a time give other bits than one");
    if (c.n_checked > 50) {
      expect_close(name + ", in chunks", run_case(c, in, EK_CPU, isa, 2, cache, 50), expected, t.absolute,
                   t.relative);
    }
  }
}

}  // namespace

int main() {
  const std::vector<const char*> isas = available_isas();
  std::vector<AttentionCase> cases = attention_cases();
  for (const AttentionCase& c : dense_cases()) cases.push_back(c);
  for (const AttentionCase& c : cases) {
    const StepInputs in = make_inputs(c.shape, c.q_scale, {{7, 0, c.n_tokens, {}}});
    for (ek_type cache : {EK_F32, EK_F16}) test_case(c, in, cache, isas);
  }
  return failures == 0 ? 0 : 1;
}
