/* What the kernels cost at the shapes of tidepool-mini, beside what the machine can do.
 *
 *   node scripts/native.mjs && build/native/bench_ops [--threads N] [--isa scalar|avx2|avx512|neon]
 * [--forward] [--cuda]
 *
 * Prints the limits of the machine, a line per op and number of rows, and a whole forward pass with random
 * weights: decode at 1000 cached tokens and prefill of 2000 tokens, with the share of each op. --forward
 * leaves the single ops out. The machine must be idle; compare two builds alternately, several times each. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "bench_device.h"

int main(int argc, char** argv) {
  int n_threads = 0;
  bool ops = true;
  ek_device on = EK_CPU;
  std::string isa;
  for (int i = 1; i < argc; i++) {
    if (std::strcmp(argv[i], "--forward") == 0) {
      ops = false;
    } else if (std::strcmp(argv[i], "--cuda") == 0) {
      on = EK_CUDA;
    } else if (std::strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
      n_threads = std::atoi(argv[++i]);
    } else if (std::strcmp(argv[i], "--isa") == 0 && i + 1 < argc) {
      isa = argv[++i];
    } else {
      std::fprintf(stderr, "bench_ops: expected --threads N, --isa NAME, --forward or --cuda, found %s\n",
                   argv[i]);
      return 2;
    }
  }
  ek::bench::Device device(n_threads, isa, on);
  ek::bench::Limits limits{};
  ek::bench::must(ek_measure_limits(device.ctx(), on == EK_CPU ? size_t{24} << 20 : size_t{2} << 30,
                                    &limits.gb_per_s, &limits.gflop_per_s));
  std::printf("%s: moves %.1f GB/s, %.0f GFLOP/s of f32\n", ek_context_describe(device.ctx()),
              limits.gb_per_s, limits.gflop_per_s);
  if (ops) ek::bench::bench_each_op(device, limits);
  ek::bench::bench_forward(device, limits);
  return 0;
}
