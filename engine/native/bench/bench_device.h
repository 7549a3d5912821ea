/* A context for the benchmark, and what it made: random weights and buffers, freed at the end. */
#ifndef EK_BENCH_DEVICE_H
#define EK_BENCH_DEVICE_H
#include <random>
#include <string>
#include <vector>

#include "engine_kernels.h"

namespace ek::bench {

/* Ends the program with the library's message unless the call worked. */
void must(ek_status status);

class Device {
 public:
  /* isa empty: the best of the machine. */
  Device(int n_threads, const std::string& isa, ek_device device = EK_CPU);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  ek_context* ctx() const { return ctx_; }
  /* A buffer of n floats, normally distributed. */
  ek_buffer* floats(size_t n, float deviation);
  /* n_matrices x (n_rows, n_cols), Q4_0 or F32, random values that keep the size of activations. */
  ek_weight* weight(ek_type type, int n_matrices, int n_rows, int n_cols);

 private:
  ek_context* ctx_ = nullptr;
  std::mt19937 random_{1};
  std::vector<ek_buffer*> buffers_;
  std::vector<ek_weight*> weights_;
};

/* The limits of the machine as ek_measure_limits saw them: the large read comes from memory or L3. */
struct Limits {
  double gb_per_s, gflop_per_s;
};

/* Prints a line per op and number of rows at the shapes of tidepool-mini. */
void bench_each_op(Device& device, const Limits& limits);

/* Prints tokens per second of decode at 1000 cached tokens and of prefill, and where a step's time goes. */
void bench_forward(Device& device, const Limits& limits);

}  // namespace ek::bench
#endif
