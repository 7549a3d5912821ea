/* Every instruction set of the CPU backend against the reference, over shapes that do not fit the tiles. */
#include "op_cases.h"

using namespace ek::test;

namespace {

template <class Op>
void against_reference(const char* isa, const std::string& name, double absolute, double relative, Op&& op) {
  Device ref(EK_REFERENCE, nullptr, 1), one(EK_CPU, isa, 1), two(EK_CPU, isa, 2);
  const std::vector<float> expected = op(ref), first = op(one), second = op(two);
  expect_close(std::string(isa) + " " + name, first, expected, absolute, relative);
  expect(first.size() == second.size() && std::memcmp(first.data(), second.data(), first.size() * 4) == 0,
         std::string(isa) + " " + name + ": 1 and 2 threads give other bits");
}

void test_isa(const char* isa) {
  for (ek_type type : kWeightTypes) {
    const std::string t = " type " + std::to_string(type);
    const int width = ek::block_columns(type) == 256 ? 512 : 96;
    /* 33 rows are many to every op; more show only what tiles do at their edges, whatever the type. */
    const std::vector<int> counts =
        type == EK_Q4_0 || type == EK_Q8_0 ? std::vector{1, 3, 13, 241} : std::vector{1, 13, 33};
    for (int rows : counts) {
      against_reference(isa, "linear" + t, 2e-4, 2e-4,
                        [&](Device& d) { return run_linear(d, type, rows, 37, width); });
      against_reference(isa, "moe" + t, 5e-3, 5e-4,
                        [&](Device& d) { return run_moe(d, type, rows, rows % 2 == 1); });
    }
    against_reference(isa, "ffn" + t, 5e-4, 5e-4,
                      [&](Device& d) { return run_ffn(d, type, 5, width == 512 ? 256 : 32, width); });
  }
  for (const Routing& r : kRoutings) {
    const std::string name = "moe of " + std::to_string(r.top_groups) + " of " + std::to_string(r.n_groups) +
                             " groups, score " + std::to_string(r.score_func);
    for (int rows : {1, 40})
      against_reference(isa, name, 5e-3, 5e-4, [&](Device& d) { return run_moe(d, EK_F32, rows, true, r); });
  }
  against_reference(isa, "linear of odd width", 2e-4, 2e-4,
                    [](Device& d) { return run_linear(d, EK_F32, 2, 1, 7); });
  against_reference(isa, "ffn of odd width", 2e-4, 2e-4,
                    [](Device& d) { return run_ffn(d, EK_F32, 1, 5, 7); });
  for (int dim : {1, 17, 384}) {
    against_reference(isa, "rmsnorm", 1e-5, 1e-5, [&](Device& d) { return run_rmsnorm(d, 3, dim); });
  }
}

}  // namespace

int main() {
  for (const char* isa : available_isas()) test_isa(isa);
  return failures == 0 ? 0 : 1;
}
