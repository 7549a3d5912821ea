/* Prefill speed of the shape of DeepSeek-Coder-V2-Lite with random weights.
 *
 *   cuda_bench_prefill [--types q4_k_m|q8_0|bf16]… [--tokens N]… [--behind N] [--chunk N] [--segment N]
 *                      [--dense] [--fim] [--kernels] [--json]
 *
 * Attention is sparse behind 16 384 tokens, or nowhere with --dense; the tokens are read behind N others, 0
 * unless told, that are in the cache. Prints per type and prompt length tokens
 * per second, the floating-point operations of the products and of attention per second, and their share of
 * the rate that the card's tensor cores reached in this run with the same instruction. --kernels:
 * microseconds of each kind of kernel in one more run, of the whole prompt.
 *
 * --fim: a completion step instead, 8192 tokens resident, 64 new, 24 decoded: milliseconds of both parts. */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "../cuda/ops/ops.h"
#include "../cuda/prefill/prefill.h"
#include "arguments.h"

namespace {

using namespace ek::cuda;

struct Options {
  std::vector<std::string> types;
  std::vector<int32_t> tokens;
  int32_t behind = 0, chunk = 8192, segment = 32768;
  bool dense = false, fim = false, kernels = false, json = false;
};

Options parse(int argc, char** argv) {
  Options o;
  for (ek::bench::Arguments a(argc, argv); a.next();) {
    if (a.is("--types")) {
      o.types.push_back(a.value());
    } else if (a.is("--tokens")) {
      o.tokens.push_back(a.number(1));
    } else if (a.is("--behind")) {
      o.behind = a.number(0);
    } else if (a.is("--chunk")) {
      o.chunk = a.number(1);
    } else if (a.is("--segment")) {
      o.segment = a.number(1);
    } else if (a.is("--dense")) {
      o.dense = true;
    } else if (a.is("--fim")) {
      o.fim = true;
    } else if (a.is("--kernels")) {
      o.kernels = true;
    } else if (a.is("--json")) {
      o.json = true;
    } else {
      a.refuse();
    }
  }
  if (o.types.empty()) o.types = {"q4_k_m"};
  if (o.tokens.empty()) o.tokens = {512, 8192, 32768, 131072};
  return o;
}

/* Best seconds of two runs from position `first` on; one for long prompts. */
double seconds_of(Device& d, LitePrefill& prefill, int32_t first, const std::vector<int32_t>& tokens) {
  double best = 1e9;
  for (int round = 0; round < (tokens.size() > 40000 ? 1 : 2); round++) {
    d.wait();
    const auto begin = std::chrono::steady_clock::now();
    prefill.run(first, tokens);
    d.wait();
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    best = std::min(best, time.count());
  }
  return best;
}

double milliseconds(const std::chrono::steady_clock::time_point& since) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since).count();
}

/* What a keystroke waits for: most of the prompt is still in the cache. */
void bench_fim(Device& d, const Options& o, const std::string& name) {
  constexpr int32_t kResident = 8192, kNew = 64, kDecoded = 24;
  const LiteShape shape = lite_shape(kResident + 2 * kNew);
  LiteDecoder decoder(d, shape, random_lite_weights(d, shape, lite_types(name), 1));
  LitePrefill prefill(d, decoder, std::min(o.chunk, kResident), o.segment);
  decoder.fill_cache(kResident, 1);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < kNew; i++) tokens.push_back(static_cast<int32_t>(i * 7919LL % shape.vocab));
  double read_ms = 0, total_ms = INFINITY;
  for (int round = 0; round < 6; round++) { /* the first loads the kernels and makes the decoder's graph */
    d.wait();
    const auto begin = std::chrono::steady_clock::now();
    prefill.run(kResident, tokens);
    decoder.token();
    const double read = milliseconds(begin);
    decoder.run(kDecoded);
    decoder.token();
    const double total = milliseconds(begin);
    if (total >= total_ms) continue;
    total_ms = total;
    read_ms = read;
  }
  std::printf(o.json ? "{\"types\":\"%s\",\"resident\":%d,\"new\":%d,\"decoded\":%d,\"readMs\":%.2f,"
                       "\"decodeMs\":%.2f,\"totalMs\":%.2f}\n"
                     : "%-7s fim: %d resident, %d new, %d decoded: read %.2f ms, decode %.2f ms, "
                       "together %.2f ms\n",
              name.c_str(), kResident, kNew, kDecoded, read_ms, total_ms - read_ms, total_ms);
  if (o.kernels) prefill.time_kernels(kResident, tokens);
}

void bench(Device& d, const Options& o, const std::string& name, double matrix_rate) {
  const int32_t most = *std::max_element(o.tokens.begin(), o.tokens.end());
  LiteShape shape = lite_shape(o.behind + most + 64);
  if (o.dense) shape.dense_len = 1 << 30;
  LiteDecoder decoder(d, shape, random_lite_weights(d, shape, lite_types(name), 1));
  LitePrefill prefill(d, decoder, std::min(o.chunk, most), o.segment);
  if (o.behind > 0) decoder.fill_cache(o.behind, 1);
  if (!o.json)
    std::printf("%s: workspace %.2f GB\n", name.c_str(), static_cast<double>(prefill.n_bytes()) * 1e-9);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < most; i++) tokens.push_back(static_cast<int32_t>(i * 7919LL % shape.vocab));
  prefill.run(o.behind, {tokens.begin(),
                         tokens.begin() + std::min(most, 256)}); /* the first launch of a kernel loads it */
  for (int32_t n : o.tokens) {
    const std::vector<int32_t> prompt(tokens.begin(), tokens.begin() + n);
    const double seconds = seconds_of(d, prefill, o.behind, prompt);
    const double rate = prefill.operations(o.behind, n) / seconds * 1e-12;
    int32_t bad = 0;
    for (float x : decoder.logits()) bad += !std::isfinite(x);
    std::printf(o.json ? "{\"types\":\"%s\",\"tokens\":%d,\"behind\":%d,\"chunk\":%d,\"tokensPerSecond\":%."
                         "0f,\"seconds\":%.4f,"
                         "\"tflopPerSecond\":%.1f,\"percentOfMatrixRate\":%.1f,\"logitsNotFinite\":%d}\n"
                       : "%-7s %7d tokens behind %d in chunks of %d: %8.0f tok/s  %8.4f s  %6.1f TFLOP/s  "
                         "%5.1f %% of the "
                         "matrix rate  %d bad logits\n",
                name.c_str(), n, o.behind, o.chunk, n / seconds, seconds, rate, 100 * rate / matrix_rate,
                bad);
    if (o.kernels) prefill.time_kernels(o.behind, prompt);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    const Options o = parse(argc, argv);
    Device d(0);
    const double matrix_rate = measure_matrix_rate(d);
    if (!o.json) std::printf("%s: %.0f TFLOP/s of bf16 products\n", d.properties.name, matrix_rate);
    for (const std::string& name : o.types) {
      if (o.fim) {
        bench_fim(d, o, name);
      } else {
        bench(d, o, name, matrix_rate);
      }
    }
    return 0;
  } catch (const std::bad_alloc&) {
    std::fprintf(
        stderr,
        "cuda_bench_prefill: the model, its cache and the workspace do not fit into the GPU's memory\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_bench_prefill: %s\n", e.what());
  }
  return 1;
}
