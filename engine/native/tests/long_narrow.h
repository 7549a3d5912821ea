/* A whole model of tidepool-mini's kind behind long prompts. The GPU reads a prompt and decodes some tokens;
 * then a slow decoder in double (narrow_reference.h) takes the rows that the GPU stored of all tokens before
 * a position, and computes that position alone, through all layers: its row in each, which must be the one
 * that the GPU stored, and, where the GPU gave logits, these. So a position is judged by itself, and is not
 * blamed for another one that selected another block of the same mass.
 *
 * Looked at are all that give logits, the borders of what kernels share out, and one of every kSampled
 * others; of all rows it is compared that pooled rows are what their weights make of them, and that every
 * prompt leaves the same bits for what it shares with the one before it, which was cut elsewhere. */
#ifndef EK_TESTS_LONG_NARROW_H
#define EK_TESTS_LONG_NARROW_H
#include <algorithm>
#include <random>
#include <set>

#include "../cuda/model/narrow_model.h"
#include "long_prompts.h"
#include "narrow_cases.h"
#include "narrow_reference.h"
#include "parallel.h"

namespace ek::test {

/* Heads, latents and sparse attention of tidepool-mini; every expert is chosen, so that near-equal ones
 * cannot change places between two devices. */
inline NarrowShape long_narrow_shape(int32_t n_tokens) {
  NarrowShape s = kNarrowSmall;
  s.top_k = s.experts;
  if (!kSmallShapes) s = {3, 1, 384, 512, 6, 1024, 4, 4, 128, 128, 16, 512, 1, 2, 0, EK_Q4_0};
  s.blocks = n_tokens / EK_KV_BLOCK + 8;
  return s;
}

class NarrowLong {
 public:
  /* lengths: ascending. */
  explicit NarrowLong(const std::vector<int32_t>& lengths)
      : lengths_(lengths),
        shape_(long_narrow_shape(lengths.back() + kDecodedTokens)),
        tokens_(random_tokens(lengths.back() + kDecodedTokens, shape_.vocab)),
        fused_(shape_, kChunk),
        decoder_(static_cast<cuda::narrow::Model&>(*fused_.model().storage).decoder()),
        reference_(decoder_) {
    for (int32_t i = 0; i < shape_.blocks; i++) table_.push_back(i);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(3));
  }

  void run() {
    for (int32_t length : lengths_) {
      const Watch watch;
      read(length);
      look_at(length == lengths_.back() ? sample(length) : borders(length));
      for (int32_t t = length; t < length + kDecodedTokens; t++) decode(t);
      std::printf("     narrow: %d tokens, %.1f s; errors of rows", length, watch.seconds());
      for (double error : worst_row_) std::printf(" %.2g", error);
      std::printf(", pooled %.2g; %d selections, %d of them nearly tied, at most %.2g worse than the best\n",
                  worst_pooled_, n_choices_, n_ties_, excess_);
    }
    check(n_choices_ > 0 || lengths_.back() <= shape_.select_n * EK_KV_BLOCK,
          "narrow: no selection had anything to choose from");
    /* Otherwise ties would explain anything. */
    check(n_ties_ <= 1 + kMostTies * n_choices_, "narrow: " + std::to_string(n_ties_) + " of " +
                                                     std::to_string(n_choices_) +
                                                     " selections are nearly tied");
  }

 private:
  static constexpr int32_t kChunk = kSmallShapes ? 64 : 2048, kSampled = kSmallShapes ? 1 : 8;
  /* Rows are f16, which alone is 2e-4; the rest, and the logits, are sums in f32. */
  static constexpr double kMostRow = 4e-4, kMostLogits = 1e-5, kMostTies = 0.02;

  ModelPart part(int32_t begin, int32_t end) const {
    return {begin,
            {tokens_.begin() + begin, tokens_.begin() + end},
            {table_.begin(), table_.begin() + (end + EK_KV_BLOCK - 1) / EK_KV_BLOCK}};
  }

  /* The prompt from its beginning: what it left, and the logits behind it. */
  void read(int32_t length) {
    std::vector<std::vector<float>> before;
    for (int32_t layer = 0; layer < shape_.layers; layer++) before.push_back(reference_.rows(layer).rows);
    const std::vector<float> logits = fused_.step({part(0, length)});
    reference_.take_blocks(table_, 0, (length - 1) / EK_KV_BLOCK + 1);
    for (size_t layer = 0; layer < before.size(); layer++) {
      const std::vector<float>& rows = reference_.rows(static_cast<int32_t>(layer)).rows;
      const ptrdiff_t n =
          std::min<ptrdiff_t>(shared_ * kRowWidth, static_cast<ptrdiff_t>(before[layer].size()));
      check(std::equal(before[layer].begin(), before[layer].begin() + n, rows.begin()),
            "narrow: " + std::to_string(length) + " tokens leave other bits than a shorter prompt");
    }
    shared_ = length / kChunk * kChunk;
    look_at_pooled(0, decoder_.cache().n_visible(length - 1));
    report("behind " + std::to_string(length) + " tokens", length - 1, logits);
  }

  void decode(int32_t t) {
    const std::vector<float> logits = fused_.step({part(t, t + 1)});
    reference_.take_blocks(table_, t / EK_KV_BLOCK, t / EK_KV_BLOCK + 1);
    look_at_pooled(decoder_.cache().n_visible(t - 1), decoder_.cache().n_visible(t));
    report("decoded token " + std::to_string(t), t, logits);
  }

  void report(const std::string& what, int32_t t, const std::vector<float>& logits) {
    const NarrowErrors errors = reference_.compare(tokens_[static_cast<size_t>(t)], t, logits);
    judge(t, errors);
    check(errors.logits <= kMostLogits,
          "narrow, " + what + ": error of the logits " + std::to_string(errors.logits));
    std::printf("     narrow, %s: error %.3g\n", what.c_str(), errors.logits);
  }

  void judge(int32_t t, const NarrowErrors& errors) {
    for (size_t layer = 0; layer < errors.rows.size(); layer++) {
      const double error = errors.rows[layer];
      check(error <= kMostRow, "narrow: row of token " + std::to_string(t) + " in layer " +
                                   std::to_string(layer) + ": error " + std::to_string(error));
      worst_row_[layer] = !(error <= worst_row_[layer]) ? error : worst_row_[layer];
    }
    n_choices_ += errors.n_choices;
    n_ties_ += errors.n_ties;
    excess_ = std::max(excess_, errors.excess);
  }

  void look_at(std::vector<int32_t> positions) {
    std::shuffle(positions.begin(), positions.end(), std::mt19937(5)); /* late ones cost more */
    std::vector<NarrowErrors> errors(positions.size());
    in_parallel(positions.size(), 1, [&](size_t begin, size_t end, size_t) {
      for (size_t i = begin; i < end; i++)
        errors[i] = reference_.compare(tokens_[static_cast<size_t>(positions[i])], positions[i], {});
    });
    for (size_t i = 0; i < positions.size(); i++) judge(positions[i], errors[i]);
  }

  /* Pooled rows [first, end) of all layers. */
  void look_at_pooled(int32_t first, int32_t end) {
    for (int32_t layer = 0; layer < shape_.layers && first < end; layer++) {
      std::vector<double> errors(static_cast<size_t>(end - first));
      in_parallel(errors.size(), 64, [&](size_t from, size_t to, size_t) {
        for (size_t i = from; i < to; i++)
          errors[i] = reference_.pooled_error(layer, first + static_cast<int32_t>(i));
      });
      for (size_t i = 0; i < errors.size(); i++) {
        check(errors[i] <= kMostRow, "narrow: pooled row " + std::to_string(first + static_cast<int32_t>(i)) +
                                         " of layer " + std::to_string(layer) + ": error " +
                                         std::to_string(errors[i]));
        worst_pooled_ = !(errors[i] <= worst_pooled_) ? errors[i] : worst_pooled_;
      }
    }
  }

  std::vector<int32_t> borders(int32_t length) const {
    std::set<int32_t> out{0, shape_.window - 1, shape_.window};
    const int32_t dense = shape_.select_n * EK_KV_BLOCK; /* every block is selected before */
    for (int32_t at = dense - 2; at <= dense + EK_KV_BLOCK; at++) out.insert(at);
    for (int32_t at = kChunk; at < length; at += kChunk) out.insert({at - 1, at, at + 1});
    out.erase(out.lower_bound(length), out.end());
    return {out.begin(), out.end()};
  }

  std::vector<int32_t> sample(int32_t length) const {
    const std::vector<int32_t> first = borders(length);
    std::set<int32_t> out(first.begin(), first.end());
    std::mt19937 engine(static_cast<uint32_t>(length));
    for (int32_t at = 0; at < length; at += kSampled)
      out.insert(std::min(length - 1, at + static_cast<int32_t>(engine() % kSampled)));
    return {out.begin(), out.end()};
  }

  static constexpr ptrdiff_t kRowWidth = cuda::narrow::kLatent + 2 * cuda::narrow::kRope;

  const std::vector<int32_t> lengths_;
  const NarrowShape shape_;
  const std::vector<int32_t> tokens_;
  NarrowFused fused_;
  cuda::narrow::Decoder& decoder_;
  NarrowReference reference_;
  std::vector<int32_t> table_; /* of the sequence's blocks */
  ptrdiff_t shared_ = 0;       /* tokens that the last prompt read in whole chunks */
  std::vector<double> worst_row_ = std::vector<double>(static_cast<size_t>(shape_.layers), 0.0);
  double worst_pooled_ = 0, excess_ = 0;
  int n_choices_ = 0, n_ties_ = 0;
};

}  // namespace ek::test
#endif
