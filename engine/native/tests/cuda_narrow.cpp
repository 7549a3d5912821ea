/* The fused model of tidepool-mini's kind against the CPU's ops on the same random weights: around the limits
 * of window, blocks and pooled rows; block tables, forks, several sequences, misuse. On a GPU:
 * scripts/gpu.sh; emulated: ctest. */
#include "narrow_cases.h"

using namespace ek::test;

namespace {

std::vector<int32_t> tokens_of(int n, int seed) {
  std::vector<int32_t> out;
  for (int i = 0; i < n; i++) out.push_back((i * 37 + seed * 101 + i * i % 11) % kNarrowSmall.vocab);
  return out;
}

std::vector<int32_t> blocks_for(int32_t n_tokens, int32_t first, int32_t step) {
  std::vector<int32_t> out;
  for (int32_t i = 0; i * EK_KV_BLOCK < n_tokens; i++) out.push_back(first + i * step);
  return out;
}

std::vector<float> row_of(const std::vector<float>& rows, size_t i, size_t vocab) {
  return {rows.begin() + static_cast<ptrdiff_t>(i * vocab),
          rows.begin() + static_cast<ptrdiff_t>((i + 1) * vocab)};
}

/* Reads `from` tokens op by op, decodes up to n, and compares every logit with the CPU's. */
void compare(const NarrowShape& s, NarrowFused& fused, const std::vector<float>& expected, int32_t from,
             int32_t n) {
  constexpr double kAbsolute = 0.02, kRelative = 0.01; /* rows of the cache are f16 on both */
  const std::vector<int32_t> tokens = tokens_of(n, 1), blocks = blocks_for(n, 19, -1);
  const auto part = [&](int32_t start, int32_t end) {
    return ModelPart{start,
                     {tokens.begin() + start, tokens.begin() + end},
                     {blocks.begin(), blocks.begin() + (end + EK_KV_BLOCK - 1) / EK_KV_BLOCK}};
  };
  const size_t vocab = static_cast<size_t>(s.vocab);
  if (from > 0)
    check_close("read " + std::to_string(from), fused.step({part(0, from)}),
                row_of(expected, static_cast<size_t>(from) - 1, vocab), kAbsolute, kRelative);
  for (int32_t i = from; i < n; i++) {
    const std::vector<float> row = fused.step({part(i, i + 1)});
    check_close("decoded token " + std::to_string(i), row, row_of(expected, static_cast<size_t>(i), vocab),
                kAbsolute, kRelative);
    if (i % 16 != 15) continue;
    check(same(fused.step({part(i, i + 1)}), row),
          "token " + std::to_string(i) + ": a second run gives other bits");
  }
}

void test_against_cpu() {
  const NarrowShape& s = kNarrowSmall;
  NarrowFused fused(s);
  NarrowOps cpu(EK_CPU, s);
  constexpr int32_t kMost = 600;
  const std::vector<float> expected = cpu.step({0, tokens_of(kMost, 1), blocks_for(kMost, 19, -1)});
  compare(s, fused, expected, 0, 66);    /* the first pooled row, and a second block */
  compare(s, fused, expected, 97, 103);  /* the window begins */
  compare(s, fused, expected, 254, 260); /* blocks are chosen */
  compare(s, fused, expected, 318, 340); /* and the window begins in other blocks */
  compare(s, fused, expected, 570, 600); /* two splits of pooled rows */
}

void test_other_types() {
  for (ek_type type : {EK_F32, EK_Q8_0, EK_BF16}) {
    NarrowShape s = kNarrowSmall;
    s.type = type;
    NarrowFused fused(s);
    NarrowOps cpu(EK_CPU, s);
    const std::vector<float> expected = cpu.step({0, tokens_of(262, 1), blocks_for(262, 19, -1)});
    compare(s, fused, expected, 0, 2);
    compare(s, fused, expected, 260, 262);
  }
}

/* The widths of the shipped model: heads, hidden size, experts and feed-forwards. */
void test_shipped_widths() {
  NarrowShape s = kNarrowSmall;
  s.hidden = 384;
  s.heads = 6;
  s.dense_ff = 1024;
  s.experts = 16;
  s.top_k = 3;
  NarrowFused fused(s);
  NarrowOps cpu(EK_CPU, s);
  const std::vector<float> expected = cpu.step({0, tokens_of(276, 1), blocks_for(276, 19, -1)});
  compare(s, fused, expected, 0, 2);
  compare(s, fused, expected, 270, 276);
}

void test_blocks() {
  NarrowFused m(kNarrowSmall);
  const std::vector<int32_t> prompt = tokens_of(70, 1), head(prompt.begin(), prompt.begin() + 66);
  const std::vector<float> read = m.step({{0, prompt, {0, 1}}});
  const std::vector<float> decoded = m.step({{70, {5}, {0, 1}}});
  check(!same(read, decoded), "a token changes the logits");
  check(same(m.step({{0, prompt, {6, 3}}}), read), "logits do not depend on where blocks lie");
  check(same(m.step({{70, {5}, {6, 3}}}), decoded), "nor do those of a decoded token");
  m.step({{0, head, {2, 4}}});
  m.copy_block(5, 4);
  const ModelPart own{66, {9}, {2, 4}}, fork{66, {8}, {2, 5}};
  const std::vector<float> first = m.step({own}), second = m.step({fork});
  check(!same(first, second), "another token in a fork changes the logits");
  const std::vector<float> next = m.step({{67, {7}, {2, 4}}});
  m.step({{0, head, {10, 11}}});
  check(same(m.step({{66, {9}, {10, 11}}}), first), "a fork leaves the block that it was copied from");
  check(same(m.step({{67, {7}, {10, 11}}}), next), "also behind the tokens that the fork has replaced");
  m.step({{0, head, {12, 13}}});
  check(same(m.step({{66, {8}, {12, 13}}}), second), "a fork goes on from the copied rows");
}

void test_sequences() {
  const NarrowShape& s = kNarrowSmall;
  NarrowFused m(s);
  const std::vector<int32_t> first = tokens_of(20, 2), second = tokens_of(290, 3);
  const std::vector<int32_t> blocks = blocks_for(291, 1, 1);
  m.step({{0, first, {0}}});
  const std::vector<float> a = m.step({{20, {11}, {0}}});
  m.step({{0, second, blocks}});
  const std::vector<float> b = m.step({{290, {12}, blocks}});
  const std::vector<float> both = m.step({{20, {11}, {0}}, {290, {12}, blocks}});
  check(same(row_of(both, 0, s.vocab), a) && same(row_of(both, 1, s.vocab), b),
        "sequences of one step are as each alone");
  const std::vector<float> read = m.step({{0, {4, 5, 6}, {8}}, {20, {11}, {0}}});
  check(same(row_of(read, 1, s.vocab), a), "nor does a prompt beside it change a sequence");
}

/* Logits behind several tokens of a part: of a short one, and of a long one, whose head is read. */
void test_several_rows() {
  NarrowFused m(kNarrowSmall);
  const std::vector<int32_t> tokens = tokens_of(20, 4);
  const auto part = [&](int32_t begin, int32_t end, int32_t block, uint8_t wants) {
    return ModelPart{begin, {tokens.begin() + begin, tokens.begin() + end}, {block}, wants};
  };
  m.step({part(0, 15, 0, 1)});
  std::vector<float> alone;
  for (int32_t i = 15; i < 20; i++) {
    const std::vector<float> row = m.step({part(i, i + 1, 0, 1)});
    alone.insert(alone.end(), row.begin(), row.end());
  }
  m.step({part(0, 15, 1, 0)});
  check(same(m.step({part(15, 20, 1, 5)}), alone), "rows of a short part are as decoded one by one");
  check(same(m.step({part(0, 20, 2, 5)}), alone), "a long part is read up to the first wanted row");
  refused(m.try_step({part(0, 2, 3, 3)}), "logits of 3 tokens are wanted");
}

void test_misuse() {
  NarrowFused m(kNarrowSmall);
  refused(m.try_step({{0, {kNarrowSmall.vocab}, {0}}}), "token 0 is 100");
  refused(m.try_step({{64, {1}, {0}}}), "needs 2 blocks");
  const std::vector<float> inv_freq(kNarrowRope / 2, 1);
  ek_model_memory memory{};
  const auto plan = [&](auto&& change) {
    ek_model_params p = narrow_params(kNarrowSmall, inv_freq);
    change(p);
    return ek_model_plan(m.context(), &p, &memory);
  };
  must(plan([](ek_model_params&) {}));
  check(memory.cache_bytes == size_t{2} * 20 * (64 * 192 + 4 * 288) * 2, "bytes of the cache");
  refused(plan([](ek_model_params& p) { p.n_heads = 9; }), "got 9 heads");
  refused(plan([](ek_model_params& p) { p.latent_dim = 512; }), "and 512");
  refused(plan([](ek_model_params& p) { p.score_func = 1; }), "function 1");
  refused(plan([](ek_model_params& p) { p.sparse.cmp_stride = 32; }), "32 and 32");
  refused(plan([](ek_model_params& p) { p.ff = 96; }), "experts of 96");
  refused(plan([](ek_model_params& p) { p.sparse.select_n = 2; }), "forced");
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  test_against_cpu();
  test_other_types();
  test_shipped_widths();
  test_blocks();
  test_sequences();
  test_several_rows();
  test_misuse();
  return summary("cuda_narrow");
}
