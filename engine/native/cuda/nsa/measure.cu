#include <algorithm>
#include <cmath>

#include "../device/kernel_times.h"
#include "../device/launch.h"
#include "../device/noise.cuh"
#include "../device/stopwatch.h"
#include "measure.h"

namespace ek::cuda {

namespace {

constexpr int32_t kBlockTokens = 64;
/* So many neighbouring queries have so much of their variance in common. */
constexpr int32_t kLikeQueries = 256;
constexpr float kLikeness = 0.95f;

/* Rows of numbers: `common` times what `period` rows have in common, and `own` times a number of each. */
struct Mixture {
  int32_t width, period;
  float common, own;
  uint64_t common_stream, own_stream; /* of random numbers */
};

__global__ void fill_mixture_kernel(__nv_bfloat16* out, size_t n, Mixture m) {
  const size_t step = static_cast<size_t>(gridDim.x) * blockDim.x, width = static_cast<size_t>(m.width);
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const size_t group = i / width / static_cast<size_t>(m.period);
    const float shared = m.common * normal((m.common_stream << 40) + group * width + i % width);
    out[i] = __float2bfloat16_rn(shared + m.own * normal((m.own_stream << 40) + i));
  }
}

DeviceMemory filled_rows(Device& d, int64_t n_rows, const Mixture& m) {
  const size_t n = static_cast<size_t>(n_rows) * static_cast<size_t>(m.width);
  DeviceMemory to(n * sizeof(__nv_bfloat16));
  const int32_t blocks = ceil_div(static_cast<int64_t>(std::min<size_t>(n, size_t{1} << 20)), 256);
  launch(d.stream, "filling memory", {blocks, 256}, fill_mixture_kernel, to.as<__nv_bfloat16>(), n, m);
  return to;
}

/* What is launched on a stream, to be launched again as one. */
class Recorded {
 public:
  template <class Launch>
  Recorded(Device& d, Launch&& launch) : device_(d) {
    check(cudaStreamBeginCapture(d.stream, cudaStreamCaptureModeThreadLocal), "capturing launches");
    cudaGraph_t graph = nullptr;
    try {
      launch();
    } catch (...) {
      cudaStreamEndCapture(d.stream, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(d.stream, &graph), "capturing launches");
    const cudaError_t made = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    check(made, "making a graph");
  }
  ~Recorded() { cudaGraphExecDestroy(graph_); }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

  void run() const { check(cudaGraphLaunch(graph_, device_.stream), "launching a graph"); }

 private:
  Device& device_;
  cudaGraphExec_t graph_ = nullptr;
};

/* Layers whose rows together are several times what L2 holds. */
int32_t n_layers_for(const Device& d, const AttentionMeasure& m, double bytes) {
  constexpr double kMost = 64, kTimes = 3;
  if (m.rounds == 1) return 2;
  const double l2 = static_cast<double>(d.properties.l2CacheSize);
  return static_cast<int32_t>(std::clamp(std::ceil(kTimes * l2 / bytes), 2.0, kMost));
}

/* The batch of every layer. */
class DecodeData {
 public:
  DecodeData(Device& d, const AttentionMeasure& m, int32_t n_layers)
      : m_(m), n_blocks_((m.tokens - 1) / 64 + 1) {
    const int64_t blocks = int64_t{n_layers} * m.batch * n_blocks_;
    std::vector<int32_t> table;
    for (int32_t i = 0; i < m.batch * n_blocks_; i++) table.push_back(i);
    const size_t heads = static_cast<size_t>(m.batch) * kHeads;
    memory_.push_back(upload(std::vector<int32_t>(static_cast<size_t>(m.batch), m.tokens - 1)));
    memory_.push_back(upload(table));
    memory_.push_back(upload(std::vector<float>(heads * 3, 0.5f)));
    memory_.emplace_back(heads * kLatent * sizeof(float));
    memory_.push_back(filled_rows(d, static_cast<int64_t>(heads), {kRow, 1, 0, 0.1f, 0, 1}));
    memory_.push_back(filled_rows(d, blocks * 64, {kRow, kBlockTokens, 0.7f, 0.7f, 2, 3}));
    memory_.push_back(filled_rows(d, blocks * 4, {kRow, kBlockTokens / 16, 0.7f, 0.13f, 2, 4}));
  }

  DecodeBatch layer(int32_t i) const {
    const size_t blocks = static_cast<size_t>(i) * static_cast<size_t>(m_.batch * n_blocks_);
    return {m_.batch,
            n_blocks_,
            memory_[0].as<int32_t>(),
            memory_[1].as<int32_t>(),
            memory_[4].as<__nv_bfloat16>(),
            memory_[5].as<__nv_bfloat16>() + blocks * 64 * kRow,
            memory_[6].as<__nv_bfloat16>() + blocks * 4 * kRow,
            memory_[2].as<float>(),
            memory_[3].as<float>()};
  }

 private:
  AttentionMeasure m_;
  int32_t n_blocks_;
  std::vector<DeviceMemory> memory_;
};

AttentionTimes measure_decode(Device& d, const AttentionMeasure& m) {
  BatchAttention attention(d, m.batch, (m.tokens - 1) / 64 + 1, m.rule);
  const int32_t t = m.tokens - 1;
  AttentionTimes times;
  times.dense_bytes = m.batch * BatchAttention::dense_bytes(t);
  times.sparse_bytes = m.batch * attention.sparse_bytes(t);
  times.dense_operations = m.batch * BatchAttention::operations(m.tokens);
  times.sparse_operations = m.batch * BatchAttention::operations(attention.sparse_rows(t));
  const int32_t n_layers = n_layers_for(d, m, times.sparse_bytes);
  const DecodeData data(d, m, n_layers);
  const auto time_of = [&](bool sparse) {
    const auto call = [&](int32_t layer) {
      if (sparse) {
        attention.sparse(data.layer(layer));
      } else {
        attention.dense(data.layer(layer));
      }
    };
    if (m.rounds > 1) call(0); /* loads the kernels */
    const Recorded all(d, [&] {
      for (int32_t i = 0; i < n_layers; i++) call(i);
    });
    if (m.rounds > 1) all.run();
    const double us = best_ms(d, m.rounds, [&] { all.run(); }) * 1e3 / n_layers;
    if (m.print_kernels) {
      all.run(); /* so that the host is ahead, and its launches take no time of the device */
      KernelTimes kernels(d);
      attention.after = [&](const char* name) { kernels.mark(name); };
      for (int32_t i = 0; i < std::min(n_layers, 8); i++) call(i);
      attention.after = nullptr;
      kernels.print();
    }
    return us;
  };
  times.dense_us = time_of(false);
  times.sparse_us = time_of(true);
  return times;
}

/* A prompt with expanded keys and values: keys of a block of 64 tokens have half of their variance in common,
 * and neighbouring queries more, so that they prefer the same blocks more or less. */
class PrefillData {
 public:
  PrefillData(Device& d, const AttentionMeasure& m)
      : n_(m.tokens),
        query_(filled_rows(d, n_,
                           {kHeads * kWidth, kLikeQueries, kQuerySize * std::sqrt(kLikeness),
                            kQuerySize * std::sqrt(1 - kLikeness), 1, 2})),
        keys_(filled_rows(d, n_, {kHeads * kNope, kBlockTokens, 0.7f, 0.7f, 3, 4})),
        values_(filled_rows(d, n_, {kHeads * kValue, 1, 0, 1, 0, 5})),
        rows_(filled_rows(d, n_, {kRow, 1, 0, 0.3f, 0, 6})),
        /* A pooled row is a mean of 32: what they have in common stays, the rest becomes small. */
        pooled_keys_(filled_rows(d, n_pooled(), {kHeads * kNope, kBlockTokens / 16, 0.7f, 0.13f, 3, 7})),
        pooled_values_(filled_rows(d, n_pooled(), {kHeads * kValue, 1, 0, 0.2f, 0, 8})),
        pooled_rows_(filled_rows(d, n_pooled(), {kRow, 1, 0, 0.06f, 0, 9})),
        gates_(upload(std::vector<float>(static_cast<size_t>(n_) * kHeads * 3, 0.5f))),
        out_(static_cast<size_t>(n_) * kHeads * kValue * sizeof(__nv_bfloat16)) {
    std::vector<int32_t> table;
    for (int32_t i = 0; i <= (n_ - 1) / 64; i++) table.push_back(i);
    table_ = upload(table);
  }

  PrefillQueries queries() const {
    return {query_.as<__nv_bfloat16>(), gates_.as<float>(), out_.as<__nv_bfloat16>(), 0, n_};
  }
  ExpandedRows rows() const {
    return {keys_.as<__nv_bfloat16>(), rows_.as<__nv_bfloat16>() + kLatent, values_.as<__nv_bfloat16>(),
            kRow};
  }
  ExpandedRows pooled() const {
    return {pooled_keys_.as<__nv_bfloat16>(), pooled_rows_.as<__nv_bfloat16>() + kLatent,
            pooled_values_.as<__nv_bfloat16>(), kRow};
  }
  /* The same attention by the fused model's kernel, with all rows in one segment. */
  void attend_as_model(Device& d) const {
    SegmentAttention a{};
    a.query = query_.as<__nv_bfloat16>();
    a.end = n_;
    a.rows = rows();
    a.blocks = table_.as<int32_t>();
    a.end_slot = (n_ - 1) / 64 + 1;
    a.out = out_.as<__nv_bfloat16>();
    launch_attend_segment(d.stream, a);
  }

 private:
  static constexpr int32_t kWidth = kNope + kRope;
  static constexpr float kQuerySize = 0.25f; /* scores with pooled rows have a deviation of 2 */
  int32_t n_pooled() const { return std::max(1, pooled_visible(n_ - 1)); }

  int32_t n_;
  DeviceMemory query_, keys_, values_, rows_, pooled_keys_, pooled_values_, pooled_rows_, gates_, out_,
      table_;
};

/* Share of the blocks beside the forced ones that the next token selects as well, where there is a choice. */
double overlap_of(const std::vector<std::vector<int32_t>>& lists, const NsaRule& rule) {
  double same = 0, all = 0;
  for (size_t t = 64 * static_cast<size_t>(rule.selected); t + 1 < lists.size(); t++) {
    const int32_t own = static_cast<int32_t>(t) / 64;
    for (int32_t block : lists[t]) {
      if (rule.is_forced(block, own)) continue;
      all++;
      same += std::binary_search(lists[t + 1].begin(), lists[t + 1].end(), block);
    }
  }
  return all == 0 ? 1 : same / all;
}

/* Dense attention, and sparse attention where every token selects for itself. */
void measure_own(Device& d, const AttentionMeasure& m, const PrefillData& data, AttentionTimes& times) {
  PrefillAttention attention(d, m.tokens, m.tokens, m.rule);
  times.dense_operations = PrefillAttention::dense_operations(0, m.tokens);
  times.sparse_operations = attention.sparse_operations(0, m.tokens);
  const auto dense = [&] { attention.dense(data.queries(), data.rows()); };
  const auto sparse = [&] { attention.sparse(data.queries(), data.rows(), data.pooled()); };
  const auto chunk = [&] { data.attend_as_model(d); };
  if (m.rounds > 1) {
    dense();
    sparse();
    chunk();
  }
  times.dense_us = best_ms(d, m.rounds, dense) * 1e3;
  times.chunk_us = best_ms(d, m.rounds, chunk) * 1e3;
  times.sparse_us = best_ms(d, m.rounds, sparse) * 1e3;
  times.overlap = overlap_of(attention.selected(0, m.tokens), m.rule);
  if (m.print_kernels) {
    KernelTimes kernels(d);
    attention.after = [&](const char* name) { kernels.mark(name); };
    dense();
    sparse();
    kernels.print();
  }
}

/* Sparse attention where tiles share a choice. */
void measure_shared(Device& d, const AttentionMeasure& m, const PrefillData& data, AttentionTimes& times) {
  NsaRule rule = m.rule;
  rule.sharing = kTileQueries;
  PrefillAttention attention(d, m.tokens, m.tokens, rule);
  times.shared_operations = attention.sparse_operations(0, m.tokens);
  const auto sparse = [&] { attention.sparse(data.queries(), data.rows(), data.pooled()); };
  if (m.rounds > 1) sparse();
  times.shared_us = best_ms(d, m.rounds, sparse) * 1e3;
  if (!m.print_kernels) return;
  KernelTimes kernels(d);
  attention.after = [&](const char* name) { kernels.mark(name); };
  sparse();
  kernels.print();
}

AttentionTimes measure_prefill(Device& d, const AttentionMeasure& m) {
  const PrefillData data(d, m);
  AttentionTimes times;
  measure_own(d, m, data, times);
  measure_shared(d, m, data, times);
  return times;
}

}  // namespace

AttentionTimes measure_attention(Device& d, const AttentionMeasure& m) {
  EK_REQUIRE(
      m.tokens >= 1 && m.tokens <= 1 << 20 && m.batch >= 0 && m.batch <= 64 && m.rounds >= 1,
      "attention is measured for 1 to %d tokens, batches of at most 64 and 1 round or more, got %d, %d "
      "and %d",
      1 << 20, m.tokens, m.batch, m.rounds);
  return m.batch == 0 ? measure_prefill(d, m) : measure_decode(d, m);
}

}  // namespace ek::cuda
