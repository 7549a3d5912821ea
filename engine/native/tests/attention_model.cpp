#include "attention_model.h"

namespace ek::test {

StepInputs make_inputs(const AttentionShape& s, float q_scale, const std::vector<Part>& parts) {
  StepInputs in;
  for (const Part& part : parts) {
    for (int32_t t = part.start; t < part.start + part.n; t++) {
      const uint32_t seed = part.seed * 1000003u + static_cast<uint32_t>(t);
      for (float x : random_floats(s.latent + s.rope, seed)) in.kv_a.push_back(x);
      for (float x : random_floats(s.heads * (s.nope + s.rope), seed + 400000000u))
        in.q.push_back(q_scale * x);
      for (float x : random_floats(s.heads * 3, seed + 800000000u)) in.gates.push_back(x);
    }
  }
  return in;
}

AttentionModel::AttentionModel(ek_device device, const char* isa, int threads, const AttentionShape& s,
                               ek_type cache, int32_t n_blocks)
    : device_(device, isa, threads), shape_(s) {
  const ek_kv_params params{2, s.latent, s.rope, n_blocks, s.cmp_len, s.cmp_stride, cache};
  must(ek_kv_create(device_.ctx, &params, &kv_));
  std::vector<float> freq(s.rope / 2);
  for (int i = 0; i < s.rope / 2; i++) freq[i] = static_cast<float>(std::pow(10000.0, -2.0 * i / s.rope));
  must(ek_rope_create(device_.ctx, freq.data(), s.rope, &rope_));
  must(ek_batch_create(device_.ctx, &batch_));
  kv_b_ = device_.weight(s.weight, 1, s.heads * (s.nope + s.v), s.latent, 22, 0.3f);
  norm_ = device_.put(random_floats(s.latent, 23));
  if (s.cmp_len == 0) return;
  cmp_k_ = device_.put(random_floats(static_cast<size_t>(s.cmp_len) * kv_width(), 24, 0.2f));
  cmp_v_ = device_.put(random_floats(static_cast<size_t>(s.cmp_len) * s.latent, 25, 0.2f));
}

AttentionModel::~AttentionModel() {
  ek_kv_destroy(kv_);
  ek_rope_destroy(rope_);
  ek_batch_destroy(batch_);
}

void AttentionModel::set(const std::vector<Part>& parts) {
  std::vector<int32_t> start, n_new, counts, blocks;
  for (const Part& part : parts) {
    start.push_back(part.start);
    n_new.push_back(part.n);
    counts.push_back(static_cast<int32_t>(part.blocks.size()));
    blocks.insert(blocks.end(), part.blocks.begin(), part.blocks.end());
  }
  must(ek_batch_set(device_.ctx, batch_, rope_, static_cast<int32_t>(parts.size()), start.data(),
                    n_new.data(), counts.data(), blocks.data()));
}

void AttentionModel::store(const std::vector<Part>& parts, const StepInputs& in) {
  set(parts);
  must(ek_mla_store(device_.ctx, kv_, 1, batch_, device_.put(in.kv_a), norm_, cmp_k_, cmp_v_, 1e-6f));
}

std::vector<float> AttentionModel::run(const std::vector<Part>& parts, const StepInputs& in) {
  store(parts, in);
  const float scale = 1 / std::sqrt(static_cast<float>(shape_.nope + shape_.rope));
  const size_t n = in.q.size() / q_width() * out_width();
  ek_buffer* out = device_.put(std::vector<float>(n, NAN)); /* what is not written shows */
  if (shape_.cmp_len == 0) {
    const ek_mla_params mla{shape_.heads, shape_.nope, shape_.v, scale};
    must(ek_mla_attention(device_.ctx, out, device_.put(in.q), kv_, 1, batch_, kv_b_, &mla));
    return device_.read(out, n);
  }
  const ek_nsa_params nsa{shape_.heads,  shape_.nope,        shape_.v,
                          scale,         EK_KV_BLOCK,        shape_.select_n,
                          shape_.window, shape_.init_blocks, shape_.local_blocks};
  must(ek_nsa_attention(device_.ctx, out, device_.put(in.q), device_.put(in.gates), kv_, 1, batch_, kv_b_,
                        &nsa));
  return device_.read(out, n);
}

StepInputs AttentionModel::slice(const StepInputs& all, int32_t start, int32_t n) const {
  const auto rows = [&](const std::vector<float>& from, int32_t width) {
    const auto begin = from.begin() + static_cast<ptrdiff_t>(start) * width;
    return std::vector<float>(begin, begin + static_cast<ptrdiff_t>(n) * width);
  };
  return {rows(all.kv_a, kv_width()), rows(all.q, q_width()), rows(all.gates, shape_.heads * 3)};
}

std::vector<float> AttentionModel::run_cut(const Part& part, const StepInputs& all, int32_t step) {
  std::vector<float> out;
  for (int32_t at = part.start; at < part.start + part.n; at += step) {
    const int32_t n = std::min(step, part.start + part.n - at);
    for (float x : run({{part.seed, at, n, part.blocks}}, slice(all, at, n))) out.push_back(x);
  }
  return out;
}

std::vector<int32_t> block_list(int32_t n_tokens, int32_t first, int32_t step) {
  std::vector<int32_t> out;
  for (int32_t i = 0; i * EK_KV_BLOCK < n_tokens; i++) out.push_back(first + i * step);
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return !a.empty() && a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

}  // namespace ek::test
