/* Attention of prefill over expanded rows (cuda/prefill/expanded.h): against sums in double over what a token
 * sees, and against itself however a prompt is cut into chunks and its blocks into segments. On a GPU:
 * scripts/gpu.sh; emulated: ctest. */
#include <algorithm>
#include <cstring>

#include "../cuda/prefill/expanded.h"
#include "cuda_check.h"
#include "device_numbers.h"
#include "nsa_reference.h"

using namespace ek::test;
using ek::cuda::DeviceMemory;
using ek::cuda::kHeads;
using ek::cuda::kNope;
using ek::cuda::kRope;
using ek::cuda::kTileQueries;
using ek::cuda::kValue;
using ek::cuda::SegmentAttention;

namespace {

constexpr int32_t kWidth = kNope + kRope, kKeys = kHeads * kNope, kValues = kHeads * kValue;
constexpr float kScale = 0.12f;     /* of queries: scores have a deviation of 1.7 */
constexpr int32_t kNone = -1000000; /* a slot that leads outside of what may be read */

/* A prompt of n tokens whose blocks lie anywhere in a cache. Tiles from dense_len on have lists. */
struct Prompt {
  int32_t n, dense_len, most_listed;
  std::vector<std::vector<int32_t>> lists; /* of each tile */
  int32_t rotary_stride, rotary_offset;    /* elements of a cache row, and those before the rotary half */
  std::vector<int32_t> table;              /* cache block of each block */
  std::vector<float> query, keys, rotary, values; /* by position; rotary (n, rope) */

  Prompt(int32_t n_tokens, int32_t dense, std::vector<std::vector<int32_t>> tile_lists, int32_t stride,
         int32_t offset)
      : n(n_tokens),
        dense_len(dense),
        most_listed(tile_lists.empty() ? 0 : static_cast<int32_t>(tile_lists.back().size())),
        lists(std::move(tile_lists)),
        rotary_stride(stride),
        rotary_offset(offset),
        query(random_bf16(size_of(kHeads * kWidth), 1, kScale)),
        keys(random_bf16(size_of(kKeys), 2, 1)),
        rotary(random_bf16(size_of(kRope), 3, 1)),
        values(random_bf16(size_of(kValues), 4, 1)) {
    for (int32_t i = 0; i < n_blocks(); i++) table.push_back((i * 5 + 3) % n_cache_blocks());
    /* Maxima that come early, and maxima that come late, by a power of two, so that keys stay bf16. */
    for (int32_t i = 0; i < n; i++) {
      const float by = i / 64 == 3 ? 8.0f : i / 64 == 0 ? 4.0f : 1.0f;
      for (int32_t c = 0; c < kKeys; c++) keys[static_cast<size_t>(i * kKeys + c)] *= by;
    }
  }

  size_t size_of(int32_t width) const { return static_cast<size_t>(n) * static_cast<size_t>(width); }
  int32_t n_blocks() const { return (n - 1) / 64 + 1; }
  /* More than the prompt has, and no multiple of the table's steps. */
  int32_t n_cache_blocks() const { return n_blocks() + (n_blocks() % 5 == 4 ? 2 : 1); }

  /* The positions that the token at t sees. */
  std::vector<int32_t> seen(int32_t t) const {
    const int32_t first = t / kTileQueries * kTileQueries;
    std::vector<int32_t> blocks, out;
    if (lists.empty() || t < dense_len) {
      for (int32_t j = 0; j <= t / 64; j++) blocks.push_back(j);
    } else {
      blocks = lists[static_cast<size_t>(t / kTileQueries)];
      for (int32_t j = first / 64 + 1; j <= t / 64; j++) blocks.push_back(j);
    }
    for (int32_t j : blocks) {
      for (int32_t i = j * 64; i < std::min(t + 1, j * 64 + 64); i++) out.push_back(i);
    }
    return out;
  }

  std::vector<double> expected(int32_t t) const {
    const std::vector<int32_t> at = seen(t);
    std::vector<double> out(size_t{kValues}, 0.0);
    for (int32_t h = 0; h < kHeads; h++) {
      const float* q = &query[static_cast<size_t>((t * kHeads + h) * kWidth)];
      std::vector<double> p;
      double top = -INFINITY, total = 0;
      for (int32_t i : at) {
        const float *key = &keys[static_cast<size_t>(i * kKeys + h * kNope)],
                    *turned = &rotary[static_cast<size_t>(i * kRope)];
        double dot = 0;
        for (int32_t c = 0; c < kNope; c++) dot += static_cast<double>(q[c]) * key[c];
        for (int32_t c = 0; c < kRope; c++) dot += static_cast<double>(q[kNope + c]) * turned[c];
        p.push_back(dot);
        top = std::max(top, dot);
      }
      for (double& x : p) total += x = std::exp(x - top);
      for (size_t k = 0; k < p.size(); k++) {
        const float* value = &values[static_cast<size_t>(at[k] * kValues + h * kValue)];
        for (int32_t c = 0; c < kValue; c++)
          out[static_cast<size_t>(h * kValue + c)] += p[k] / total * value[c];
      }
    }
    return out;
  }
};

/* A run of tokens [first, end) on the device, as prefill would set it up: what it may not read is no number.
 */
class Run {
 public:
  Run(const Prompt& p, int32_t first, int32_t end) : p_(p), first_(first), end_(end) {
    find_slots();
    const size_t n = static_cast<size_t>(end - first);
    const auto from = p.query.begin() + static_cast<ptrdiff_t>(first) * kHeads * kWidth;
    const auto to = p.query.begin() + static_cast<ptrdiff_t>(end) * kHeads * kWidth;
    query_ = bf16_on_device({from, to});
    keys_ = bf16_on_device(expanded(p.keys, kKeys));
    values_ = bf16_on_device(expanded(p.values, kValues));
    rotary_ = bf16_on_device(cached_rotary());
    table_ = ek::cuda::upload(p.table);
    lists_ = ek::cuda::upload(cached_lists());
    slots_ = ek::cuda::upload(slot_of_);
    state_ = ek::cuda::upload(std::vector<float>(n * kHeads * (kValue + 5), NAN));
    out_ = bf16_on_device(std::vector<float>(n * kValues, NAN));
  }

  /* segment: slots of a call. */
  std::vector<float> attend(ek::cuda::Device& d, int32_t segment) const {
    const int32_t n_slots = static_cast<int32_t>(blocks_.size());
    const size_t n = static_cast<size_t>(end_ - first_);
    SegmentAttention a{};
    a.query = query_.as<__nv_bfloat16>();
    a.first = first_;
    a.end = end_;
    a.blocks = table_.as<int32_t>();
    if (!p_.lists.empty())
      a.lists = {lists_.as<int32_t>(), slots_.as<int32_t>(), p_.most_listed, p_.dense_len};
    a.sums = state_.as<float>();
    a.tops = a.sums + n * kValues;
    a.totals = a.tops + n * kHeads;
    a.out = out_.as<__nv_bfloat16>();
    /* One segment more than there are slots: prefill does not know how many of them there are. */
    for (int32_t begin = 0; begin <= n_slots; begin += segment) {
      const size_t row = static_cast<size_t>(begin) * 64;
      a.rows = {keys_.as<__nv_bfloat16>() + row * kKeys, rotary_.as<__nv_bfloat16>() + p_.rotary_offset,
                values_.as<__nv_bfloat16>() + row * kValues, p_.rotary_stride};
      a.begin_slot = begin;
      a.end_slot = begin + segment;
      ek::cuda::launch_attend_segment(d.stream, a);
    }
    d.wait();
    return read_bf16(a.out, n * kValues);
  }

 private:
  /* Slots of the blocks that the run's tiles need, as assign_slots gives them. */
  void find_slots() {
    std::vector<bool> needed(static_cast<size_t>(p_.n_blocks()), p_.lists.empty());
    for (int32_t t = first_; t < end_; t++) {
      for (int32_t i : p_.seen(t)) needed[static_cast<size_t>(i / 64)] = true;
    }
    if (!p_.lists.empty() && first_ < p_.dense_len)
      std::fill_n(needed.begin(), std::min(p_.dense_len / 64, p_.n_blocks()), true);
    for (int32_t t = std::max(first_, p_.dense_len) / kTileQueries; t * kTileQueries < end_; t++) {
      if (p_.lists.empty()) break;
      for (int32_t j : p_.lists[static_cast<size_t>(t)]) needed[static_cast<size_t>(j)] = true;
    }
    slot_of_.assign(needed.size(), kNone);
    for (int32_t j = 0; j < p_.n_blocks() && j * 64 < end_; j++) {
      if (!needed[static_cast<size_t>(j)]) continue;
      slot_of_[static_cast<size_t>(j)] = static_cast<int32_t>(blocks_.size());
      blocks_.push_back(j);
    }
  }

  /* Rows by slot; those from `end` on do not exist. */
  std::vector<float> expanded(const std::vector<float>& by_position, int32_t width) const {
    std::vector<float> out;
    for (int32_t j : blocks_) {
      for (int32_t i = j * 64; i < j * 64 + 64; i++) {
        for (int32_t c = 0; c < width; c++)
          out.push_back(i < end_ ? by_position[static_cast<size_t>(i * width + c)] : NAN);
      }
    }
    return out;
  }

  std::vector<float> cached_rotary() const {
    std::vector<float> out(static_cast<size_t>(p_.n_cache_blocks() * 64 * p_.rotary_stride), NAN);
    for (int32_t i = 0; i < end_; i++) {
      const int32_t row = p_.table[static_cast<size_t>(i / 64)] * 64 + i % 64;
      std::copy_n(p_.rotary.begin() + i * kRope, kRope,
                  out.begin() + row * p_.rotary_stride + p_.rotary_offset);
    }
    return out;
  }

  std::vector<int32_t> cached_lists() const {
    std::vector<int32_t> out(static_cast<size_t>(p_.n_cache_blocks() * p_.most_listed), kNone);
    for (size_t tile = 0; tile < p_.lists.size(); tile++) {
      const int32_t block = p_.table[tile * (kTileQueries / 64)];
      std::copy(p_.lists[tile].begin(), p_.lists[tile].end(), out.begin() + block * p_.most_listed);
    }
    return out;
  }

  const Prompt& p_;
  int32_t first_, end_;
  std::vector<int32_t> blocks_, slot_of_; /* block of each slot, slot of each block */
  DeviceMemory query_, keys_, values_, rotary_, table_, lists_, slots_, state_, out_;
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Cut {
  int32_t first, end, segment;
};

void test_prompt(ek::cuda::Device& d, const std::string& name, const Prompt& p,
                 const std::vector<Cut>& cuts) {
  constexpr double kMostError = 0.004; /* weights and what is written are rounded to bf16 */
  const std::vector<float> whole = Run(p, 0, p.n).attend(d, p.n_blocks());
  const auto rows = [&](int32_t first, int32_t end) {
    return std::vector<float>(whole.begin() + static_cast<ptrdiff_t>(first) * kValues,
                              whole.begin() + static_cast<ptrdiff_t>(end) * kValues);
  };
  double worst = 0;
  for (int32_t t = 0; t < p.n; t++) {
    if (t % 32 > 1 && t % 23 != 0 && t + 1 < p.n) continue; /* both ends of what a warp has */
    const double error = relative_error(rows(t, t + 1), p.expected(t));
    check(error <= kMostError, name + ", token " + std::to_string(t) + ": error " + std::to_string(error));
    worst = std::max(worst, error);
  }
  for (const Cut& c : cuts) {
    for (int round = 0; round < (kSmallShapes ? 1 : 20); round++) {
      check(same_bits(Run(p, c.first, c.end).attend(d, c.segment), rows(c.first, c.end)),
            name + ": tokens " + std::to_string(c.first) + " to " + std::to_string(c.end - 1) +
                " in segments of " + std::to_string(c.segment) + " blocks have other bits");
    }
  }
  std::printf("     %s: error %.2g\n", name.c_str(), worst);
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    ek::cuda::Device d(0);
    check(ek::cuda::multiplies_in_groups() == (d.capability() == 90),
          "groups of warps multiply where the GPU can, and only there");
    /* Chunks that begin and end inside of a warp's 32 queries, within one warp, and of one token; a segment
     * of one block ends for the first two warps of a tile before the last block of the others. */
    const std::vector<Cut> cuts{{0, 45, 1},    {45, 46, 1},   {37, 219, 2},  {70, 90, 1},  {127, 129, 1},
                                {130, 300, 3}, {255, 257, 2}, {200, 290, 1}, {0, 290, 10}, {288, 300, 4}};
    test_prompt(d, "dense", Prompt(300, 0, {}, 576, 512), cuts);
    /* The list of tile 2 lies in two segments or more, with a gap between them; block 1 is of tile 1 alone.
     */
    test_prompt(d, "lists", Prompt(300, 128, {{}, {0, 1, 2}, {0, 3, 4}}, 328, 264), cuts);
    /* Lists that leave nothing out have the bits of dense attention. */
    check(same_bits(Run(Prompt(300, 128, {{}, {0, 1, 2}, {0, 1, 2, 3, 4}}, 576, 512), 100, 300).attend(d, 2),
                    Run(Prompt(300, 0, {}, 576, 512), 100, 300).attend(d, 3)),
          "lists of all blocks give other bits than dense attention");
  } catch (const std::exception& e) {
    check(false, e.what());
  }
  return summary("cuda_attend");
}
