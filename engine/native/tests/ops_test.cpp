/* Every instruction set of the CPU backend against the reference, over shapes that do not fit the tiles. */
#include "device.h"

using namespace ek::test;

namespace {

std::vector<float> run_linear(Device& d, ek_type type, int rows, int out, int in) {
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * out, 3));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows + 1) * in, 1));
  const ek_buffer* bias = d.put(random_floats(out, 2));
  must(ek_linear(d.ctx, y, x, 1, d.weight(type, 1, out, in, 4, 0.1f), bias, rows, 1));
  return d.read(y, static_cast<size_t>(rows) * out);
}

std::vector<float> run_rmsnorm(Device& d, int rows, int dim) {
  ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 5, 30.0f));
  must(ek_rmsnorm(d.ctx, x, x, d.put(random_floats(dim, 6)), rows, dim, 1e-6f));
  return d.read(x, static_cast<size_t>(rows) * dim);
}

std::vector<float> run_ffn(Device& d, ek_type type, int rows, int ff, int dim) {
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * dim, 7));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 8));
  must(ek_ffn_swiglu(d.ctx, y, x, d.weight(type, 1, ff, dim, 9, 0.1f), d.weight(type, 1, ff, dim, 10, 0.1f),
                     d.weight(type, 1, dim, ff, 11, 0.1f), rows));
  return d.read(y, static_cast<size_t>(rows) * dim);
}

std::vector<float> run_moe(Device& d, ek_type type, int rows, bool shared) {
  const int dim = 64, ff = 32, n = 8;
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * dim, 12));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 13));
  ek_moe_params p{};
  p.router = d.weight(EK_F32, 1, n, dim, 14, 0.2f);
  p.router_bias = d.put(random_floats(n, 15, 0.1f));
  p.gate = d.weight(type, n, ff, dim, 16, 0.2f);
  p.up = d.weight(type, n, ff, dim, 17, 0.2f);
  p.down = d.weight(type, n, dim, ff, 18, 0.2f);
  if (shared) {
    p.shared_gate = d.weight(type, 1, 2 * ff, dim, 19, 0.2f);
    p.shared_up = d.weight(type, 1, 2 * ff, dim, 20, 0.2f);
    p.shared_down = d.weight(type, 1, dim, 2 * ff, 21, 0.2f);
  }
  p.top_k = 3;
  p.score_func = 2;
  p.normalize = shared ? 1 : 0;
  p.scale = 1.5f;
  must(ek_moe(d.ctx, y, x, &p, rows));
  return d.read(y, static_cast<size_t>(rows) * dim);
}

template <class Op>
void against_reference(const char* isa, const std::string& name, double absolute, double relative, Op&& op) {
  Device ref(EK_REFERENCE, nullptr, 1), one(EK_CPU, isa, 1), two(EK_CPU, isa, 2);
  const std::vector<float> expected = op(ref), first = op(one), second = op(two);
  expect_close(std::string(isa) + " " + name, first, expected, absolute, relative);
  expect(first.size() == second.size() && std::memcmp(first.data(), second.data(), first.size() * 4) == 0,
         std::string(isa) + " " + name + ": 1 and 2 threads give other bits");
}

void test_isa(const char* isa) {
  for (ek_type type : {EK_F32, EK_F16, EK_Q4_0, EK_Q8_0}) {
    const std::string t = " type " + std::to_string(type);
    for (int rows : {1, 3, 13, 241}) {
      against_reference(isa, "linear" + t, 2e-4, 2e-4,
                        [&](Device& d) { return run_linear(d, type, rows, 37, 96); });
      against_reference(isa, "moe" + t, 5e-3, 5e-4,
                        [&](Device& d) { return run_moe(d, type, rows, rows % 2 == 1); });
    }
    against_reference(isa, "ffn" + t, 5e-4, 5e-4, [&](Device& d) { return run_ffn(d, type, 5, 32, 96); });
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
