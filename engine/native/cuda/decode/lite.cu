#include <algorithm>
#include <cmath>
#include <cstring>

#include "../device/e4m3.h"
#include "../device/kernel_times.h"
#include "lite.h"
#include "random.h"

namespace ek::cuda {

struct LiteDecoder::State {
  std::vector<DeviceMemory> memory;
  StepBuffers b{};
  int32_t position = 0;
  cudaGraphExec_t graphs[2] = {};

  template <class T>
  T* take(size_t n) {
    memory.emplace_back(n * sizeof(T));
    check(cudaMemset(memory.back().as(), 0, memory.back().n_bytes()), "clearing memory");
    return memory.back().as<T>();
  }
  ~State() {
    for (cudaGraphExec_t graph : graphs) {
      if (graph != nullptr) cudaGraphExecDestroy(graph);
    }
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

LiteDecoder::LiteDecoder(Device& d, const LiteShape& s, LiteWeights w, const std::vector<float>& inv_freq)
    : shape(s), weights(std::move(w)), device_(d), state_(std::make_unique<State>()) {
  check_lite_shape(s);
  check_lite_types(weights);
  State& st = *state_;
  StepBuffers& b = st.b;
  const size_t blocks = static_cast<size_t>(s.n_blocks), layers = static_cast<size_t>(s.n_layers);
  int most_shared = 0, id = 0;
  check(cudaGetDevice(&id), "asking for the device");
  check(cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, id),
        "asking for shared memory");
  b.most_shared = static_cast<size_t>(most_shared);
  b.state = st.take<StepState>(1);
  b.x = st.take<float>(static_cast<size_t>(s.hidden));
  b.q = st.take<float>(kHeads * (kNope + kRope));
  b.kv_a = st.take<float>(kRow);
  b.query = st.take<__nv_bfloat16>(kHeads * kRow);
  b.part = st.take<float>(size_t{kSplits} * kHeads * kLatent);
  b.part_max = st.take<float>(kSplits * kHeads);
  b.part_sum = st.take<float>(kSplits * kHeads);
  b.heads_part = st.take<float>(4 * kHeads * kValue);
  b.router_before = st.take<float>(static_cast<size_t>(s.n_experts));
  b.router = st.take<float>(static_cast<size_t>(s.n_experts));
  const size_t folded = static_cast<size_t>(s.n_experts) * kHeads * kValue;
  b.router_out = st.take<float>(layers * folded);
  for (size_t i = 0; i < layers; i++) {
    const LiteLayer& layer = weights.layers[i];
    if (layer.router != nullptr) fold_router(d, s, layer, b.router_out + i * folded);
  }
  b.expert_weight = st.take<float>(static_cast<size_t>(s.top_k));
  b.expert_width = padded(s.ff);
  b.shared_width = padded(s.shared_ff);
  const size_t units =
      static_cast<size_t>(s.top_k * b.expert_width + b.shared_width + padded(s.dense_ff)) / 8;
  b.hidden_digits = {st.take<uint2>(units * 2), st.take<float2>(units / 4)};
  b.hidden_parts = {st.take<uint4>(units), st.take<uint4>(units)};
  b.logits = st.take<float>(static_cast<size_t>(s.vocab));
  b.best = st.take<HeadBest>(kHeadBlocks);
  b.lists = st.take<int32_t>(layers * blocks);
  b.listed = st.take<int32_t>(layers * blocks);
  b.n_listed = st.take<int32_t>(layers);
  const int32_t groups = score_groups(s);
  const size_t scores = static_cast<size_t>(groups) * kHeads;
  b.scores = {st.take<float>(scores), st.take<float>(scores), st.take<float>(scores * (kScoreRows / 4)),
              groups};
  const size_t rows = layers * blocks * 64;
  b.cache = {st.take<uint8_t>(rows * static_cast<size_t>(cache_row_bytes(s.rows))), s.rows};
  b.pooled = st.take<__nv_bfloat16>(rows / kPoolStride * kRow);
  b.tile_lists = st.take<int32_t>(rows / 64 * static_cast<size_t>(s.most_listed()));
  std::vector<int32_t> identity(blocks);
  for (size_t i = 0; i < blocks; i++) identity[i] = static_cast<int32_t>(i);
  b.blocks = st.take<int32_t>(blocks);
  check(cudaMemcpy(b.blocks, identity.data(), blocks * 4, cudaMemcpyHostToDevice),
        "uploading the block table");
  float* frequencies = st.take<float>(kRope / 2);
  check(cudaMemcpy(frequencies, inv_freq.data(), kRope / 2 * sizeof(float), cudaMemcpyHostToDevice),
        "uploading rotary frequencies");
  b.inv_freq = frequencies;
  b.turn = st.take<float2>(kRope / 2);
  check(cudaDeviceSynchronize(), "preparing the decoder"); /* its stream does not wait for the default one */
}

LiteDecoder::~LiteDecoder() = default;

void LiteDecoder::fill_cache(int32_t n_tokens, uint32_t seed) {
  EK_REQUIRE(n_tokens <= shape.n_blocks * 64, "the cache holds %d tokens, not %d", shape.n_blocks * 64,
             n_tokens);
  fill_cache_rows(device_, shape, state_->b, n_tokens, seed + 77);
}

void LiteDecoder::set_blocks(const int32_t* blocks, int32_t n) {
  EK_REQUIRE(n <= shape.n_blocks, "a sequence has at most %d blocks, got %d", shape.n_blocks, n);
  check(cudaMemcpyAsync(state_->b.blocks, blocks, static_cast<size_t>(n) * 4, cudaMemcpyHostToDevice,
                        device_.stream),
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

void LiteDecoder::copy_logits(float* to) {
  check(cudaMemcpyAsync(to, state_->b.logits, static_cast<size_t>(shape.vocab) * 4, cudaMemcpyDeviceToDevice,
                        device_.stream),
        "copying logits");
}

void LiteDecoder::set(int32_t token, int32_t position) {
  EK_REQUIRE(token >= 0 && token < shape.vocab && position >= 0 && position < shape.n_blocks * 64,
             "token %d at %d is outside vocabulary %d or cache %d", token, position, shape.vocab,
             shape.n_blocks * 64);
  const StepState state{token, position, 0};
  device_.wait();
  check(cudaMemcpyAsync(state_->b.state, &state, sizeof state, cudaMemcpyHostToDevice, device_.stream),
        "setting the step");
  device_.wait();
  state_->position = position;
  launch_next({device_.stream, shape, state_->b, {}}, weights, false);
}

void LiteDecoder::choose_after(const float* x, int32_t position) {
  const StepState state{0, position, 0};
  device_.wait();
  check(cudaMemcpyAsync(state_->b.state, &state, sizeof state, cudaMemcpyHostToDevice, device_.stream),
        "setting the step");
  check(cudaMemcpyAsync(state_->b.x, x, static_cast<size_t>(shape.hidden) * sizeof(float),
                        cudaMemcpyDeviceToDevice, device_.stream),
        "copying the residual");
  device_.wait(); /* `state` ends here */
  const Step s{device_.stream, shape, state_->b, {}};
  launch_head(s, weights);
  launch_next(s, weights, true);
  state_->position = position + 1;
}

const StepBuffers& LiteDecoder::buffers() const { return state_->b; }

void LiteDecoder::launch_step(bool sparse) {
  const Step s{device_.stream, shape, state_->b, {}};
  for (int32_t i = 0; i < shape.n_layers; i++)
    launch_layer(s, weights.layers[static_cast<size_t>(i)], i, sparse);
  launch_head(s, weights);
  launch_next(s, weights, true);
}

void LiteDecoder::capture(bool sparse) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(device_.stream, cudaStreamCaptureModeThreadLocal), "capturing a step");
  try {
    launch_step(sparse);
  } catch (...) {
    cudaStreamEndCapture(device_.stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(device_.stream, &graph), "capturing a step");
  const cudaError_t made = cudaGraphInstantiate(&state_->graphs[sparse], graph, 0);
  cudaGraphDestroy(graph);
  check(made, "making the graph of a step");
}

void LiteDecoder::run(int32_t n_steps) {
  require_alive();
  EK_REQUIRE(state_->position + n_steps <= shape.n_blocks * 64,
             "%d steps from position %d do not fit into a cache of %d", n_steps, state_->position,
             shape.n_blocks * 64);
  for (int32_t i = 0; i < n_steps; i++) {
    const bool sparse = state_->position >= shape.dense_len;
    if (state_->graphs[sparse] == nullptr) capture(sparse);
    check(cudaGraphLaunch(state_->graphs[sparse], device_.stream), "launching a step");
    state_->position++;
  }
}

std::vector<float> LiteDecoder::logits() {
  device_.wait();
  std::vector<float> out(static_cast<size_t>(shape.vocab));
  check(cudaMemcpy(out.data(), state_->b.logits, out.size() * 4, cudaMemcpyDeviceToHost), "reading logits");
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

namespace {

std::vector<uint8_t> read_bytes(const void* from, size_t n) {
  std::vector<uint8_t> out(n);
  check(cudaMemcpy(out.data(), from, n, cudaMemcpyDeviceToHost), "reading the cache");
  return out;
}

/* Rows (n, latent + rope) as f32. */
std::vector<float> row_values(const std::vector<uint8_t>& bytes, RowFormat format) {
  const size_t pitch = static_cast<size_t>(cache_row_bytes(format)),
               before = static_cast<size_t>(rope_offset(format));
  const auto bf16_at = [&](size_t at) {
    uint16_t bits = 0;
    std::memcpy(&bits, bytes.data() + at, 2);
    return bf16_value(bits);
  };
  std::vector<float> out;
  for (size_t row = 0; row < bytes.size(); row += pitch) {
    for (size_t c = 0; c < kLatent; c++) {
      if (format == RowFormat::kBf16) {
        out.push_back(bf16_at(row + c * 2));
        continue;
      }
      float scale = 0;
      std::memcpy(&scale, bytes.data() + row + kLatent + c / kScaledLatents * sizeof scale, sizeof scale);
      out.push_back(e4m3_value(bytes[row + c]) * scale);
    }
    for (size_t c = 0; c < kRope; c++) out.push_back(bf16_at(row + before + c * 2));
  }
  return out;
}

}  // namespace

std::vector<uint8_t> LiteDecoder::stored_rows(int32_t layer, int32_t n_tokens) {
  device_.wait();
  const CachedRows& cache = state_->b.cache;
  return read_bytes(cache.row(static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks) * 64),
                    static_cast<size_t>(n_tokens) * static_cast<size_t>(cache_row_bytes(shape.rows)));
}

std::vector<float> LiteDecoder::cache_rows(int32_t layer, int32_t n_tokens) {
  return row_values(stored_rows(layer, n_tokens), shape.rows);
}

std::vector<float> LiteDecoder::pooled_rows(int32_t layer, int32_t n_rows) {
  device_.wait();
  const __nv_bfloat16* from =
      state_->b.pooled + static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks) * 4 * kRow;
  constexpr size_t kPooledBytes = kRow * sizeof(__nv_bfloat16);
  return row_values(read_bytes(from, static_cast<size_t>(n_rows) * kPooledBytes), RowFormat::kBf16);
}

std::vector<int32_t> LiteDecoder::step_list(int32_t layer) {
  device_.wait();
  int32_t n = 0;
  check(cudaMemcpy(&n, state_->b.n_listed + layer, sizeof n, cudaMemcpyDeviceToHost), "reading a list");
  std::vector<int32_t> out(static_cast<size_t>(n));
  check(cudaMemcpy(out.data(),
                   state_->b.lists + static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks),
                   out.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
        "reading a list");
  return out;
}

std::vector<int32_t> LiteDecoder::tile_list(int32_t layer, int32_t position) {
  device_.wait();
  std::vector<int32_t> out(static_cast<size_t>(std::min(shape.most_listed(), position / 64 + 1)));
  /* The block table is the identity. */
  const size_t place =
      static_cast<size_t>(layer) * static_cast<size_t>(shape.n_blocks) + static_cast<size_t>(position / 64);
  check(cudaMemcpy(out.data(), state_->b.tile_lists + place * static_cast<size_t>(shape.most_listed()),
                   out.size() * sizeof(int32_t), cudaMemcpyDeviceToHost),
        "reading the list of a tile");
  return out;
}

void LiteDecoder::time_kernels(int32_t position) {
  set(1, position);
  KernelTimes times(device_);
  const Step s{device_.stream, shape, state_->b, [&](const char* name) { times.mark(name); }};
  const bool sparse = position >= shape.dense_len;
  for (int32_t i = 0; i < shape.n_layers; i++)
    launch_layer(s, weights.layers[static_cast<size_t>(i)], i, sparse);
  launch_head(s, weights);
  launch_next(s, weights, true);
  times.print();
}

}  // namespace ek::cuda
