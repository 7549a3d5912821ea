/* Long prompts: whole models after prompts around the length from which attention is sparse and up to 131072
 * tokens, then some decoded tokens. On a GPU: scripts/gpu.sh; emulated, at small lengths: ctest.
 *
 *   cuda_long [--tokens N]... [--model narrow|lite]
 *
 * Narrow, of tidepool-mini's kind: long_narrow.h.
 *
 * Lite, of Coder-V2-Lite's kind: dense attention of 131072 tokens costs 300 TFLOP a layer, which a host does
 * not compute. So the slow decoder in double (lite_reference.h) takes the GPU's rows of all tokens before a
 * position and computes that position alone, through all layers, dense and sparse: its cache rows, which must
 * be those that the GPU stored; the choice of blocks of its tile; behind the prompt and the decoded tokens
 * the logits. A position whose row is wrong is found if it is looked at; looked at are the borders of what
 * kernels share out (chunks, segments, tiles, the end of dense attention) and a random sample. Of all rows it
 * is compared that their pooled rows are their means, and that every prompt leaves the same bits for what it
 * shares with the one before it, which was cut elsewhere. */
#include <algorithm>
#include <set>

#include "../bench/arguments.h"
#include "../cuda/prefill/prefill.h"
#include "attention_model.h"
#include "cuda_check.h"
#include "lite_cases.h"
#include "lite_reference.h"
#include "long_narrow.h"

using namespace ek::test;
using ek::cuda::kRow;
using ek::cuda::kTileQueries;
using ek::cuda::LiteDecoder;
using ek::cuda::LitePrefill;
using ek::cuda::LiteShape;
using ek::cuda::RowFormat;

namespace {

/* ---- Coder-V2-Lite's kind ---- */

struct LiteCase {
  const char* name;
  ek::cuda::LiteTypes types;
  RowFormat rows;
  double most_read, most_decoded, most_row; /* errors, of the size of logits and rows */
};

constexpr int32_t kChunk = kSmallShapes ? 128 : 8192, kSegment = kSmallShapes ? 64 : 8192;

/* Three layers, of which the first attends to everything: what the second selects reaches the rows of the
 * third. Every expert is chosen. With this many tokens of a vocabulary few rows are equal. Emulated: two
 * layers that select. */
LiteShape lite_shape_of(const LiteCase& c, int32_t n_tokens) {
  LiteShape s = small_lite_shape(n_tokens, kSmallShapes ? 2 : 3, 2, 2);
  s.rows = c.rows;
  if (!kSmallShapes) {
    s.dense_layers = 1;
    s.vocab = 8192;
    return s;
  }
  s.dense_layers = 0;
  s.dense_len = 128;
  s.local = s.top = 1;
  return s;
}

class LiteLong {
 public:
  LiteLong(ek::cuda::Device& d, const LiteCase& c, const std::vector<int32_t>& lengths)
      : case_(c),
        lengths_(lengths),
        decoder_(d, lite_shape_of(c, lengths.back() + 64),
                 ek::cuda::random_lite_weights(d, lite_shape_of(c, lengths.back() + 64), c.types, 5)),
        reference_(decoder_.shape, decoder_.weights),
        prefill_(d, decoder_, kChunk, kSegment),
        tokens_(random_tokens(lengths.back() + kDecodedTokens, decoder_.shape.vocab)),
        rows_(static_cast<size_t>(decoder_.shape.n_layers)),
        worst_row_(rows_.size(), 0.0) {
    reference_.prescribe([this](int32_t layer, int32_t t) {
      return t % kTileQueries == 0 ? decoder_.tile_list(layer, t) : decoder_.step_list(layer);
    });
  }

  void run() {
    for (int32_t length : lengths_) {
      const Watch watch;
      read(length);
      decode(length);
      for (int32_t t : positions(length)) look_at(t);
      std::printf("     %s: %d tokens, %.1f s; errors of rows", case_.name, length, watch.seconds());
      for (double error : worst_row_) std::printf(" %.2g", error);
      std::printf("; %d selections, at most %.2g worse than the best\n", reference_.n_choices(),
                  reference_.worst_choice());
    }
    check(reference_.worst_choice() <= kTie,
          name("a block was left out that is better by " + std::to_string(reference_.worst_choice())));
    check(reference_.n_choices() > 0 || lengths_.back() <= decoder_.shape.dense_len,
          name("no selection had anything to choose from"));
  }

 private:
  static constexpr double kTie = 0.03; /* rounded queries change a block's mass by a percent */

  std::string name(const std::string& what) const { return std::string(case_.name) + ": " + what; }

  void check_logits(const std::string& what, const std::vector<double>& expected, double most) {
    const double error = error_of(decoder_.logits(), expected);
    check(error <= most, name(what + ": error of the logits " + std::to_string(error)));
    std::printf("     %s: %s: error %.3g\n", case_.name, what.c_str(), error);
  }

  const float* row(size_t layer, int32_t t) const {
    return rows_[layer].data() + static_cast<size_t>(t) * kRow;
  }

  /* The prompt on the GPU from its beginning, and what it left. */
  void read(int32_t length) {
    prefill_.run(0, {tokens_.begin(), tokens_.begin() + length});
    const std::vector<float> logits = decoder_.logits();
    for (size_t layer = 0; layer < rows_.size(); layer++) {
      std::vector<float> rows = decoder_.cache_rows(static_cast<int32_t>(layer), length);
      const size_t shared = std::min(rows.size(), rows_[layer].size());
      check(std::equal(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(shared), rows_[layer].begin()),
            name(std::to_string(length) + " tokens leave other bits than a shorter prompt"));
      rows_[layer] = std::move(rows);
      check_pooled_rows(decoder_, static_cast<int32_t>(layer), rows_[layer], case_.name);
      reference_.set_rows(static_cast<int32_t>(layer), rows_[layer]);
    }
    const std::vector<double> expected = look_at(length - 1);
    check_logits("behind " + std::to_string(length) + " tokens", expected, case_.most_read);
  }

  void decode(int32_t length) {
    take_rows(length);
    for (int32_t t = length; t < length + kDecodedTokens; t++) {
      decoder_.set(tokens_[static_cast<size_t>(t)], t);
      decoder_.run(1); /* before the reference, which asks for its selection */
      check_logits("decoded token " + std::to_string(t), reference_.step(tokens_[static_cast<size_t>(t)]),
                   case_.most_decoded);
    }
  }

  /* The reference has the GPU's rows of the first n tokens, and had at least those of the tile before. */
  void take_rows(int32_t n) {
    const int32_t kept = (n - 1) / kTileQueries * kTileQueries;
    reference_.rewind(kept);
    for (size_t layer = 0; layer < rows_.size(); layer++)
      reference_.add_rows(static_cast<int32_t>(layer), row(layer, kept), static_cast<size_t>(n - kept));
  }

  /* Computes position t behind the GPU's rows, and, where it has a list, its tile's first one, which gives
   * the list; compares their rows. The reference has the rows of earlier tiles. Returns the logits. */
  std::vector<double> look_at(int32_t t) {
    const int32_t tile = t / kTileQueries * kTileQueries;
    reference_.rewind(tile);
    if (t == tile) return compare_rows(t);
    if (t >= decoder_.shape.dense_len) compare_rows(tile);
    take_rows(t);
    return compare_rows(t);
  }

  /* Reads the token at t, and compares the rows that it gets. */
  std::vector<double> compare_rows(int32_t t) {
    std::vector<double> logits = reference_.read(tokens_[static_cast<size_t>(t)]);
    for (size_t layer = 0; layer < rows_.size(); layer++) {
      const std::vector<float>& expected = reference_.rows(static_cast<int32_t>(layer));
      const double error =
          error_of({row(layer, t), row(layer, t) + kRow}, {expected.end() - kRow, expected.end()});
      check(error <= case_.most_row, name("row of token " + std::to_string(t) + " in layer " +
                                          std::to_string(layer) + ": error " + std::to_string(error)));
      worst_row_[layer] = !(error <= worst_row_[layer]) ? error : worst_row_[layer];
    }
    return logits;
  }

  /* Descending, so that the reference need only forget. */
  std::vector<int32_t> positions(int32_t length) const {
    constexpr int kSample = kSmallShapes ? 4 : 16;
    std::set<int32_t> out{0, 63, 64, length / 2};
    const int32_t dense_len = decoder_.shape.dense_len;
    for (int32_t at : {dense_len - 1, dense_len, dense_len + 1, dense_len + kTileQueries - 1}) out.insert(at);
    for (int32_t border = kChunk; border < length; border += kChunk) out.insert({border - 1, border});
    std::mt19937 engine(static_cast<uint32_t>(length));
    for (int i = 0; i < kSample; i++)
      out.insert(static_cast<int32_t>(engine() % static_cast<uint32_t>(length)));
    out.erase(out.lower_bound(length), out.end());
    return {out.rbegin(), out.rend()};
  }

  const LiteCase& case_;
  const std::vector<int32_t> lengths_;
  LiteDecoder decoder_;
  LiteReference reference_;
  LitePrefill prefill_;
  const std::vector<int32_t> tokens_;
  std::vector<std::vector<float>> rows_; /* of the last prompt, by layer */
  std::vector<double> worst_row_;
};

void test_lite(const std::vector<int32_t>& lengths) {
  ek::cuda::Device d(0);
  const LiteCase bf16{"lite, q4_k_m", q4_k_m_types(), RowFormat::kBf16, 0.06, 0.015, 0.05},
      fp8{"lite, q8_0, rows of fp8", all_of(EK_Q8_0), RowFormat::kFp8, 0.06, 0.02, 0.08};
  LiteLong(d, bf16, lengths).run();
  if (!kSmallShapes) LiteLong(d, fp8, lengths).run();
}

/* Emulated, behind where each begins to select blocks. */
const std::vector<int32_t> kLengths{16383, 16384, 16385, 40000, 131072},
    kNarrowLengths = kSmallShapes ? std::vector<int32_t>{257, 330} : kLengths,
    kLiteLengths = kSmallShapes ? std::vector<int32_t>{192} : kLengths;

struct Options {
  std::vector<int32_t> lengths; /* empty: those above */
  bool narrow = true, lite = true;
};

Options parse(int argc, char** argv) {
  Options o;
  for (ek::bench::Arguments a(argc, argv); a.next();) {
    if (a.is("--tokens")) {
      o.lengths.push_back(a.number(2));
    } else if (a.is("--model")) {
      const std::string model = a.value();
      EK_REQUIRE(model == "narrow" || model == "lite", "--model must be narrow or lite, got %s",
                 model.c_str());
      o.narrow = model == "narrow";
      o.lite = model == "lite";
    } else {
      a.refuse();
    }
  }
  std::sort(o.lengths.begin(), o.lengths.end());
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    const Options o = parse(argc, argv);
    if (o.narrow) NarrowLong(o.lengths.empty() ? kNarrowLengths : o.lengths).run();
    if (o.lite) test_lite(o.lengths.empty() ? kLiteLengths : o.lengths);
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return summary("cuda_long");
}
