/* The same prompt and the same decoded tokens 20 times, in both fused models: all logits must have the same
 * bits, wherever the blocks of the cache lie and whatever they held before. On a GPU: scripts/gpu.sh;
 * emulated, at small sizes and in fewer rounds: ctest. */
#include <algorithm>
#include <functional>

#include "../cuda/prefill/prefill.h"
#include "cuda_check.h"
#include "lite_cases.h"
#include "narrow_cases.h"

using namespace ek::test;
using ek::cuda::LiteDecoder;
using ek::cuda::LitePrefill;
using ek::cuda::LiteShape;
using ek::cuda::RowFormat;

namespace {

constexpr int kDecodedTokens = kSmallShapes ? 5 : 20;

using Logits = std::vector<std::vector<float>>; /* behind each part of the prompt and each decoded token */

/* Whether nothing in a round differs from the first, and where it does. */
void repeat(const char* name, uint32_t rounds, const std::function<Logits(uint32_t round)>& run) {
  const Logits expected = run(0);
  size_t n_different = 0, first_different = expected.size();
  for (uint32_t round = 1; round < rounds; round++) {
    const Logits actual = run(round);
    for (size_t i = 0; i < expected.size(); i++) {
      if (i < actual.size() && same(actual[i], expected[i])) continue;
      n_different++;
      first_different = std::min(first_different, i);
    }
  }
  check(n_different == 0, std::string(name) + ": " + std::to_string(n_different) +
                              " rows of logits have other bits than in the first round, first row " +
                              std::to_string(first_different));
  check(!same(expected.front(), expected.back()), std::string(name) + ": tokens change the logits");
  std::printf("     %s: %zu rows of logits, %u rounds\n", name, expected.size(), rounds);
}

int32_t best_of(const std::vector<float>& logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/* Every block of the cache, in another order for each round. */
std::vector<int32_t> scattered(int32_t n_blocks, uint32_t round) {
  std::vector<int32_t> out;
  for (int32_t i = 0; i < n_blocks; i++) out.push_back(i);
  std::shuffle(out.begin(), out.end(), std::mt19937(round + 1));
  return out;
}

/* Where a prompt is cut: into a long or short part, one that is decoded, and a long one, which is where
 * attention becomes sparse; on a GPU a short one behind it. */
std::vector<int32_t> ends_of(int32_t n) {
  std::vector<int32_t> out{n / 2 - 8, n / 2 - 1, n};
  if (!kSmallShapes) out.insert(out.end() - 1, n - 30);
  return out;
}

void repeat_narrow() {
  NarrowShape s = kNarrowSmall; /* blocks are chosen from 5 on */
  if (!kSmallShapes) s = {3, 1, 384, 512, 6, 1024, 16, 3, 128, 128, 16, 512, 1, 2, 0, EK_Q4_0};
  const int32_t n = kSmallShapes ? 420 : 5000;
  s.blocks = (n + kDecodedTokens) / EK_KV_BLOCK + 4;
  NarrowFused model(s, kSmallShapes ? 64 : 512);
  const std::vector<int32_t> tokens = random_tokens(n, s.vocab);
  repeat("narrow", kSmallShapes ? 4 : 20, [&](uint32_t round) {
    model.fill_cache(round);
    const std::vector<int32_t> blocks = scattered(s.blocks, round);
    Logits out;
    int32_t at = 0;
    for (int32_t end : ends_of(n)) {
      out.push_back(model.step({{at, {tokens.begin() + at, tokens.begin() + end}, blocks}}));
      at = end;
    }
    for (int i = 0; i < kDecodedTokens; i++, at++)
      out.push_back(model.step({{at, {best_of(out.back())}, blocks}}));
    return out;
  });
}

/* Layers that select blocks behind the end of dense attention, which the prompt passes. */
void repeat_lite(const char* name, RowFormat rows) {
  const int32_t n = kSmallShapes ? 136 : 17500;
  LiteShape s = small_lite_shape(n + 64, kSmallShapes ? 1 : 3, 16, 3);
  s.dense_layers = kSmallShapes ? 0 : 1;
  s.rows = rows;
  if (kSmallShapes) {
    s.dense_len = 128;
    s.local = s.top = 1;
  }
  ek::cuda::Device d(0);
  LiteDecoder decoder(d, s, ek::cuda::random_lite_weights(d, s, q4_k_m_types(), 5));
  LitePrefill prefill(d, decoder, kSmallShapes ? 96 : 2048, kSmallShapes ? 64 : 8192);
  const std::vector<int32_t> tokens = random_tokens(n, s.vocab);
  repeat(name, kSmallShapes ? 2 : 20, [&](uint32_t round) {
    decoder.fill_cache(s.n_blocks * EK_KV_BLOCK, round);
    const std::vector<int32_t> blocks = scattered(s.n_blocks, round);
    decoder.set_blocks(0, blocks.data(), s.n_blocks);
    Logits out;
    int32_t at = 0;
    for (int32_t end : ends_of(n)) {
      prefill.run(at, {tokens.begin() + at, tokens.begin() + end});
      out.push_back(decoder.logits());
      at = end;
    }
    for (int i = 0; i < kDecodedTokens; i++) {
      decoder.run(1);
      out.push_back(decoder.logits());
    }
    return out;
  });
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    repeat_narrow();
    repeat_lite("lite", RowFormat::kBf16);
    if (!kSmallShapes) repeat_lite("lite, rows of fp8", RowFormat::kFp8);
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return summary("cuda_repeat");
}
