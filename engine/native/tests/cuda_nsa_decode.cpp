/* Attention of one token of each of several sequences, dense and sparse (cuda/nsa/decode.h), against the same
 * rule in double. On a GPU: scripts/gpu.sh; emulated: ctest. */
#include <algorithm>
#include <cstring>
#include <numeric>

#include "../core/error.h"
#include "../cuda/nsa/decode.h"
#include "cuda_check.h"
#include "lite_reference.h"
#include "nsa_reference.h"

using namespace ek::test;
using ek::cuda::BatchAttention;
using ek::cuda::DecodeBatch;
using ek::cuda::DeviceMemory;
using ek::cuda::kHeads;
using ek::cuda::kLatent;
using ek::cuda::kRow;
using ek::cuda::NsaRule;
using ek::cuda::upload;

namespace {

constexpr float kScale = 0.07f; /* of queries: scores have a deviation of 1.7 */

std::vector<float> rounded(std::vector<float> v) {
  for (float& x : v) x = static_cast<float>(bf16(x));
  return v;
}

uint16_t bits(float x) { return static_cast<uint16_t>(ek::bits_of(x) >> 16); }

/* One sequence whose last token is the new one. */
struct Sequence {
  int32_t n;
  std::vector<float> rows, pooled, query, gates;

  Sequence(int32_t n_tokens, uint32_t seed)
      : n(n_tokens),
        rows(rounded(random_floats(static_cast<size_t>(n) * kRow, seed))),
        query(rounded(random_floats(kHeads * kRow, seed + 1, kScale))),
        gates(random_floats(kHeads * 3, seed + 2, 2.0f)) {
    const int32_t n_pooled = ek::cuda::pooled_visible(n - 1);
    for (int32_t i = 0; i < n_pooled; i++) {
      for (int32_t c = 0; c < kRow; c++) {
        float sum = 0; /* means would hardly differ: of random rows this keeps their size */
        for (int32_t k = 0; k < 32; k++) sum += rows[static_cast<size_t>((16 * i + k) * kRow + c)];
        pooled.push_back(static_cast<float>(bf16(sum / 5.6f)));
      }
    }
  }

  NsaReference reference(const NsaRule& rule) const {
    return {rule, kRow, kLatent, std::vector<HostRows>(kHeads, {rows.data(), rows.data(), kRow, kRow}),
            std::vector<HostRows>(kHeads, {pooled.data(), pooled.data(), kRow, kRow})};
  }
};

/* Sequences in device memory: blocks of 64 tokens lie in any order, and what no token has is not a number. */
class Batch {
 public:
  explicit Batch(const std::vector<const Sequence*>& sequences) : n_(static_cast<int32_t>(sequences.size())) {
    int32_t n_blocks = 0;
    for (const Sequence* s : sequences) {
      most_blocks_ = std::max(most_blocks_, (s->n - 1) / 64 + 1);
      n_blocks += (s->n - 1) / 64 + 1;
    }
    std::vector<int32_t> order(static_cast<size_t>(n_blocks)), positions, tables;
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    std::vector<uint16_t> cache(order.size() * 64 * kRow, 0xffff), pooled(order.size() * 4 * kRow, 0xffff),
        query;
    std::vector<float> gates;
    auto next = order.begin();
    for (const Sequence* s : sequences) {
      std::vector<int32_t> table(next, next + (s->n - 1) / 64 + 1);
      next += static_cast<ptrdiff_t>(table.size());
      place(s->rows, table, 64, 0, cache);
      place(s->pooled, table, 4, 1, pooled);
      positions.push_back(s->n - 1);
      table.resize(static_cast<size_t>(most_blocks_), 1 << 28);
      tables.insert(tables.end(), table.begin(), table.end());
      for (float x : s->query) query.push_back(bits(x));
      gates.insert(gates.end(), s->gates.begin(), s->gates.end());
    }
    memory_.push_back(upload(positions));
    memory_.push_back(upload(tables));
    memory_.push_back(upload(query));
    memory_.push_back(upload(cache));
    memory_.push_back(upload(pooled));
    memory_.push_back(upload(gates));
    memory_.emplace_back(static_cast<size_t>(n_) * kHeads * kLatent * sizeof(float));
    positions_ = positions;
  }

  /* The weighted latents of each sequence. */
  std::vector<std::vector<float>> run(ek::cuda::Device& d, const BatchAttention& attention,
                                      bool sparse) const {
    const DecodeBatch b{n_,
                        most_blocks_,
                        memory_[0].as<int32_t>(),
                        memory_[1].as<int32_t>(),
                        memory_[2].as<__nv_bfloat16>(),
                        memory_[3].as<__nv_bfloat16>(),
                        memory_[4].as<__nv_bfloat16>(),
                        memory_[5].as<float>(),
                        memory_[6].as<float>()};
    if (sparse) {
      attention.sparse(b);
    } else {
      attention.dense(b);
    }
    d.wait();
    std::vector<float> all(static_cast<size_t>(n_) * kHeads * kLatent);
    ek::cuda::check(cudaMemcpy(all.data(), b.out, all.size() * 4, cudaMemcpyDeviceToHost), "reading latents");
    std::vector<std::vector<float>> out;
    for (int32_t i = 0; i < n_; i++) {
      const auto from = all.begin() + static_cast<ptrdiff_t>(i) * kHeads * kLatent;
      out.emplace_back(from, from + kHeads * kLatent);
    }
    return out;
  }

  int32_t most_blocks() const { return most_blocks_; }
  int32_t n() const { return n_; }
  const std::vector<int32_t>& positions() const { return positions_; }

 private:
  /* Row i of a sequence is row i + shift of its blocks of per_block. */
  static void place(const std::vector<float>& rows, const std::vector<int32_t>& table, int32_t per_block,
                    int32_t shift, std::vector<uint16_t>& to) {
    for (size_t i = 0; i < rows.size(); i++) {
      const int32_t row = static_cast<int32_t>(i / kRow) + shift;
      const size_t at = static_cast<size_t>(table[static_cast<size_t>(row / per_block)] * per_block) +
                        static_cast<size_t>(row % per_block);
      to[at * kRow + i % kRow] = bits(rows[i]);
    }
  }

  int32_t n_, most_blocks_ = 0;
  std::vector<int32_t> positions_;
  std::vector<DeviceMemory> memory_;
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<const Sequence*> pointers(const std::vector<Sequence>& sequences) {
  std::vector<const Sequence*> out;
  for (const Sequence& s : sequences) out.push_back(&s);
  return out;
}

std::vector<Sequence> sequences_of(const std::vector<int32_t>& lengths, uint32_t seed) {
  std::vector<Sequence> out;
  for (int32_t n : lengths) out.emplace_back(n, seed += 10);
  return out;
}

/* Weights are rounded to bf16: 0.2 % each, and less in a sum of many. */
constexpr double kMostError = 0.003, kMostExcess = 1e-3;

/* room: for sequences of so many blocks. */
void test_against_reference(ek::cuda::Device& d, const NsaRule& rule, const std::vector<int32_t>& lengths,
                            int32_t room = 0) {
  const std::vector<Sequence> sequences = sequences_of(lengths, 1);
  const Batch batch(pointers(sequences));
  const BatchAttention attention(d, batch.n(), std::max(room, batch.most_blocks()), rule);
  const auto dense = batch.run(d, attention, false), sparse = batch.run(d, attention, true);
  const auto lists = attention.selected(batch.positions());
  double worst_dense = 0, worst_sparse = 0, worst_choice = 0;
  for (size_t i = 0; i < sequences.size(); i++) {
    const Sequence& s = sequences[i];
    const NsaReference reference = s.reference(rule);
    const std::string name = std::to_string(s.n) + " tokens, " + std::to_string(rule.selected) + " blocks: ";
    const double dense_error = relative_error(dense[i], reference.attend_densely(s.query, s.n - 1));
    check(dense_error <= kMostError, name + "dense, error " + std::to_string(dense_error));
    const double excess = reference.excess(reference.masses(s.query, s.n - 1), lists[i], s.n - 1);
    check(excess <= kMostExcess, name + "a block that is better was left out, by " + std::to_string(excess));
    const double error = relative_error(sparse[i], reference.attend(s.query, s.gates, lists[i], s.n - 1));
    check(error <= kMostError, name + "sparse, error " + std::to_string(error));
    worst_dense = std::max(worst_dense, dense_error);
    worst_sparse = std::max(worst_sparse, error);
    worst_choice = std::max(worst_choice, excess);
  }
  std::printf("     %d blocks, window %d: error dense %.2g, sparse %.2g, choice %.2g\n", rule.selected,
              rule.window, worst_dense, worst_sparse, worst_choice);
}

/* More blocks than have their masses loaded early. */
void test_long(ek::cuda::Device& d, int32_t n_tokens) {
  const Sequence s(n_tokens, 40);
  const NsaRule rule;
  const Batch batch({&s});
  const BatchAttention attention(d, 1, batch.most_blocks(), rule);
  const auto sparse = batch.run(d, attention, true);
  const auto list = attention.selected(batch.positions())[0];
  const NsaReference reference = s.reference(rule);
  const double excess = reference.excess(reference.masses(s.query, n_tokens - 1), list, n_tokens - 1);
  const double error = relative_error(sparse[0], reference.attend(s.query, s.gates, list, n_tokens - 1));
  check(excess <= kMostExcess, "a better block was left out, by " + std::to_string(excess));
  check(error <= kMostError, std::to_string(n_tokens) + " tokens: sparse, error " + std::to_string(error));
  std::printf("     %d tokens: error sparse %.2g, choice %.2g\n", n_tokens, error, excess);
}

/* What a sequence gets depends neither on the other ones, nor on its place among them, nor on chance; and
 * alone it selects the same blocks, though its parts are others. */
void test_independence(ek::cuda::Device& d, const NsaRule& rule) {
  const std::vector<Sequence> sequences = sequences_of({700, 33, 321, 1, 450}, 100);
  const std::vector<Sequence> others = sequences_of({64, 1000, 5, 129}, 300);
  const Batch batch(pointers(sequences));
  const Batch moved({&others[0], &sequences[2], &others[1], &others[2], &sequences[0]});
  const BatchAttention attention(d, 5, 16, rule);
  for (bool sparse : {false, true}) {
    const std::string name = sparse ? "sparse: " : "dense: ";
    const auto first = batch.run(d, attention, sparse);
    for (int round = 0; round < (kSmallShapes ? 2 : 20); round++)
      check(batch.run(d, attention, sparse) == first, name + "a second run gives other bits");
    const auto lists = attention.selected(batch.positions());
    const auto other = moved.run(d, attention, sparse);
    check(same(other[4], first[0]) && same(other[1], first[2]), name + "neighbours change the bits");
    const Batch alone({&sequences[0]});
    const BatchAttention single(d, 1, 16, rule);
    const auto own = alone.run(d, single, sparse);
    const double error = relative_error(own[0], {first[0].begin(), first[0].end()});
    check(error <= kMostError, name + "alone, error " + std::to_string(error));
    if (sparse) check(single.selected({699})[0] == lists[0], "alone a sequence selects other blocks");
  }
}

/* All rows are equal, and so are blocks: the lowest win, however many there are. */
void test_ties(ek::cuda::Device& d, int32_t n_tokens, int32_t selected) {
  Sequence s(n_tokens, 5);
  for (size_t i = 0; i < s.rows.size(); i++) s.rows[i] = s.rows[i % kRow];
  for (size_t i = 0; i < s.pooled.size(); i++) s.pooled[i] = s.pooled[i % kRow];
  const Batch batch({&s});
  const BatchAttention attention(d, 1, batch.most_blocks(), {selected, 1, 2, 64});
  batch.run(d, attention, true);
  std::vector<int32_t> lowest(static_cast<size_t>(selected));
  std::iota(lowest.begin(), lowest.end(), 0);
  const int32_t own = (n_tokens - 1) / 64;
  std::copy_n(std::vector<int32_t>{own - 1, own}.begin(), 2, lowest.end() - 2);
  check(attention.selected(batch.positions())[0] == lowest,
        "of " + std::to_string(own + 1) + " equal blocks the lowest are not selected");
}

void test_refused(ek::cuda::Device& d) {
  for (const NsaRule& rule : {NsaRule{2, 1, 2, 64}, NsaRule{65, 1, 2, 64}, NsaRule{16, 1, 0, 64}}) {
    bool refused = false;
    try {
      const BatchAttention attention(d, 1, 4, rule);
    } catch (const ek::ArgError&) {
      refused = true;
    }
    check(refused, "a rule without kernels was accepted");
  }
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    ek::cuda::Device d(0);
    std::vector<int32_t> lengths{1, 31, 32, 33, 63, 64, 65, 511, 512, 513, 575, 1024, 1025, 1152};
    if (!kSmallShapes) lengths.insert(lengths.end(), {4097, 20000});
    test_against_reference(d, NsaRule{}, lengths);
    /* What choosing needs for such long sequences has no room beside two tiles. */
    test_against_reference(d, NsaRule{}, {1, 33, 513, 1025, 1152, 1300}, 8192);
    test_against_reference(d, NsaRule{5, 1, 2, 96}, {96, 97, 320, 321, 383, 1040, 1100});
    test_against_reference(d, NsaRule{3, 1, 2, 1}, {300});
    test_independence(d, NsaRule{5, 1, 2, 96});
    test_against_reference(d, NsaRule{40, 1, 2, 96}, {3001});
    test_ties(d, 1100, 6);
    test_ties(d, 2600, 38);
    test_ties(d, 19300, 16); /* more ties than are ranked at once */
    test_long(d, 69000);
    test_refused(d);
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return summary("cuda_nsa_decode");
}
