/* The ops that every backend is compared at, as functions of a device: same seeds, same inputs. */
#ifndef EK_TESTS_OP_CASES_H
#define EK_TESTS_OP_CASES_H
#include "device.h"

namespace ek::test {

inline std::vector<float> run_linear(Device& d, ek_type type, int rows, int out, int in) {
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * out, 3));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows + 1) * in, 1));
  const ek_buffer* bias = d.put(random_floats(out, 2));
  must(ek_linear(d.ctx, y, x, 1, d.weight(type, 1, out, in, 4, 0.1f), bias, rows, 1));
  return d.read(y, static_cast<size_t>(rows) * out);
}

inline std::vector<float> run_rmsnorm(Device& d, int rows, int dim) {
  ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 5, 30.0f));
  must(ek_rmsnorm(d.ctx, x, x, d.put(random_floats(dim, 6)), rows, dim, 1e-6f));
  return d.read(x, static_cast<size_t>(rows) * dim);
}

inline std::vector<float> run_ffn(Device& d, ek_type type, int rows, int ff, int dim) {
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * dim, 7));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 8));
  must(ek_ffn_swiglu(d.ctx, y, x, d.weight(type, 1, ff, dim, 9, 0.1f), d.weight(type, 1, ff, dim, 10, 0.1f),
                     d.weight(type, 1, dim, ff, 11, 0.1f), rows));
  return d.read(y, static_cast<size_t>(rows) * dim);
}

/* How experts are chosen. */
struct Routing {
  int32_t score_func, n_groups, top_groups;
  bool normalize, biased;
};
constexpr Routing kSigmoid{2, 1, 1, true, true};
constexpr Routing kRoutings[] = {{1, 1, 1, false, false},
                                 {1, 4, 2, false, false},
                                 {1, 4, 3, true, true},
                                 {2, 4, 2, true, true},
                                 {2, 8, 4, true, false}};

inline std::vector<float> run_moe(Device& d, ek_type type, int rows, bool shared,
                                  const Routing& how = kSigmoid) {
  const bool wide = ek::block_columns(type) == 256;
  const int dim = wide ? 256 : 64, ff = wide ? 256 : 32, n = 8;
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * dim, 12));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 13));
  ek_moe_params p{};
  p.router = d.weight(EK_F32, 1, n, dim, 14, 0.2f);
  if (how.biased) p.router_bias = d.put(random_floats(n, 15, 0.1f));
  p.gate = d.weight(type, n, ff, dim, 16, 0.2f);
  p.up = d.weight(type, n, ff, dim, 17, 0.2f);
  p.down = d.weight(type, n, dim, ff, 18, 0.2f);
  if (shared) {
    p.shared_gate = d.weight(type, 1, 2 * ff, dim, 19, 0.2f);
    p.shared_up = d.weight(type, 1, 2 * ff, dim, 20, 0.2f);
    p.shared_down = d.weight(type, 1, dim, 2 * ff, 21, 0.2f);
  }
  p.top_k = 3;
  p.score_func = how.score_func;
  p.n_groups = how.n_groups;
  p.top_groups = how.top_groups;
  p.normalize = shared && how.normalize ? 1 : 0;
  p.scale = 1.5f;
  must(ek_moe(d.ctx, y, x, &p, rows));
  return d.read(y, static_cast<size_t>(rows) * dim);
}

}  // namespace ek::test
#endif
