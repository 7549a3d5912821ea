#include <algorithm>
#include <map>

#include "../device/kernel_times.h"
#include "kernels.h"
#include "narrow.h"

namespace ek::cuda::narrow {

struct Decoder::State {
  std::vector<DeviceMemory> memory;
  Buffers b{};
  int32_t position = 0;
  std::map<int32_t, cudaGraphExec_t> graphs; /* by splits of the pooled rows */

  /* n elements, zero. */
  template <class T>
  T* take(size_t n) {
    memory.emplace_back(n * sizeof(T));
    check(cudaMemset(memory.back().as(), 0, memory.back().n_bytes()), "clearing memory");
    return memory.back().as<T>();
  }
  ~State() {
    for (const auto& [splits, graph] : graphs) cudaGraphExecDestroy(graph);
  }
};

namespace {

size_t count(int32_t n) { return static_cast<size_t>(n); }

int32_t row_splits(const Shape& s) { return s.most_union() * (EK_KV_BLOCK / kTileRows); }

/* Splits of the pooled rows of a full cache, as a power of two. */
int32_t most_pooled_splits(const Shape& s) {
  int32_t n = 1;
  while (n * kTileRows < s.n_blocks * (EK_KV_BLOCK / kPoolStride)) n *= 2;
  return n;
}

size_t hidden_values(const Shape& s) {
  return count(s.top_k * s.ff) + count(std::max(s.shared_ff, s.dense_ff));
}

}  // namespace

void check_shape(const Shape& s) {
  EK_REQUIRE(s.n_heads <= kMostHeads && s.hidden % 16 == 0,
             "the fused kernels of narrow models take up to %d heads and a hidden size in multiples of 16, "
             "got %d and %d",
             kMostHeads, s.n_heads, s.hidden);
  EK_REQUIRE(s.ff % kGroup == 0 && s.dense_ff % kGroup == 0 && s.shared_ff % kGroup == 0 && s.shared_ff > 0,
             "the fused kernels of narrow models take shared experts, and feed-forwards in multiples of %d, "
             "got experts of %d, shared %d, dense %d",
             kGroup, s.ff, s.shared_ff, s.dense_ff);
  EK_REQUIRE(s.n_experts <= kMostExperts && s.top_k <= s.n_experts,
             "the fused kernels of narrow models choose from up to %d experts, got %d of %d", kMostExperts,
             s.top_k, s.n_experts);
  EK_REQUIRE(s.local_blocks >= 1 && s.init_blocks >= 0 && s.window >= 1 &&
                 s.select_n >= s.init_blocks + s.local_blocks,
             "native sparse attention needs a window and room for its forced blocks, got a window of %d and "
             "%d blocks, of which %d and %d are forced",
             s.window, s.select_n, s.init_blocks, s.local_blocks);
}

void check_types(const Weights& weights) {
  const auto one_type = [](ek_type type, std::initializer_list<const WeightView*> views) {
    for (const WeightView* w : views)
      EK_REQUIRE(w->type == type,
                 "the fused kernels of narrow models take matrices of one type, found %d and %d",
                 static_cast<int>(type), static_cast<int>(w->type));
  };
  require_kernels(weights.embedding.type);
  require_kernels(weights.head.type);
  for (const Layer& l : weights.layers) {
    require_kernels(l.q.type);
    one_type(l.q.type, {&l.kv_a, &l.kv_b, &l.out, &l.shared_gate, &l.shared_up, &l.shared_down});
    one_type(EK_F32, {&l.attn_gate});
    if (l.is_dense()) continue;
    one_type(l.q.type, {&l.gate, &l.up, &l.down});
    one_type(EK_F32, {&l.router});
  }
}

size_t workspace_bytes(const Shape& s) {
  const size_t heads = count(s.n_heads), pooled = count(most_pooled_splits(s)), rows = count(row_splits(s));
  const size_t floats = count(s.hidden) + kWidth * kMostHeads + kWidth + heads * 3 +
                        pooled * kTileRows * kMostHeads +
                        (pooled + 2 * rows) * (2 * kMostHeads + heads * kLatent) +
                        kQuarters * heads * kValue + count(s.top_k) * 2 + hidden_values(s) + count(s.vocab);
  constexpr size_t kRounding = size_t{64} << 10; /* every buffer is rounded up */
  return floats * sizeof(float) + count(s.vocab) / kHeadRows * sizeof(Best) + count(s.n_blocks) * 4 +
         kRounding;
}

Decoder::Decoder(Device& d, const Shape& s, Weights w, const KvView& kv, const std::vector<float>& inv_freq)
    : shape(s), weights(std::move(w)), device_(d), state_(std::make_unique<State>()) {
  check_shape(s);
  check_types(weights);
  State& st = *state_;
  Buffers& b = st.b;
  const size_t heads = count(s.n_heads), pooled = count(most_pooled_splits(s)), rows = count(row_splits(s));
  b.kv = kv;
  b.state = st.take<StepState>(1);
  b.blocks = st.take<int32_t>(count(s.n_blocks));
  float* frequencies = st.take<float>(kRope / 2);
  b.inv_freq = frequencies;
  b.turn = st.take<float2>(kRope / 2);
  b.x = st.take<float>(count(s.hidden));
  b.query = st.take<float>(kWidth * kMostHeads);
  b.kv_a = st.take<float>(kWidth);
  b.gates = st.take<float>(heads * 3);
  b.scores = st.take<float>(pooled * kTileRows * kMostHeads);
  b.pooled_max = st.take<float>(pooled * kMostHeads);
  b.pooled_sum = st.take<float>(pooled * kMostHeads);
  b.pooled_part = st.take<float>(pooled * heads * kLatent);
  for (int branch = 0; branch < 2; branch++) {
    b.row_max[branch] = st.take<float>(rows * kMostHeads);
    b.row_sum[branch] = st.take<float>(rows * kMostHeads);
    b.row_part[branch] = st.take<float>(rows * heads * kLatent);
  }
  b.heads = st.take<float>(kQuarters * heads * kValue);
  b.chosen = st.take<int32_t>(count(s.top_k));
  b.chosen_weight = st.take<float>(count(s.top_k));
  b.hidden = st.take<float>(hidden_values(s));
  b.logits = st.take<float>(count(s.vocab));
  b.best = st.take<Best>(count(ceil_div(s.vocab, kHeadRows)));
  b.choice = st.take<Choice>(1);
  std::vector<int32_t> identity(count(s.n_blocks));
  for (size_t i = 0; i < identity.size(); i++) identity[i] = static_cast<int32_t>(i);
  check(cudaMemcpy(b.blocks, identity.data(), identity.size() * 4, cudaMemcpyHostToDevice),
        "uploading the block table");
  check(cudaMemcpy(frequencies, inv_freq.data(), kRope / 2 * sizeof(float), cudaMemcpyHostToDevice),
        "uploading rotary frequencies");
  check(cudaDeviceSynchronize(), "preparing the decoder"); /* its stream does not wait for the default one */
}

Decoder::~Decoder() = default;

void Decoder::set_blocks(const int32_t* blocks, int32_t n) {
  EK_REQUIRE(n <= shape.n_blocks, "a sequence has at most %d blocks, got %d", shape.n_blocks, n);
  check(cudaMemcpyAsync(state_->b.blocks, blocks, count(n) * 4, cudaMemcpyHostToDevice, device_.stream),
        "uploading the block table");
}

void Decoder::set(int32_t token, int32_t position) {
  require_alive();
  EK_REQUIRE(token >= 0 && token < shape.vocab && position >= 0 && position < shape.n_blocks * EK_KV_BLOCK,
             "token %d at %d is outside vocabulary %d or cache %d", token, position, shape.vocab,
             shape.n_blocks * EK_KV_BLOCK);
  state_->position = position;
  launch_begin({device_.stream, shape, state_->b, {}}, weights.embedding, token, position);
}

int32_t Decoder::pooled_splits(int32_t position) const {
  const int32_t visible = state_->b.kv.n_visible(position);
  int32_t n = 1;
  while (n * kTileRows < visible) n *= 2;
  return n;
}

namespace {

/* Every kernel of a step, in order. */
void launch_all(const Step& s, const Weights& w, int32_t pooled_splits) {
  for (int32_t i = 0; i < s.shape.n_layers; i++) {
    const Layer& layer = w.layers[count(i)];
    launch_project(s, layer);
    launch_pooled(s, layer, i, pooled_splits);
    launch_attend(s, i);
    launch_combine(s, layer, pooled_splits);
    launch_project_out(s, layer);
    launch_experts_in(s, layer);
    launch_experts_out(s, layer);
  }
  launch_head(s, w.head, w.norm);
  launch_next(s, w.embedding);
}

}  // namespace

int32_t Decoder::kernels_per_step() const { return 7 * shape.n_layers + 2; }

void Decoder::launch_step(int32_t pooled_splits) {
  launch_all({device_.stream, shape, state_->b, {}}, weights, pooled_splits);
}

void Decoder::capture(int32_t pooled_splits) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(device_.stream, cudaStreamCaptureModeThreadLocal), "capturing a step");
  try {
    launch_step(pooled_splits);
  } catch (...) {
    cudaStreamEndCapture(device_.stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(device_.stream, &graph), "capturing a step");
  cudaGraphExec_t made = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&made, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "making the graph of a step");
  state_->graphs[pooled_splits] = made;
}

void Decoder::run(int32_t n_steps) {
  require_alive();
  EK_REQUIRE(state_->position + n_steps <= shape.n_blocks * EK_KV_BLOCK,
             "%d steps from position %d do not fit into a cache of %d", n_steps, state_->position,
             shape.n_blocks * EK_KV_BLOCK);
  for (int32_t i = 0; i < n_steps; i++) {
    const int32_t splits = pooled_splits(state_->position);
    if (!state_->graphs.contains(splits)) capture(splits);
    check(cudaGraphLaunch(state_->graphs[splits], device_.stream), "launching a step");
    state_->position++;
  }
}

void Decoder::choose_after(const float* x) {
  check(cudaMemcpyAsync(state_->b.x, x, count(shape.hidden) * sizeof(float), cudaMemcpyDeviceToDevice,
                        device_.stream),
        "copying the residual");
  const Step s{device_.stream, shape, state_->b, {}};
  launch_head(s, weights.head, weights.norm);
  launch_next(s, weights.embedding);
}

const float* Decoder::device_logits() const { return state_->b.logits; }
const KvView& Decoder::cache() const { return state_->b.kv; }
const int32_t* Decoder::device_blocks() const { return state_->b.blocks; }
const float* Decoder::device_frequencies() const { return state_->b.inv_freq; }

std::vector<float> Decoder::logits() {
  device_.wait();
  std::vector<float> out(count(shape.vocab));
  check(cudaMemcpy(out.data(), state_->b.logits, out.size() * 4, cudaMemcpyDeviceToHost), "reading logits");
  return out;
}

Choice Decoder::choice() {
  device_.wait();
  Choice out{};
  check(cudaMemcpy(&out, state_->b.choice, sizeof out, cudaMemcpyDeviceToHost), "reading the choice");
  return out;
}

void Decoder::time_kernels(int32_t position) {
  set(1, position);
  KernelTimes times(device_);
  launch_all({device_.stream, shape, state_->b, &times}, weights, pooled_splits(position));
  times.print();
}

double Decoder::cache_bytes(int32_t position) const {
  const double visible = state_->b.kv.n_visible(position), tokens = position + 1;
  const double attended = std::min<double>(tokens, EK_KV_BLOCK * shape.select_n + shape.window);
  return 2.0 * shape.n_layers * (visible * (kWidth + kLatent) + attended * kWidth);
}

}  // namespace ek::cuda::narrow
