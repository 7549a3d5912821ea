/* Attention alone of the shape of DeepSeek-Coder-V2-Lite, one layer: our dense kernels, and native sparse
 * attention of 16 selected blocks of 64 tokens (--selected N), pooled rows of 32 every 16, and a window of
 * 512. In prefill every token selects for itself ("sparse"), or 128 share what the first of them selects
 * ("shared").
 *
 *   cuda_bench_attention [--tokens N]… [--batch N]… [--selected N] [--kernels] [--json]
 *
 * --batch 0 is prefill: causal, 16 heads of 192 (keys) and 128 (values), expanded; milliseconds are those of
 * a layer, for comparison with other implementations of the same shape. Others decode one token of each of N
 * sequences, in absorbed form over cached rows of 576. Rates of dense attention count the operations and
 * bytes that it needs, those of sparse attention what its rule asks for; percent are of what the card itself
 * reached in this run: bytes read and written by a copy, and products of bf16. --kernels: microseconds of
 * each kernel, without overlap. */
#include <cstring>

#include "../cuda/nsa/measure.h"
#include "../cuda/ops/ops.h"
#include "arguments.h"

namespace {

using namespace ek::cuda;

struct Options {
  std::vector<int32_t> tokens, batches;
  NsaRule rule;
  bool kernels = false, json = false;
};

Options parse(int argc, char** argv) {
  Options o;
  for (ek::bench::Arguments a(argc, argv); a.next();) {
    if (a.is("--tokens")) {
      o.tokens.push_back(a.number(1));
    } else if (a.is("--batch")) {
      o.batches.push_back(a.number(0));
    } else if (a.is("--selected")) {
      o.rule.selected = a.number(1);
    } else if (a.is("--kernels")) {
      o.kernels = true;
    } else if (a.is("--json")) {
      o.json = true;
    } else {
      a.refuse();
    }
  }
  if (o.tokens.empty()) o.tokens = {8192, 16384, 32768, 65536};
  if (o.batches.empty()) o.batches = {0, 1, 16};
  return o;
}

struct Limits {
  double copy_gb, matrix_tflop;
};

/* One kind of attention: microseconds, and its rates beside the card's. */
void print_row(const Options& o, const AttentionMeasure& m, const char* kind, double us, double operations,
               double bytes, const Limits& limits) {
  const double tflop = operations / us * 1e-6, gb = bytes / us * 1e-3;
  const char* phase = m.batch == 0 ? "prefill" : "decode";
  if (o.json) {
    std::printf(
        "{\"phase\":\"%s\",\"tokens\":%d,\"batch\":%d,\"kind\":\"%s\",\"us\":%.2f,"
        "\"tflopPerSecond\":%.2f,\"percentOfMatrixRate\":%.1f,\"gbPerSecond\":%.0f,"
        "\"percentOfCopy\":%.1f}\n",
        phase, m.tokens, m.batch, kind, us, tflop, 100 * tflop / limits.matrix_tflop, gb,
        100 * gb / limits.copy_gb);
  } else if (m.batch == 0) {
    std::printf("prefill  %6d tokens  %-7s %10.3f ms a layer  %7.1f TFLOP/s  %5.1f %% of the matrix rate\n",
                m.tokens, kind, us * 1e-3, tflop, 100 * tflop / limits.matrix_tflop);
  } else {
    std::printf(
        "decode   %6d tokens x %-2d  %-7s %9.2f us  %7.0f GB/s  %5.1f %% of copy  %7.1f TFLOP/s  %5.1f "
        "%% of the matrix rate\n",
        m.tokens, m.batch, kind, us, gb, 100 * gb / limits.copy_gb, tflop, 100 * tflop / limits.matrix_tflop);
  }
}

void print_prefill_ratios(const Options& o, int32_t tokens, const AttentionTimes& t) {
  const double dense = std::min(t.dense_us, t.chunk_us);
  std::printf(
      o.json
          ? "{\"phase\":\"prefill\",\"tokens\":%d,\"batch\":0,\"ratio\":%.2f,\"ratioOfOperations\":%.2f,"
            "\"overlap\":%.3f,\"sharedRatio\":%.2f,\"sharedRatioOfOperations\":%.2f}\n"
          : "         %6d tokens  sparse is %.2f times as fast as the better dense kernel, operations allow "
            "%.2f; neighbours share %.3f of the blocks that they choose; shared is %.2f times as fast, "
            "operations allow %.2f\n",
      tokens, dense / t.sparse_us, t.dense_operations / t.sparse_operations, t.overlap, dense / t.shared_us,
      t.dense_operations / t.shared_operations);
}

void bench(Device& d, const Options& o, int32_t tokens, int32_t batch, const Limits& limits) {
  AttentionMeasure m{tokens, batch};
  m.print_kernels = o.kernels && !o.json;
  m.rule = o.rule;
  const AttentionTimes t = measure_attention(d, m);
  print_row(o, m, "dense", t.dense_us, t.dense_operations, t.dense_bytes, limits);
  if (batch == 0) print_row(o, m, "model", t.chunk_us, t.dense_operations, 0, limits);
  print_row(o, m, "sparse", t.sparse_us, t.sparse_operations, t.sparse_bytes, limits);
  if (batch == 0) {
    print_row(o, m, "shared", t.shared_us, t.shared_operations, 0, limits);
    print_prefill_ratios(o, tokens, t);
  } else {
    const double ratio = t.dense_us / t.sparse_us;
    const double most = t.dense_bytes / t.sparse_bytes;
    std::printf(
        o.json ? "{\"phase\":\"decode\",\"tokens\":%d,\"batch\":%d,\"ratio\":%.2f,\"ratioOfBytes\":%.2f}\n"
               : "         %6d tokens x %-2d  sparse is %.2f times as fast, bytes allow %.2f\n",
        tokens, batch, ratio, most);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    const Options o = parse(argc, argv);
    Device d(0);
    Limits limits{0, measure_matrix_rate(d)};
    double gflop_per_s = 0;
    measure_limits(d, size_t{4} << 30, &limits.copy_gb, &gflop_per_s);
    if (!o.json)
      std::printf("%s: copy %.0f GB/s, read and written; %.0f TFLOP/s of bf16 products\n", d.properties.name,
                  limits.copy_gb, limits.matrix_tflop);
    for (int32_t batch : o.batches) {
      for (int32_t tokens : o.tokens) bench(d, o, tokens, batch, limits);
    }
    return 0;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "cuda_bench_attention: the rows do not fit into the GPU's memory\n");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda_bench_attention: %s\n", e.what());
  }
  return 1;
}
