#include <algorithm>
#include <cstring>

#include "../device/noise.cuh"
#include "../ops/cache.cuh"
#include "../ops/ops.h"
#include "../weights/weight.h"
#include "narrow_model.h"

namespace ek::cuda::narrow {

/* Of a chunk, (n, ...) each. */
struct Model::Activations {
  DeviceMemory memory;
  float *x, *normed, *q, *kv_a, *gates, *heads;
  int32_t *tokens, *sequence_of;
  DeviceSequence* sequence;
};

namespace {

size_t count(int64_t n) { return static_cast<size_t>(n); }

KvView view_of(const Shape& s, uint8_t* base) {
  constexpr size_t kPooled = EK_KV_BLOCK / kPoolStride;
  KvView v{};
  v.base = base;
  v.pooled_k_at = size_t{kLatent + 2 * kRope} * EK_KV_BLOCK;
  v.pooled_v_at = v.pooled_k_at + kWidth * kPooled;
  v.block_elements = v.pooled_v_at + kLatent * kPooled;
  v.layer_elements = v.block_elements * count(s.n_blocks);
  v.latent = kLatent;
  v.rope = kRope;
  v.cmp_len = kPoolLength;
  v.cmp_stride = kPoolStride;
  v.is_f32 = false;
  return v;
}

size_t cache_bytes(const Shape& s) {
  return view_of(s, nullptr).layer_elements * count(s.n_layers) * sizeof(__half);
}

/* Floats of a chunk's activations. */
size_t activation_floats(const Shape& s, int32_t chunk) {
  const int64_t per_token =
      int64_t{2} * s.hidden + s.q_width() + kWidth + s.n_heads * 3 + s.n_heads * kValue + 2;
  return count(per_token * chunk);
}

void check_kind(const ek_model_params& p) {
  EK_REQUIRE(p.n_heads <= kMostHeads && p.nope_dim == kNope && p.rope_dim == kRope && p.v_dim == kValue &&
                 p.latent_dim == kLatent,
             "the fused kernels of native sparse attention take up to %d heads of %d + %d, values of %d and "
             "latents of %d, got %d heads of %d + %d, %d and %d",
             kMostHeads, kNope, kRope, kValue, kLatent, p.n_heads, p.nope_dim, p.rope_dim, p.v_dim,
             p.latent_dim);
  EK_REQUIRE(
      p.sparse.cmp_len == kPoolLength && p.sparse.cmp_stride == kPoolStride,
      "the fused kernels of native sparse attention take pooled rows of %d tokens every %d, got %d and "
      "%d",
      kPoolLength, kPoolStride, p.sparse.cmp_len, p.sparse.cmp_stride);
  EK_REQUIRE(
      p.score_func == 2 && (p.n_groups == 1 || p.top_groups == p.n_groups),
      "the fused kernels of narrow models route by sigmoid over all experts, got function %d and %d of "
      "%d groups",
      p.score_func, p.top_groups, p.n_groups);
}

double matrix_bytes(const WeightView& w, int32_t n_matrices) {
  return plain_bytes(w.type, w.n_rows, w.n_cols) * n_matrices;
}

/* Multiply-adds of a token's products with weights, counted 2 each. */
double weight_operations(const Shape& s, const Weights& w) {
  double sum = 0;
  const auto add = [&](const WeightView& m, int32_t n) { sum += 2.0 * m.n_rows * m.n_cols * n; };
  for (const Layer& l : w.layers) {
    for (const WeightView* m :
         {&l.q, &l.kv_a, &l.kv_b, &l.out, &l.attn_gate, &l.shared_gate, &l.shared_up, &l.shared_down})
      add(*m, 1);
    if (l.is_dense()) continue;
    add(l.router, 1);
    for (const WeightView* m : {&l.gate, &l.up, &l.down}) add(*m, s.top_k);
  }
  return sum;
}

const float* floats_of(const ek_buffer* buffer) {
  return buffer == nullptr ? nullptr : static_cast<const float*>(buffer->data);
}

Layer layer_of(const ek_model_layer& from, bool dense) {
  Layer l{};
  l.attn_norm = floats_of(from.attn_norm);
  l.kv_norm = floats_of(from.kv_norm);
  l.ffn_norm = floats_of(from.ffn_norm);
  l.q = weight_view(*from.q);
  l.kv_a = weight_view(*from.kv_a);
  l.kv_b = weight_view(*from.kv_b);
  l.out = weight_view(*from.out);
  l.attn_gate = weight_view(*from.attn_gate);
  l.attn_gate_bias = floats_of(from.attn_gate_bias);
  l.cmp_k = floats_of(from.cmp_k);
  l.cmp_v = floats_of(from.cmp_v);
  l.shared_gate = weight_view(*from.shared_gate);
  l.shared_up = weight_view(*from.shared_up);
  l.shared_down = weight_view(*from.shared_down);
  if (dense) return l;
  l.router = weight_view(*from.router);
  l.router_bias = floats_of(from.router_bias);
  l.gate = weight_view(*from.gate);
  l.up = weight_view(*from.up);
  l.down = weight_view(*from.down);
  return l;
}

ek_nsa_params nsa_of(const Shape& s) {
  return {s.n_heads,  kNope,    kValue,        s.softmax_scale, EK_KV_BLOCK,
          s.select_n, s.window, s.init_blocks, s.local_blocks};
}

__global__ void fill_kernel(__half* to, size_t n, uint32_t seed) {
  const size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) to[i] = __float2half_rn(normal(uint64_t{seed} << 40 | i));
}

}  // namespace

double weight_bytes(const Weights& w, int32_t n_experts) {
  double sum = matrix_bytes(w.head, 1);
  for (const Layer& l : w.layers) {
    for (const WeightView* m :
         {&l.q, &l.kv_a, &l.kv_b, &l.out, &l.attn_gate, &l.shared_gate, &l.shared_up, &l.shared_down})
      sum += matrix_bytes(*m, 1);
    if (l.is_dense()) continue;
    sum += matrix_bytes(l.router, 1);
    for (const WeightView* m : {&l.gate, &l.up, &l.down}) sum += matrix_bytes(*m, n_experts);
  }
  return sum;
}

Shape shape_of(const ek_model_params& p) {
  check_kind(p);
  Shape s{};
  s.n_layers = p.n_layers;
  s.n_dense = p.n_dense;
  s.hidden = p.hidden;
  s.vocab = p.vocab;
  s.n_heads = p.n_heads;
  s.dense_ff = p.dense_ff;
  s.n_experts = p.n_experts;
  s.top_k = p.top_k;
  s.ff = p.ff;
  s.shared_ff = p.shared_ff;
  s.normalize = p.normalize != 0;
  s.scale = p.scale;
  s.eps = p.eps;
  s.softmax_scale = p.softmax_scale;
  s.n_blocks = p.n_blocks;
  s.select_n = p.sparse.select_n;
  s.window = p.sparse.window;
  s.init_blocks = p.sparse.init_blocks;
  s.local_blocks = p.sparse.local_blocks;
  check_shape(s);
  return s;
}

ek_model_memory memory_of(const Shape& s, int32_t chunk) {
  /* Attention by ops keeps to 24 million floats, and feed-forwards to some per token. */
  constexpr size_t kAttention = size_t{100} << 20, kSmall = size_t{4} << 20;
  const int64_t widest = std::max({s.top_k * (s.ff + s.hidden), 2 * s.shared_ff, 2 * s.dense_ff});
  const size_t scratch = std::max(kAttention, count(widest * chunk) * sizeof(float));
  return {cache_bytes(s),
          workspace_bytes(s) + activation_floats(s, chunk) * sizeof(float) + 2 * scratch + kSmall};
}

Weights weights_of(const ek_model_params& p, const ek_model_weights& from) {
  Weights w{};
  for (int32_t i = 0; i < p.n_layers; i++) w.layers.push_back(layer_of(from.layers[i], i < p.n_dense));
  w.embedding = weight_view(*from.embedding);
  w.head = weight_view(*from.head);
  w.norm = floats_of(from.norm);
  w.step_bytes = weight_bytes(w, p.top_k);
  return w;
}

Model::Model(Device& d, const ek_model_params& p, Weights weights)
    : device_(d),
      chunk_(p.chunk),
      cache_(cache_bytes(shape_of(p))),
      decoder_(d, shape_of(p), std::move(weights), view_of(shape_of(p), cache_.as<uint8_t>()),
               {p.inv_freq, p.inv_freq + kRope / 2}),
      act_(std::make_unique<Activations>()) {
  const Shape& s = decoder_.shape;
  check(cudaMemsetAsync(cache_.as(), 0, cache_.n_bytes(), d.stream), "clearing the cache");
  act_->memory = DeviceMemory(activation_floats(s, chunk_) * sizeof(float) + sizeof(DeviceSequence));
  float* at = act_->memory.as<float>();
  const auto take = [&](int64_t n) { return std::exchange(at, at + n); };
  const int64_t n = chunk_;
  act_->x = take(n * s.hidden);
  act_->normed = take(n * s.hidden);
  act_->q = take(n * s.q_width());
  act_->kv_a = take(n * kWidth);
  act_->gates = take(n * s.n_heads * 3);
  act_->heads = take(n * s.n_heads * kValue);
  act_->tokens = reinterpret_cast<int32_t*>(take(n));
  act_->sequence_of = reinterpret_cast<int32_t*>(take(n));
  act_->sequence = reinterpret_cast<DeviceSequence*>(at);
  check(cudaMemsetAsync(act_->sequence_of, 0, count(n) * 4, d.stream), "clearing memory");
  d.wait();
}

Model::~Model() = default;

void Model::use_blocks(const Sequence& s) {
  const std::vector<int32_t> wanted(s.blocks, s.blocks + s.n_blocks);
  if (wanted.size() <= table_.size() && std::equal(wanted.begin(), wanted.end(), table_.begin())) return;
  table_.clear(); /* unknown, should the upload fail */
  decoder_.set_blocks(wanted.data(), s.n_blocks);
  table_ = wanted;
}

void Model::begin(const ModelStep& step) {
  const size_t vocab = count(decoder_.shape.vocab);
  float* logits = step.logits;
  const auto take_logits = [&] {
    check(cudaMemcpyAsync(logits, decoder_.device_logits(), vocab * sizeof(float), cudaMemcpyDeviceToDevice,
                          device_.stream),
          "copying logits");
    logits += vocab;
  };
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const Sequence& s = step.sequences[i];
    const int32_t* tokens = step.tokens + s.first_row;
    const int32_t n_wanted = step.wants[i], n_read = s.n_new - n_decoded(s, n_wanted);
    use_blocks(s);
    if (n_read > 0) {
      const bool wants = n_read == s.n_new && n_wanted > 0;
      read(s.start, tokens, n_read, wants);
      if (wants) take_logits();
    }
    for (int32_t j = n_read; j < s.n_new; j++) {
      decoder_.set(tokens[j], s.start + j);
      decoder_.run(1);
      if (j >= s.n_new - n_wanted) take_logits();
    }
  }
}

void Model::read(int32_t start, const int32_t* tokens, int32_t n, bool wants) {
  for (int32_t at = 0; at < n; at += chunk_) {
    const int32_t n_now = std::min(chunk_, n - at);
    read_chunk(start + at, tokens + at, n_now, wants && at + n_now == n);
  }
}

void Model::read_chunk(int32_t start, const int32_t* tokens, int32_t n, bool wants) {
  const Shape& s = decoder_.shape;
  Activations& a = *act_;
  const DeviceSequence sequence{start, n, 0, 0, (start + n + EK_KV_BLOCK - 1) / EK_KV_BLOCK};
  const auto upload = [&](void* to, const void* from, size_t n_bytes) {
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyHostToDevice, device_.stream), "uploading a step");
  };
  upload(a.tokens, tokens, count(n) * 4);
  upload(a.sequence, &sequence, sizeof sequence);
  device_.wait(); /* `sequence` ends here */
  const BatchView batch{
      a.sequence,   decoder_.device_blocks(), a.sequence_of, decoder_.device_frequencies(), n, 1,
      start + n - 1};
  embed(device_, a.x, decoder_.weights.embedding, a.tokens, n);
  for (int32_t i = 0; i < s.n_layers; i++) {
    const Layer& layer = decoder_.weights.layers[count(i)];
    const bool is_last = i + 1 == s.n_layers;
    rmsnorm(device_, a.normed, a.x, layer.attn_norm, n, s.hidden, s.eps);
    linear(device_, {a.kv_a, a.normed, layer.kv_a, nullptr, n, false});
    mla_store(device_, {decoder_.cache(), i, batch, a.kv_a, layer.kv_norm, layer.cmp_k, layer.cmp_v, s.eps});
    if (is_last && !wants) return;
    attend(layer, i, batch);
    /* Behind the last layer's attention only the last row is needed. */
    is_last ? feed_forward(layer, a.x + count(n - 1) * count(s.hidden), 1) : feed_forward(layer, a.x, n);
  }
  decoder_.choose_after(a.x + count(n - 1) * count(s.hidden));
}

void Model::attend(const Layer& layer, int32_t index, const BatchView& batch) {
  Activations& a = *act_;
  const int32_t n = batch.n_tokens;
  linear(device_, {a.q, a.normed, layer.q, nullptr, n, false});
  linear(device_, {a.gates, a.normed, layer.attn_gate, layer.attn_gate_bias, n, false});
  device_.scratch.reset();
  nsa_attention(device_,
                {a.heads, a.q, a.gates, decoder_.cache(), index, batch, layer.kv_b, nsa_of(decoder_.shape)});
  linear(device_, {a.x, a.heads, layer.out, nullptr, n, true});
}

void Model::feed_forward(const Layer& layer, float* x, int32_t n_rows) {
  const Shape& s = decoder_.shape;
  float* normed = act_->normed;
  rmsnorm(device_, normed, x, layer.ffn_norm, n_rows, s.hidden, s.eps);
  if (!layer.is_dense()) {
    constexpr int32_t kSigmoid = 2;
    experts(device_, {x,
                      normed,
                      layer.router,
                      layer.router_bias,
                      layer.gate,
                      layer.up,
                      layer.down,
                      {s.top_k, kSigmoid, 1, 1, s.normalize, s.scale},
                      n_rows});
  }
  cuda::feed_forward(device_, {x, normed, layer.shared_gate, layer.shared_up, layer.shared_down, n_rows});
}

void Model::copy_block(int32_t dst, int32_t src) {
  if (dst == src) return;
  const KvView& v = decoder_.cache();
  constexpr size_t kElement = sizeof(__half);
  uint8_t* base = static_cast<uint8_t*>(v.base);
  check(cudaMemcpy2DAsync(base + v.block_at(0, dst) * kElement, v.layer_elements * kElement,
                          base + v.block_at(0, src) * kElement, v.layer_elements * kElement,
                          v.block_elements * kElement, count(decoder_.shape.n_layers),
                          cudaMemcpyDeviceToDevice, device_.stream),
        "copying a block of the cache");
}

/* The whole cache: pooled rows are random as well, not those of the rows. */
void Model::fill_cache(int32_t, uint32_t seed) {
  const size_t n = cache_.n_bytes() / sizeof(__half);
  launch(device_.stream, "fill_kernel", {ceil_div(static_cast<int64_t>(n), 256), 256}, fill_kernel,
         cache_.as<__half>(), n, seed);
}

ModelCost Model::cost(const ModelStep& step) const {
  const Weights& w = decoder_.weights;
  const Shape& s = decoder_.shape;
  ModelCost sum{};
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const Sequence& q = step.sequences[i];
    const int32_t n_read = q.n_new - n_decoded(q, step.wants[i]);
    sum.flops += weight_operations(s, w) * q.n_new + 2.0 * s.hidden * s.vocab;
    if (n_read > 0) sum.bytes += weight_bytes(w, s.n_experts);
    for (int32_t j = n_read; j < q.n_new; j++) sum.bytes += w.step_bytes + decoder_.cache_bytes(q.start + j);
  }
  return sum;
}

}  // namespace ek::cuda::narrow
