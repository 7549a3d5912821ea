/* The fused decoder against a plain one in double on the host, on small random models of the same
 * architecture, dense and sparse. On a GPU: scripts/gpu.sh; emulated: ctest. */
#include <algorithm>
#include <cstring>

#include "cuda_check.h"
#include "lite_reference.h"

using namespace ek::test;
using ek::cuda::LiteDecoder;
using ek::cuda::LiteShape;
using ek::cuda::LiteTypes;
using ek::cuda::RowFormat;

namespace {

struct Case {
  const char* name;
  LiteTypes types;
  int32_t n_steps;
  bool sparse;
  int32_t first = 0; /* position of the first step; random rows before it */
  RowFormat rows = RowFormat::kBf16;
};

LiteShape small_shape(bool sparse, RowFormat rows) {
  LiteShape s = ek::cuda::lite_shape(1024);
  s.n_layers = 3;
  s.hidden = 256;
  s.dense_ff = 320;
  s.n_experts = 16;
  s.top_k = 3;
  s.ff = 160;
  s.shared_ff = 512;
  s.vocab = 512;
  s.dense_len = sparse ? 128 : 16384;
  s.dense_layers = 1;
  s.local = 1;
  s.top = 1;
  s.rows = rows;
  return s;
}

/* Largest difference over the deviation of what was expected; NaN when anything is. */
double error_of(const std::vector<float>& actual, const std::vector<double>& expected, size_t* where) {
  double square = 0, worst = 0;
  for (double v : expected) square += v * v;
  for (size_t i = 0; i < expected.size(); i++) {
    const double error = std::fabs(actual[i] - expected[i]);
    if (error <= worst) continue;
    worst = error;
    *where = i;
  }
  return worst / std::sqrt(square / static_cast<double>(expected.size()));
}

/* Begins at the case's first position. */
void restart(LiteDecoder& decoder, const Case& c) {
  if (c.first > 0) decoder.fill_cache(c.first, 9);
  decoder.set(3, c.first);
}

void compare_caches(const Case& c, LiteDecoder& decoder, const LiteReference& reference, int32_t n) {
  for (int32_t layer = 0; layer < decoder.shape.n_layers; layer++) {
    const std::vector<double> expected(reference.rows(layer).begin(), reference.rows(layer).end());
    size_t where = 0;
    const double error = error_of(decoder.cache_rows(layer, n), expected, &where);
    std::printf("     %s: cache of layer %d: error %.2g of the deviation at row %zu column %zu\n", c.name,
                layer, error, where / ek::cuda::kRow, where % ek::cuda::kRow);
  }
}

/* All that are not empty. */
std::vector<std::vector<int32_t>> subsets(const std::vector<int32_t>& of) {
  std::vector<std::vector<int32_t>> out;
  for (size_t bits = 1; bits < size_t{1} << of.size(); bits++) {
    out.emplace_back();
    for (size_t i = 0; i < of.size(); i++) {
      if (bits >> i & 1) out.back().push_back(of[i]);
    }
  }
  return out;
}

/* Below this difference of two router logits, rounding may exchange the experts: the activations of the two
 * sides differ by about 1 %. */
constexpr double kRouterTie = 0.01;

/* The same of the masses of two blocks: queries of bf16 change them by a percent. */
constexpr double kBlockTie = 0.03;

/* Gives the reference the decoder's rows for the steps that follow, and returns the largest error of the last
 * row of a layer. Numbers of e4m3 lie up to an eighth apart, so that a small difference before rounding
 * becomes one that all later steps see. */
double take_rows(LiteDecoder& decoder, LiteReference& reference, int32_t n) {
  double worst = 0;
  for (int32_t layer = 0; layer < decoder.shape.n_layers; layer++) {
    const std::vector<float> rows = decoder.cache_rows(layer, n);
    size_t where = 0;
    const std::vector<float>& expected = reference.rows(layer);
    const double error = error_of({rows.end() - ek::cuda::kRow, rows.end()},
                                  {expected.end() - ek::cuda::kRow, expected.end()}, &where);
    worst = !(error <= worst) ? error : worst;
    reference.set_rows(layer, rows);
  }
  return worst;
}

void test_case(ek::cuda::Device& d, const Case& c) {
  const bool fp8_rows = c.rows == RowFormat::kFp8;
  const double kMost = fp8_rows ? 0.1 : 0.05, kMostOfRow = 0.5; /* a step of the largest numbers */
  double worst_row = 0;
  const LiteShape shape = small_shape(c.sparse, c.rows);
  LiteDecoder decoder(d, shape, ek::cuda::random_lite_weights(d, shape, c.types, 5));
  LiteReference reference(shape, decoder.weights);
  restart(decoder, c);
  for (int32_t layer = 0; layer < shape.n_layers; layer++)
    reference.set_rows(layer, decoder.cache_rows(layer, c.first));
  /* Blocks that are equal but for rounding: the reference takes the decoder's, and judges them. */
  reference.prescribe([&](int32_t layer, int32_t) { return decoder.step_list(layer); });
  int32_t token = 3, differing = 0, first_bad = -1, n_ties = 0;
  double worst = 0;
  std::vector<float> last;
  for (int32_t step = 0; step < c.n_steps; step++) {
    decoder.run(1);
    last = decoder.logits();
    std::vector<double> expected = reference.step(token);
    size_t where = 0;
    double error = error_of(last, expected, &where);
    const std::vector<std::vector<int32_t>> others =
        error <= kMost ? std::vector<std::vector<int32_t>>{} : subsets(reference.close_choices(kRouterTie));
    n_ties += !others.empty();
    for (size_t i = 0; i < others.size() && !(error <= kMost); i++) {
      expected = reference.step_with_runners_up(token, others[i]);
      error = error_of(last, expected, &where);
    }
    if (!(error <= kMost) && first_bad < 0) {
      first_bad = step;
      std::printf("     %s: step %d: logit %zu is %g, expected %g; error %.3g of the deviation\n", c.name,
                  step, where, static_cast<double>(last[where]), expected[where], error);
      compare_caches(c, decoder, reference, c.first + step + 1);
    }
    if (fp8_rows) worst_row = std::max(worst_row, take_rows(decoder, reference, c.first + step + 1));
    worst = !(error <= worst) ? error : worst;
    const auto best = std::max_element(expected.begin(), expected.end()) - expected.begin();
    token = decoder.token();
    differing += token != static_cast<int32_t>(best);
  }
  check(first_bad < 0,
        std::string(c.name) + ": logits leave the reference at step " + std::to_string(first_bad));
  std::printf("%s %s: largest error of %d steps %.3g of the deviation, %d tokens differ, %d router ties\n",
              first_bad < 0 ? "ok  " : "FAIL", c.name, c.n_steps, worst, differing, n_ties);
  check(worst_row <= kMostOfRow, std::string(c.name) + ": a row differs by " + std::to_string(worst_row));
  check(reference.worst_choice() <= kBlockTie, std::string(c.name) +
                                                   ": a block was left out that is better by " +
                                                   std::to_string(reference.worst_choice()));
  check((reference.n_choices() > 0) == c.sparse, std::string(c.name) + ": selections where none should be");
  check(n_ties * 25 <= c.n_steps,
        std::string(c.name) + ": " + std::to_string(n_ties) + " steps pass as ties");
  restart(decoder, c);
  decoder.run(c.n_steps);
  check(decoder.logits() == last, std::string(c.name) + ": a second run gives other bits");
}

/* What a token leaves: its logits, then the cache and pooled rows of all layers up to it. */
std::vector<float> state_behind(LiteDecoder& decoder, int32_t position) {
  std::vector<float> out;
  for (int32_t layer = 0; layer < decoder.shape.n_layers; layer++) {
    for (float x : decoder.cache_rows(layer, position + 1)) out.push_back(x);
    for (float x : decoder.pooled_rows(layer, position / ek::cuda::kPoolStride + 1)) out.push_back(x);
  }
  return out;
}

/* Steps of several tokens against one token a step: the same bits. Positions go over the end of a pool, of a
 * block, and, where attention is sparse, over dense_len. */
void test_together(ek::cuda::Device& d, const char* name, const LiteTypes& types, bool sparse, int32_t first,
                   const std::vector<int32_t>& groups, RowFormat rows = RowFormat::kBf16) {
  const LiteShape shape = small_shape(sparse, rows);
  LiteDecoder decoder(d, shape, ek::cuda::random_lite_weights(d, shape, types, 6));
  const auto token_at = [&](int32_t position) { return (position * 37 + 5) % shape.vocab; };
  std::vector<std::vector<float>> alone, sums, left;
  int32_t position = first;
  decoder.fill_cache(first, 9);
  for (int32_t n : groups) {
    for (int32_t i = 0; i < n; i++, position++) {
      decoder.step({{token_at(position), position, false, true}});
      alone.push_back(decoder.logits());
      sums.push_back(decoder.score_sums(0));
    }
    left.push_back(state_behind(decoder, position - 1));
  }
  decoder.fill_cache(first, 9);
  position = first;
  size_t n_different = 0, group = 0;
  for (int32_t n : groups) {
    std::vector<ek::cuda::StepToken> tokens;
    for (int32_t i = 0; i < n; i++)
      tokens.push_back({token_at(position + i), position + i, i > 0, i % 3 != 1 || i == n - 1});
    decoder.step(tokens);
    for (int32_t i = 0; i < n; i++) {
      const size_t at = static_cast<size_t>(position - first + i);
      if (tokens[static_cast<size_t>(i)].wanted) n_different += decoder.logits(i) != alone[at];
      /* Its own pooled row is of the tokens up to it, whatever followed in the same step. */
      if (position + i >= shape.dense_len) n_different += decoder.score_sums(i) != sums[at];
    }
    position += n;
    n_different += state_behind(decoder, position - 1) != left[group++];
  }
  check(n_different == 0, std::string(name) + ": " + std::to_string(n_different) +
                              " of what tokens leave depends on the others of their step");
  bool refused = false;
  try {
    decoder.step({{1, position, false, true}, {1, position + 2, true, true}});
  } catch (const std::exception& e) {
    refused = std::string(e.what()).find("continues nothing") != std::string::npos;
  }
  check(refused, std::string(name) + ": a token that follows none is refused");
}

/* How far a step of one layer behind `first` random rows is from the same behind rows of bf16: root mean
 * square over that of the logits. Every expert is chosen, so that near-equal ones cannot change places. */
void test_deviation(ek::cuda::Device& d, const LiteTypes& types, int32_t first) {
  std::vector<std::vector<float>> logits;
  for (RowFormat rows : {RowFormat::kBf16, RowFormat::kFp8}) {
    LiteShape shape = small_shape(false, rows);
    shape.n_layers = 1;
    LiteDecoder decoder(d, shape, ek::cuda::random_lite_weights(d, shape, types, 5));
    decoder.fill_cache(first, 9);
    decoder.set(3, first);
    decoder.run(1);
    logits.push_back(decoder.logits());
  }
  double error = 0, square = 0;
  for (size_t i = 0; i < logits[0].size(); i++) {
    error += std::pow(logits[1][i] - logits[0][i], 2);
    square += std::pow(logits[0][i], 2);
  }
  error = std::sqrt(error / square);
  std::printf("     rows of fp8 beside bf16, behind %d: logits differ by %.3g of their size\n", first, error);
  check(error > 0 && error <= 0.1, "rows of fp8 change logits by " + std::to_string(error));
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    ek::cuda::Device d(0);
    const LiteTypes bf16{EK_BF16, EK_BF16, {EK_BF16, EK_BF16}, {EK_BF16, EK_BF16}, EK_BF16, EK_BF16};
    const LiteTypes q8{EK_Q8_0, EK_Q8_0, {EK_Q8_0, EK_Q8_0}, {EK_Q8_0, EK_Q8_0}, EK_Q8_0, EK_Q8_0};
    const LiteTypes q4{EK_Q4_K, EK_Q8_0, {EK_Q5_0, EK_Q8_0}, {EK_Q4_K, EK_Q6_K}, EK_Q6_K, EK_Q4_K};
    const ek_type t = EK_FP8_E4M3;
    const LiteTypes fp8{t, t, {t, t}, {t, t}, t, t};
    std::vector<Case> cases{{"bf16 dense", bf16, 150, false},
                            {"q8_0 dense", q8, 80, false},
                            {"q4_k_m dense", q4, 150, false},
                            {"fp8 dense", fp8, 150, false},
                            {"bf16 sparse", bf16, 420, true},
                            {"q4_k_m sparse", q4, 420, true},
                            {"q8_0 dense, fp8 rows", q8, 150, false, 0, RowFormat::kFp8},
                            {"q4_k_m sparse, fp8 rows", q4, 420, true, 0, RowFormat::kFp8}};
    if (kSmallShapes) {
      cases = {{"bf16 dense", bf16, 3, false},
               {"fp8 dense, behind 62 rows", fp8, 2, false, 62},
               {"q8_0 dense, behind 62 rows", q8, 3, false, 62},
               {"q4_k_m sparse, behind 254 rows", q4, 4, true, 254},
               {"q8_0 dense, behind 62 rows of fp8", q8, 3, false, 62, RowFormat::kFp8},
               {"q4_k_m sparse, behind 255 rows of fp8", q4, 2, true, 255, RowFormat::kFp8}};
    }
    for (const Case& c : cases) test_case(d, c);
    test_together(d, "q4_k_m together", q4, false, 13, {5, 8});
    test_together(d, "bf16 together, sparse", bf16, true, 124,
                  kSmallShapes ? std::vector<int32_t>{2, 6} : std::vector<int32_t>{2, 8, 3, 8, 5});
    test_together(d, "q8_0 together, rows of fp8", q8, false, 60, {6}, RowFormat::kFp8);
    if (!kSmallShapes) test_together(d, "q4_k_m together, sparse", q4, true, 300, {8, 7, 6, 5, 4, 3, 2});
    test_deviation(d, q8, kSmallShapes ? 100 : 1000);
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return summary("cuda_decode");
}
