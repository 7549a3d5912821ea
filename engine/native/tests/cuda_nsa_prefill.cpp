/* Attention of runs of new tokens, dense and sparse (cuda/nsa/prefill.h), against the same rule in double,
 * and against itself however a prompt is cut. On a GPU: scripts/gpu.sh; emulated: ctest. */
#include <algorithm>
#include <cstring>

#include "../core/error.h"
#include "../cuda/nsa/prefill.h"
#include "cuda_check.h"
#include "device_numbers.h"
#include "lite_reference.h"
#include "nsa_reference.h"

using namespace ek::test;
using ek::cuda::DeviceMemory;
using ek::cuda::ExpandedRows;
using ek::cuda::kHeads;
using ek::cuda::kNope;
using ek::cuda::kRope;
using ek::cuda::kRow;
using ek::cuda::kTileQueries;
using ek::cuda::kValue;
using ek::cuda::NsaRule;
using ek::cuda::PrefillAttention;
using ek::cuda::PrefillQueries;

namespace {

constexpr int32_t kWidth = kNope + kRope;
constexpr float kScale = 0.12f; /* of queries: scores have a deviation of 1.7 */

/* Expanded rows; the rotary halves lie in cache rows of kRow elements. */
struct Rows {
  Numbers keys, rotary, values;
  std::vector<float> joined[kHeads]; /* (n, nope + rope) */

  Rows(int32_t n, uint32_t seed)
      : keys(static_cast<size_t>(n) * kHeads * kNope, seed, 1, 64 * kHeads * kNope),
        rotary(static_cast<size_t>(n) * kRow, seed + 1, 1, 64 * kRow),
        values(static_cast<size_t>(n) * kHeads * kValue, seed + 2, 1, 64 * kHeads * kValue) {
    for (int32_t h = 0; h < kHeads; h++) {
      for (int32_t i = 0; i < n; i++) {
        const auto key = keys.host.begin() + (static_cast<ptrdiff_t>(i) * kHeads + h) * kNope;
        const auto turned = rotary.host.begin() + static_cast<ptrdiff_t>(i) * kRow;
        joined[h].insert(joined[h].end(), key, key + kNope);
        joined[h].insert(joined[h].end(), turned, turned + kRope);
      }
    }
  }
  ExpandedRows on_device() const {
    return {keys.device.as<__nv_bfloat16>(), rotary.device.as<__nv_bfloat16>(),
            values.device.as<__nv_bfloat16>(), kRow};
  }
  std::vector<HostRows> on_host() const {
    std::vector<HostRows> out;
    for (int32_t h = 0; h < kHeads; h++)
      out.push_back(
          {joined[h].data(), &values.host[static_cast<size_t>(h * kValue)], kWidth, kHeads * kValue});
    return out;
  }
};

/* What a run gave. */
struct Answer {
  std::vector<float> out;                  /* (n, heads, value) */
  std::vector<std::vector<int32_t>> lists; /* none of a dense run */
};

class Prompt {
 public:
  explicit Prompt(int32_t n_tokens)
      : n(n_tokens),
        rows_(n, 1),
        pooled_(std::max(1, ek::cuda::pooled_visible(n - 1)), 4),
        query_(static_cast<size_t>(n) * kHeads * kWidth, 7, kScale),
        gates_(random_floats(static_cast<size_t>(n) * kHeads * 3, 8, 2.0f)),
        gates_memory_(ek::cuda::upload(gates_)),
        out_(static_cast<size_t>(n) * kHeads * kValue * 2) {}

  Answer run(ek::cuda::Device& d, const PrefillAttention& attention, bool sparse, int32_t first,
             int32_t end) const {
    const PrefillQueries q = queries(first, end);
    Answer a;
    launch(attention, sparse, q);
    if (sparse) a.lists = attention.selected(first, end);
    d.wait();
    a.out = read_bf16(q.out, static_cast<size_t>(end - first) * kHeads * kValue);
    return a;
  }

  PrefillQueries queries(int32_t first, int32_t end) const {
    const size_t skipped = static_cast<size_t>(first) * kHeads;
    return {query_.device.as<__nv_bfloat16>() + skipped * kWidth, gates_memory_.as<float>() + skipped * 3,
            out_.as<__nv_bfloat16>() + skipped * kValue, first, end};
  }

  void launch(const PrefillAttention& attention, bool sparse, const PrefillQueries& q) const {
    if (sparse) {
      attention.sparse(q, rows_.on_device(), pooled_.on_device());
    } else {
      attention.dense(q, rows_.on_device());
    }
  }

  /* Compares the token at t with the reference; a is the answer of a run from `first` on, which has the
   * token's chooser. */
  void check_token(const NsaReference& reference, const Answer& a, int32_t first, int32_t t) {
    const size_t i = static_cast<size_t>(t - first);
    const std::vector<float> query = query_of(t);
    const auto out = a.out.begin() + static_cast<ptrdiff_t>(i * kHeads * kValue);
    const std::vector<float> actual(out, out + kHeads * kValue);
    const std::string name = "token " + std::to_string(t) + " of a run from " + std::to_string(first) + ": ";
    if (a.lists.empty()) {
      const double error = relative_error(actual, reference.attend_densely(query, t));
      check(error <= kMostError, name + "dense, error " + std::to_string(error));
      worst[0] = std::max(worst[0], error);
      return;
    }
    const int32_t chooser = reference.rule.chooser(t);
    std::vector<int32_t> chosen = a.lists[i];
    for (int32_t block = t / 64; block > chooser / 64 && !chosen.empty(); block--) {
      check(chosen.back() == block, name + "a block behind the chooser's is missing");
      chosen.pop_back();
    }
    const double excess = reference.excess(reference.masses(query_of(chooser), chooser), chosen, chooser);
    check(excess <= kMostExcess, name + "a block that is better was left out, by " + std::to_string(excess));
    const auto gate = gates_.begin() + static_cast<ptrdiff_t>(t) * kHeads * 3;
    const double error =
        relative_error(actual, reference.attend(query, {gate, gate + kHeads * 3}, a.lists[i], t));
    check(error <= kMostError, name + "sparse, error " + std::to_string(error));
    worst[1] = std::max(worst[1], error);
    worst[2] = std::max(worst[2], excess);
  }

  NsaReference reference(const NsaRule& rule) const {
    return {rule, kWidth, kValue, rows_.on_host(), pooled_.on_host()};
  }

  const int32_t n;
  double worst[3] = {}; /* error of dense, of sparse, of choices */

 private:
  std::vector<float> query_of(int32_t t) const {
    constexpr ptrdiff_t kNumbers = kHeads * kWidth;
    return {query_.host.begin() + t * kNumbers, query_.host.begin() + (t + 1) * kNumbers};
  }

  /* Weights and what is written are rounded to bf16. */
  static constexpr double kMostError = 0.004, kMostExcess = 1e-3;

  Rows rows_, pooled_;
  Numbers query_;
  std::vector<float> gates_;
  DeviceMemory gates_memory_, out_;
};

/* Every step-th token of [first, n), and those around the edges of blocks and strides. */
void test_against_reference(ek::cuda::Device& d, const NsaRule& rule, int32_t n, int32_t first,
                            int32_t step) {
  Prompt prompt(n);
  const PrefillAttention attention(d, n - first, n, rule);
  const Answer dense = prompt.run(d, attention, false, first, n);
  const Answer sparse = prompt.run(d, attention, true, first, n);
  const NsaReference reference = prompt.reference(rule);
  for (int32_t t = first; t < n; t++) {
    const int32_t near = t % 64;
    const bool is_edge = (near <= 1 || near >= 62 || near == 31) && (t < 200 || t + 70 > n);
    if (t % step != 0 && !is_edge && t + 1 < n) continue;
    prompt.check_token(reference, dense, first, t);
    prompt.check_token(reference, sparse, first, t);
  }
  std::printf("     tokens %d to %d, %d blocks for %d: error dense %.2g, sparse %.2g, choice %.2g\n", first,
              n - 1, rule.selected, rule.sharing, prompt.worst[0], prompt.worst[1], prompt.worst[2]);
}

/* However a prompt is cut into runs and runs into parts, and whenever it runs, the bits are the same. */
void test_cuts(ek::cuda::Device& d, const NsaRule& rule, const std::vector<int32_t>& ends) {
  const int32_t n = ends.back();
  const Prompt prompt(n);
  const PrefillAttention whole(d, n, n, rule), parts(d, n, n, rule, 128, 256),
      groups(d, n, n, rule, 128, 128);
  for (bool sparse : {false, true}) {
    const std::string name = sparse ? "sparse: " : "dense: ";
    const Answer expected = prompt.run(d, whole, sparse, 0, n);
    Answer cut;
    int32_t first = 0;
    for (int32_t end : ends) {
      const Answer a = prompt.run(d, parts, sparse, std::exchange(first, end), end);
      cut.out.insert(cut.out.end(), a.out.begin(), a.out.end());
      cut.lists.insert(cut.lists.end(), a.lists.begin(), a.lists.end());
    }
    check(cut.lists == expected.lists, name + "a cut prompt selects other blocks");
    check(cut.out.size() == expected.out.size() &&
              std::memcmp(cut.out.data(), expected.out.data(), cut.out.size() * sizeof(float)) == 0,
          name + "a cut prompt gives other bits");
    /* Emulated, another one of the streams runs ahead each time. */
    for (int round = 0; round < (kSmallShapes ? 2 : 20); round++) {
      check(prompt.run(d, whole, sparse, 0, n).out == expected.out, name + "a second run gives other bits");
      check(prompt.run(d, groups, sparse, 0, n).out == expected.out,
            name + "a run in groups gives other bits");
    }
  }
}

/* A recorded run gives the bits of one that was launched. */
void test_recorded(ek::cuda::Device& d, const NsaRule& rule, int32_t n) {
  const Prompt prompt(n);
  const PrefillAttention attention(d, n, n, rule, 128, 128);
  const std::vector<float> expected = prompt.run(d, attention, true, 0, n).out;
  const PrefillQueries q = prompt.queries(0, n);
  const size_t out_bytes = sizeof(__nv_bfloat16) * static_cast<size_t>(n) * kHeads * kValue;
  ek::cuda::check(cudaMemsetAsync(q.out, 0xff, out_bytes, d.stream), "clearing");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t recorded = nullptr;
  ek::cuda::check(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal), "capturing");
  prompt.launch(attention, true, q);
  ek::cuda::check(cudaStreamEndCapture(d.stream, &graph), "capturing");
  ek::cuda::check(cudaGraphInstantiate(&recorded, graph, 0), "making a graph");
  ek::cuda::check(cudaGraphLaunch(recorded, d.stream), "launching a graph");
  d.wait();
  check(read_bf16(q.out, static_cast<size_t>(n) * kHeads * kValue) == expected,
        "a recorded run gives other bits");
  cudaGraphExecDestroy(recorded);
  cudaGraphDestroy(graph);
}

/* The list of a tile is that of its first token: a run from inside of it needs the run that had that one. */
void test_run_without_its_list(ek::cuda::Device& d, const NsaRule& shared) {
  const Prompt prompt(150);
  const PrefillAttention attention(d, 150, 150, shared);
  prompt.run(d, attention, true, 0, 140);
  bool refused = false;
  try {
    prompt.launch(attention, true, prompt.queries(130, 150));
  } catch (const ek::ArgError&) {
    refused = true;
  }
  check(refused, "a run that begins inside of a tile and does not go on was accepted");
}

/* part: tokens of a part, 128 at least. */
void check_refused(ek::cuda::Device& d, const NsaRule& rule, int32_t part, const char* what) {
  bool refused = false;
  try {
    const PrefillAttention attention(d, 128, 128, rule, part);
  } catch (const ek::ArgError&) {
    refused = true;
  }
  check(refused, std::string(what) + " was accepted");
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    ek::cuda::Device d(0);
    const NsaRule small{5, 1, 2, 150};
    test_against_reference(d, small, 450, 0, 29);
    test_against_reference(d, NsaRule{}, 1175, 1090, 11);
    test_against_reference(d, NsaRule{3, 1, 2, 128}, 300, 230, 17); /* nothing but forced blocks */
    if (!kSmallShapes) test_against_reference(d, NsaRule{}, 6000, 4000, 41);
    test_cuts(d, small,
              kSmallShapes ? std::vector<int32_t>{1, 63, 200, 340} : std::vector<int32_t>{1, 63, 300, 1500});
    test_recorded(d, small, 200);

    const NsaRule shared_small{5, 1, 2, 200, kTileQueries}, shared{16, 1, 2, 512, kTileQueries};
    test_against_reference(d, shared_small, 450, 0, 29);
    test_against_reference(d, shared, 1240, 1152, 11);
    test_against_reference(d, {3, 1, 2, 192, kTileQueries}, 230, 128, 17); /* nothing but forced blocks */
    if (!kSmallShapes) test_against_reference(d, shared, 6000, 3968, 41);
    test_cuts(d, shared_small,
              kSmallShapes ? std::vector<int32_t>{1, 63, 200, 340} : std::vector<int32_t>{1, 63, 300, 1500});
    test_recorded(d, shared_small, 200);
    test_run_without_its_list(d, shared_small);
    check_refused(d, {}, 100, "a part inside of a tile");
    check_refused(d, {5, 1, 2, 127}, 128, "a window without all local blocks");
    check_refused(d, {5, 1, 2, 191, kTileQueries}, 128, "a window without all local blocks of a tile");
    check_refused(d, {5, 1, 2, 512, 64}, 128, "a choice shared by half of a tile");
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return summary("cuda_nsa_prefill");
}
