/* Decode speed of the shape of DeepSeek-Coder-V2-Lite with random weights.
 *
 *   cuda_bench_decode [--types q4_k_m|q8_0|bf16]… [--context N]… [--tokens N]… [--steps N] [--kernels]
 * [--json]
 *
 * --tokens: of a sequence that a step computes, as when drafts are checked; 1 unless said otherwise.
 * Prints per type and context tokens per second, the bytes that a token reads, their rate, and its share of
 * the copy rate that the card itself reached in this run. --kernels: microseconds of each kernel of a step,
 * without overlap. */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "../cuda/decode/lite.h"
#include "../cuda/ops/ops.h"
#include "arguments.h"

namespace {

using namespace ek::cuda;

struct Options {
  std::vector<std::string> types;
  std::vector<int32_t> contexts, tokens;
  int32_t steps = 300;
  bool kernels = false, json = false;
};

Options parse(int argc, char** argv) {
  Options o;
  for (ek::bench::Arguments a(argc, argv); a.next();) {
    if (a.is("--types")) {
      o.types.push_back(a.value());
    } else if (a.is("--context")) {
      o.contexts.push_back(a.number(0));
    } else if (a.is("--tokens")) {
      o.tokens.push_back(a.number(1));
    } else if (a.is("--steps")) {
      o.steps = a.number(1);
    } else if (a.is("--kernels")) {
      o.kernels = true;
    } else if (a.is("--json")) {
      o.json = true;
    } else {
      a.refuse();
    }
  }
  if (o.types.empty()) o.types = {"q4_k_m", "q8_0", "bf16"};
  if (o.contexts.empty()) o.contexts = {0, 4096, 16000, 32768, 131072};
  if (o.tokens.empty()) o.tokens = {1};
  return o;
}

/* Computes steps of n_tokens; of one token each on what the last one chose, with no word from the host. */
void run_steps(LiteDecoder& decoder, int32_t context, int32_t n_tokens, int32_t steps) {
  if (n_tokens == 1) return decoder.run(steps);
  std::vector<StepToken> tokens;
  for (int32_t i = 0; i < n_tokens; i++) tokens.push_back({i + 1, context + i, i > 0, true});
  for (int32_t i = 0; i < steps; i++) decoder.step(tokens);
}

/* Best seconds per step of three rounds. */
double seconds_per_step(Device& d, LiteDecoder& decoder, int32_t context, int32_t n_tokens, int32_t steps) {
  double best = 1e9;
  for (int round = 0; round < 3; round++) {
    decoder.set(1, context);
    run_steps(decoder, context, n_tokens, 3);
    d.wait();
    const auto begin = std::chrono::steady_clock::now();
    run_steps(decoder, context, n_tokens, steps);
    d.wait();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best = std::min(best, time.count() / steps);
  }
  return best;
}

/* One type, context and number of tokens. */
void bench_steps(Device& d, LiteDecoder& decoder, const Options& o, const std::string& name, int32_t context,
                 int32_t n_tokens, double copy_rate) {
  const double seconds = seconds_per_step(d, decoder, context, n_tokens, o.steps);
  const double bytes = decoder.weights.step_bytes + decoder.cache_bytes(context + o.steps / 2) * n_tokens;
  const double rate = bytes / seconds * 1e-9;
  int32_t bad = 0;
  for (float x : decoder.logits(n_tokens - 1)) bad += !std::isfinite(x);
  std::printf(o.json ? "{\"types\":\"%s\",\"context\":%d,\"tokensPerStep\":%d,\"tokensPerSecond\":%.1f,"
                       "\"usPerStep\":%.1f,\"gbPerStep\":%.3f,\"gbPerSecond\":%.0f,\"percentOfCopy\":%.1f,"
                       "\"logitsNotFinite\":%d}\n"
                     : "%-7s @%-7d %d a step %8.1f tok/s  %8.1f us  %6.3f GB  %6.0f GB/s  %5.1f %% of copy  "
                       "%d bad logits\n",
              name.c_str(), context, n_tokens, n_tokens / seconds, seconds * 1e6, bytes * 1e-9, rate,
              100 * rate / copy_rate, bad);
  if (o.kernels) decoder.time_kernels(context, n_tokens);
}

void bench(Device& d, const Options& o, const std::string& name, double copy_rate) {
  int32_t most = 0;
  for (int32_t context : o.contexts) most = std::max(most, context);
  const LiteShape shape = lite_shape(most + o.steps + 8);
  LiteDecoder decoder(d, shape, random_lite_weights(d, shape, lite_types(name), 1));
  decoder.fill_cache(shape.n_blocks * 64, 2);
  for (int32_t context : o.contexts) {
    for (int32_t n_tokens : o.tokens) bench_steps(d, decoder, o, name, context, n_tokens, copy_rate);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    const Options o = parse(argc, argv);
    Device d(0);
    double gb_per_s = 0, gflop_per_s = 0;
    measure_limits(d, size_t{4} << 30, &gb_per_s, &gflop_per_s);
    if (!o.json) std::printf("%s: copy %.0f GB/s, read and written\n", d.properties.name, gb_per_s);
    for (const std::string& name : o.types) bench(d, o, name, gb_per_s);
    return 0;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "cuda_bench_decode: the model and its cache do not fit into the GPU's memory\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_bench_decode: %s\n", e.what());
  }
  return 1;
}
