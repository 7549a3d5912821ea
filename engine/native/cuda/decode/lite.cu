#include <algorithm>
#include <cmath>

#include "../device/kernel_times.h"
#include "lite.h"
#include "random.h"

namespace ek::cuda {

struct LiteDecoder::State {
  std::vector<DeviceMemory> memory;
  StepBuffers b{};
  int32_t position = 0;                                                 /* of the next run */
  cudaGraphExec_t run_graphs[2] = {}, step_graphs[kMostTokens][2] = {}; /* dense, sparse */

  template <class T>
  T* take(size_t n) {
    memory.emplace_back(n * sizeof(T));
    check(cudaMemset(memory.back().as(), 0, memory.back().n_bytes()), "clearing memory");
    check(cudaDeviceSynchronize(), "clearing memory"); /* other streams do not wait for it */
    return memory.back().as<T>();
  }
  ~State() {
    const auto destroy = [](cudaGraphExec_t(&graphs)[2]) {
      for (cudaGraphExec_t graph : graphs) {
        if (graph != nullptr) cudaGraphExecDestroy(graph);
      }
    };
    destroy(run_graphs);
    for (auto& graphs : step_graphs) destroy(graphs);
  }
};

void check_lite_shape(const LiteShape& s) {
  EK_REQUIRE(s.hidden % 32 == 0 && s.ff % 32 == 0 && s.shared_ff % 32 == 0 && s.dense_ff % 32 == 0 &&
                 s.vocab % 16 == 0,
             "the fused kernels take widths in multiples of 32 and a vocabulary in multiples of 16, got "
             "hidden %d, experts %d, shared %d, dense %d, vocabulary %d",
             s.hidden, s.ff, s.shared_ff, s.dense_ff, s.vocab);
  EK_REQUIRE(s.shared_ff > 0 || s.n_dense == s.n_layers, "the fused kernels need shared experts");
  EK_REQUIRE(s.n_experts <= 256 && s.top_k <= s.n_experts,
             "the fused kernels choose from at most 256 experts, got %d of %d", s.top_k, s.n_experts);
  EK_REQUIRE(s.local >= 1 && s.top >= 0,
             "sparse attention needs the block of the token itself, got %d and %d", s.local, s.top);
}

std::vector<float> lite_frequencies() {
  constexpr double kBase = 10000, kFactor = 40, kLow = 10, kHigh = 23;
  std::vector<float> out;
  for (int i = 0; i < kRope / 2; i++) {
    const double plain = std::pow(kBase, -2.0 * i / kRope);
    const double keep = 1 - std::clamp((i - kLow) / (kHigh - kLow), 0.0, 1.0);
    out.push_back(static_cast<float>(plain * keep + plain / kFactor * (1 - keep)));
  }
  return out;
}

namespace {

int32_t padded(int32_t columns) { return ceil_div(columns, kGroup) * kGroup; }

/* Where a token's buffers lie: bytes of them all. base may be null. */
size_t place_buffers(TokenBuffers& b, const LiteShape& shape, uint8_t* base) {
  constexpr size_t kAlign = 256;
  size_t at = 0;
  const auto place = [&](size_t n, auto*& pointer) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + at);
    at += (n * sizeof(*pointer) + kAlign - 1) / kAlign * kAlign;
  };
  visit_buffers(token_sizes(shape), place, b);
  return at;
}

void launch_layer(const Step& s, const LiteLayer& layer, int32_t index, bool sparse) {
  const bool selects = sparse && index >= s.shape.dense_layers;
  launch_project_in(s, layer);
  launch_absorb(s, layer, index);
  if (selects) launch_select(s, index);
  launch_attend(s, index, selects);
  launch_combine(s, layer);
  launch_project_out(s, layer, index);
  launch_experts_in(s, layer);
  launch_experts_out(s, layer);
}

}  // namespace

TokenSizes token_sizes(const LiteShape& s) {
  const size_t columns =
      static_cast<size_t>(s.top_k * padded(s.ff) + padded(s.shared_ff) + padded(s.dense_ff));
  return {static_cast<size_t>(s.hidden),   static_cast<size_t>(s.n_experts),
          static_cast<size_t>(s.top_k),    columns / 8,
          static_cast<size_t>(s.vocab),    static_cast<size_t>(s.n_blocks),
          static_cast<size_t>(s.n_layers), static_cast<size_t>(score_groups(s)) * kHeads};
}

size_t step_bytes(const LiteShape& shape) {
  TokenBuffers none{};
  return kMostTokens * place_buffers(none, shape, nullptr);
}

LiteDecoder::LiteDecoder(Device& d, const LiteShape& s, LiteWeights w, const std::vector<float>& inv_freq)
    : shape(s), weights(std::move(w)), device_(d), state_(std::make_unique<State>()) {
  check_lite_shape(s);
  check_lite_types(weights);
  State& st = *state_;
  StepBuffers& b = st.b;
  const size_t blocks = static_cast<size_t>(s.n_blocks), layers = static_cast<size_t>(s.n_layers);
  b.most_shared = most_block_memory();
  b.token_bytes = static_cast<uint32_t>(place_buffers(b, s, st.take<uint8_t>(step_bytes(s))));
  b.scores.n_groups = score_groups(s);
  b.expert_width = padded(s.ff);
  b.shared_width = padded(s.shared_ff);
  const size_t folded = static_cast<size_t>(s.n_experts) * kHeads * kValue;
  b.router_out = st.take<float>(layers * folded);
  for (size_t i = 0; i < layers; i++) {
    const LiteLayer& layer = weights.layers[i];
    if (layer.router != nullptr) fold_router(d, s, layer, b.router_out + i * folded);
  }
  const size_t rows = layers * blocks * 64;
  b.cache = {st.take<uint8_t>(rows * static_cast<size_t>(cache_row_bytes(s.rows))), s.rows};
  b.pooled = st.take<__nv_bfloat16>(rows / kPoolStride * kRow);
  b.tile_lists = st.take<int32_t>(rows / 64 * static_cast<size_t>(s.most_listed()));
  std::vector<int32_t> identity(blocks);
  for (size_t i = 0; i < blocks; i++) identity[i] = static_cast<int32_t>(i);
  for (int32_t i = 0; i < kMostTokens; i++)
    check(cudaMemcpy(b.of_token(i).blocks, identity.data(), blocks * 4, cudaMemcpyHostToDevice),
          "uploading the block table");
  float* frequencies = st.take<float>(kRope / 2);
  check(cudaMemcpy(frequencies, inv_freq.data(), kRope / 2 * sizeof(float), cudaMemcpyHostToDevice),
        "uploading rotary frequencies");
  b.inv_freq = frequencies;
  check(cudaDeviceSynchronize(), "preparing the decoder"); /* its stream does not wait for the default one */
}

LiteDecoder::~LiteDecoder() = default;

void LiteDecoder::fill_cache(int32_t n_tokens, uint32_t seed) {
  EK_REQUIRE(n_tokens <= shape.n_blocks * 64, "the cache holds %d tokens, not %d", shape.n_blocks * 64,
             n_tokens);
  fill_cache_rows(device_, shape, state_->b, n_tokens, seed + 77);
}

void LiteDecoder::set_blocks(int32_t index, const int32_t* blocks, int32_t n) {
  EK_REQUIRE(n <= shape.n_blocks, "a sequence has at most %d blocks, got %d", shape.n_blocks, n);
  check(cudaMemcpyAsync(state_->b.of_token(index).blocks, blocks, static_cast<size_t>(n) * 4,
                        cudaMemcpyHostToDevice, device_.stream),
        "uploading the block table");
}

void LiteDecoder::copy_block(int32_t dst, int32_t src) {
  if (dst == src) return;
  const auto copy = [&](void* base, size_t block) {
    const size_t pitch = block * static_cast<size_t>(shape.n_blocks);
    uint8_t* at = static_cast<uint8_t*>(base);
    check(cudaMemcpy2DAsync(at + block * static_cast<size_t>(dst), pitch,
                            at + block * static_cast<size_t>(src), pitch, block,
                            static_cast<size_t>(shape.n_layers), cudaMemcpyDeviceToDevice, device_.stream),
          "copying a block of the cache");
  };
  copy(state_->b.cache.data, 64 * static_cast<size_t>(cache_row_bytes(shape.rows)));
  copy(state_->b.pooled, 64 / kPoolStride * kRow * sizeof(__nv_bfloat16));
  copy(state_->b.tile_lists, static_cast<size_t>(shape.most_listed()) * sizeof(int32_t));
}

void LiteDecoder::copy_logits(int32_t index, float* to) {
  check(cudaMemcpyAsync(to, state_->b.of_token(index).logits, static_cast<size_t>(shape.vocab) * 4,
                        cudaMemcpyDeviceToDevice, device_.stream),
        "copying logits");
}

void LiteDecoder::upload(const std::vector<StepToken>& tokens) {
  const size_t n = tokens.size();
  EK_REQUIRE(n > 0 && n <= kMostTokens, "a step has 1 to %d tokens, got %zu", kMostTokens, n);
  std::vector<StepState> states;
  for (size_t i = 0; i < n; i++) {
    const StepToken& of = tokens[i];
    EK_REQUIRE(
        of.token >= 0 && of.token < shape.vocab && of.position >= 0 && of.position < shape.n_blocks * 64,
        "token %d at %d is outside vocabulary %d or cache %d", of.token, of.position, shape.vocab,
        shape.n_blocks * 64);
    EK_REQUIRE(!of.continues || (i > 0 && of.position == tokens[i - 1].position + 1),
               "token %zu of a step, at %d, continues nothing", i, of.position);
    states.push_back(
        {of.token, of.position, 0, of.continues ? states[i - 1].first : of.position, 1, of.wanted});
  }
  for (size_t i = n - 1; i > 0; i--) {
    if (tokens[i].continues) states[i - 1].n_left = states[i].n_left + 1;
  }
  check(cudaMemcpy2DAsync(state_->b.state, state_->b.token_bytes, states.data(), sizeof(StepState),
                          sizeof(StepState), n, cudaMemcpyHostToDevice, device_.stream),
        "setting the step");
}

void LiteDecoder::step(const std::vector<StepToken>& tokens) {
  require_alive();
  upload(tokens);
  const bool sparse = std::any_of(tokens.begin(), tokens.end(),
                                  [&](const StepToken& t) { return t.position >= shape.dense_len; });
  const int32_t n = static_cast<int32_t>(tokens.size());
  cudaGraphExec_t& graph = state_->step_graphs[n - 1][sparse];
  if (graph == nullptr) {
    const Step s{device_.stream, shape, state_->b, n, {}};
    graph = captured([&] {
      launch_next(s, weights, false);
      launch_layers(s, sparse);
    });
  }
  check(cudaGraphLaunch(graph, device_.stream), "launching a step");
}

void LiteDecoder::set(int32_t token, int32_t position) {
  upload({{token, position, false, true}});
  state_->position = position;
  launch_next({device_.stream, shape, state_->b, 1, {}}, weights, false);
}

void LiteDecoder::choose_after(const float* x, int32_t position) {
  upload({{0, position, false, true}});
  check(cudaMemcpyAsync(state_->b.x, x, static_cast<size_t>(shape.hidden) * sizeof(float),
                        cudaMemcpyDeviceToDevice, device_.stream),
        "copying the residual");
  const Step s{device_.stream, shape, state_->b, 1, {}};
  launch_head(s, weights);
  launch_next(s, weights, true);
  state_->position = position + 1;
}

const StepBuffers& LiteDecoder::buffers() const { return state_->b; }

void LiteDecoder::launch_layers(const Step& s, bool sparse) {
  for (int32_t i = 0; i < shape.n_layers; i++)
    launch_layer(s, weights.layers[static_cast<size_t>(i)], i, sparse);
  launch_head(s, weights);
}

template <class Launch>
cudaGraphExec_t LiteDecoder::captured(Launch&& launch) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(device_.stream, cudaStreamCaptureModeThreadLocal), "capturing a step");
  try {
    launch();
  } catch (...) {
    cudaStreamEndCapture(device_.stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(device_.stream, &graph), "capturing a step");
  cudaGraphExec_t out = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&out, graph, 0);
  cudaGraphDestroy(graph);
  check(made, "making the graph of a step");
  return out;
}

void LiteDecoder::run(int32_t n_steps) {
  require_alive();
  EK_REQUIRE(state_->position + n_steps <= shape.n_blocks * 64,
             "%d steps from position %d do not fit into a cache of %d", n_steps, state_->position,
             shape.n_blocks * 64);
  for (int32_t i = 0; i < n_steps; i++) {
    const bool sparse = state_->position >= shape.dense_len;
    cudaGraphExec_t& graph = state_->run_graphs[sparse];
    if (graph == nullptr) {
      const Step s{device_.stream, shape, state_->b, 1, {}};
      graph = captured([&] {
        launch_layers(s, sparse);
        launch_next(s, weights, true);
      });
    }
    check(cudaGraphLaunch(graph, device_.stream), "launching a step");
    state_->position++;
  }
}

std::vector<float> LiteDecoder::logits(int32_t index) {
  device_.wait();
  std::vector<float> out(static_cast<size_t>(shape.vocab));
  check(cudaMemcpy(out.data(), state_->b.of_token(index).logits, out.size() * 4, cudaMemcpyDeviceToHost),
        "reading logits");
  return out;
}

int32_t LiteDecoder::token() {
  device_.wait();
  StepState state{};
  check(cudaMemcpy(&state, state_->b.state, sizeof state, cudaMemcpyDeviceToHost), "reading the token");
  return state.token;
}

double LiteDecoder::cache_bytes(int32_t position) const {
  constexpr double kPooledBytes = 2.0 * kRow;
  const double tokens = position + 1, layers = shape.n_layers, row = cache_row_bytes(shape.rows);
  if (position < shape.dense_len) return tokens * layers * row;
  const double chosen = std::min(tokens, 64.0 * (1 + shape.local + shape.top)), dense = shape.dense_layers;
  return row * (dense * tokens + (layers - dense) * chosen) +
         kPooledBytes * (layers - dense) * tokens / kPoolStride;
}

void LiteDecoder::time_kernels(int32_t position, int32_t n_tokens) {
  std::vector<StepToken> tokens;
  for (int32_t i = 0; i < n_tokens; i++) tokens.push_back({i + 1, position + i, i > 0, true});
  step(tokens);
  device_.wait();
  KernelTimes times(device_);
  const Step s{device_.stream, shape, state_->b, n_tokens, &times};
  launch_next(s, weights, false);
  launch_layers(s, position >= shape.dense_len);
  times.print();
}

}  // namespace ek::cuda
