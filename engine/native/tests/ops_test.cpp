/* Every instruction set of the CPU backend against the reference, over shapes that do not fit the tiles. */
#include "../core/quant.h"
#include "compare.h"

using namespace ek::test;

namespace {

std::vector<uint8_t> random_weight(ek_type type, size_t n, uint32_t seed, float scale) {
  const std::vector<float> values = random_floats(n, seed, scale);
  std::vector<uint8_t> out(ek::row_bytes(type, n));
  std::mt19937 engine(seed);
  if (type == EK_F32) std::memcpy(out.data(), values.data(), out.size());
  for (size_t i = 0; type == EK_F16 && i < n; i++) {
    const ek::f16 h = ek::f32_to_f16(values[i]);
    std::memcpy(&out[2 * i], &h, 2);
  }
  if (ek::is_quantised(type)) {
    const size_t block = ek::row_bytes(type, 32);
    for (uint8_t& byte : out) byte = static_cast<uint8_t>(engine());
    for (size_t b = 0; b < out.size(); b += block) {
      const ek::f16 d = ek::f32_to_f16(values[b / block] / (type == EK_Q4_0 ? 5.0f : 74.0f));
      std::memcpy(&out[b], &d, 2);
    }
  }
  return out;
}

/* One backend under test, with everything it made, freed at the end. */
struct Device {
  ek_context* ctx = nullptr;
  std::vector<ek_buffer*> buffers;
  std::vector<ek_weight*> weights;

  Device(ek_device device, const char* isa, int threads) {
    must(ek_context_create(device, 0, threads, isa, &ctx));
  }
  ~Device() {
    for (ek_buffer* b : buffers) ek_buffer_free(b);
    for (ek_weight* w : weights) ek_weight_destroy(w);
    ek_context_destroy(ctx);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ek_buffer* put(const std::vector<float>& values) {
    ek_buffer* b = nullptr;
    must(ek_buffer_alloc(ctx, values.size() * 4, &b));
    buffers.push_back(b);
    must(ek_buffer_upload(ctx, b, 0, values.data(), values.size() * 4));
    return b;
  }
  std::vector<float> read(const ek_buffer* b, size_t n) {
    std::vector<float> out(n);
    must(ek_buffer_download(ctx, out.data(), b, 0, n * 4));
    return out;
  }
  ek_weight* weight(ek_type type, int m, int rows, int cols, uint32_t seed, float scale) {
    const size_t n = static_cast<size_t>(m) * rows * cols;
    const std::vector<uint8_t> data = random_weight(type, n, seed, scale);
    ek_weight* w = nullptr;
    must(ek_weight_create_from_memory(ctx, data.data(), data.size(), type, m, rows, cols, &w));
    weights.push_back(w);
    return w;
  }
};

std::vector<float> run_linear(Device& d, ek_type type, int rows, int out, int in) {
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * out, 3));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows + 1) * in, 1));
  const ek_buffer* bias = d.put(random_floats(out, 2));
  must(ek_linear(d.ctx, y, x, 1, d.weight(type, 1, out, in, 4, 0.1f), bias, rows, 1));
  return d.read(y, static_cast<size_t>(rows) * out);
}

std::vector<float> run_rmsnorm(Device& d, int rows, int dim) {
  ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 5, 30.0f));
  must(ek_rmsnorm(d.ctx, x, x, d.put(random_floats(dim, 6)), rows, dim, 1e-6f));
  return d.read(x, static_cast<size_t>(rows) * dim);
}

std::vector<float> run_ffn(Device& d, ek_type type, int rows, int ff, int dim) {
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * dim, 7));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 8));
  must(ek_ffn_swiglu(d.ctx, y, x, d.weight(type, 1, ff, dim, 9, 0.1f), d.weight(type, 1, ff, dim, 10, 0.1f),
                     d.weight(type, 1, dim, ff, 11, 0.1f), rows));
  return d.read(y, static_cast<size_t>(rows) * dim);
}

std::vector<float> run_moe(Device& d, ek_type type, int rows, bool shared) {
  const int dim = 64, ff = 32, n = 8;
  ek_buffer* y = d.put(random_floats(static_cast<size_t>(rows) * dim, 12));
  const ek_buffer* x = d.put(random_floats(static_cast<size_t>(rows) * dim, 13));
  ek_moe_params p{};
  p.router = d.weight(EK_F32, 1, n, dim, 14, 0.2f);
  p.router_bias = d.put(random_floats(n, 15, 0.1f));
  p.gate = d.weight(type, n, ff, dim, 16, 0.2f);
  p.up = d.weight(type, n, ff, dim, 17, 0.2f);
  p.down = d.weight(type, n, dim, ff, 18, 0.2f);
  if (shared) {
    p.shared_gate = d.weight(type, 1, 2 * ff, dim, 19, 0.2f);
    p.shared_up = d.weight(type, 1, 2 * ff, dim, 20, 0.2f);
    p.shared_down = d.weight(type, 1, dim, 2 * ff, 21, 0.2f);
  }
  p.top_k = 3;
  p.score_func = 2;
  p.normalize = shared ? 1 : 0;
  p.scale = 1.5f;
  must(ek_moe(d.ctx, y, x, &p, rows));
  return d.read(y, static_cast<size_t>(rows) * dim);
}

/* Two sequences in interleaved blocks, fed in steps of `step` tokens; the outputs of all tokens of the first,
 * then the second. */
std::vector<float> run_attention(Device& d, ek_type cache, int n_tokens, int step, float scale) {
  const int heads = 2, nope = 16, rope = 16, v = 32, latent = 32, width = latent + rope, qk = nope + rope;
  const int n_blocks = (n_tokens + 63) / 64;
  const ek_kv_params kvp{2, latent, rope, 2 * n_blocks, 32, 16, cache};
  const ek_nsa_params nsa{heads, nope, v, 0.18f, 64, 4, 100, 1, 2};
  ek_kv_cache* kv = nullptr;
  ek_rope* rotary = nullptr;
  ek_batch* batch = nullptr;
  must(ek_kv_create(d.ctx, &kvp, &kv));
  std::vector<float> freq(rope / 2);
  for (int i = 0; i < rope / 2; i++) freq[i] = static_cast<float>(std::pow(10000.0, -2.0 * i / rope));
  must(ek_rope_create(d.ctx, freq.data(), rope, &rotary));
  must(ek_batch_create(d.ctx, &batch));
  const ek_weight* kv_b = d.weight(EK_Q8_0, 1, heads * (nope + v), latent, 22, 0.3f);
  const ek_buffer *norm = d.put(random_floats(latent, 23)), *ck = d.put(random_floats(32 * width, 24, 0.2f)),
                  *cv = d.put(random_floats(32 * latent, 25, 0.2f));
  std::vector<float> out(static_cast<size_t>(2) * n_tokens * heads * v);
  for (int at = 0; at < n_tokens; at += step) {
    const int n = std::min(step, n_tokens - at), used = (at + n + 63) / 64;
    std::vector<int32_t> blocks, start{at, at}, n_new{n, n}, counts{used, used};
    std::vector<float> kv_a, q, g;
    for (int s = 0; s < 2; s++) {
      for (int b = 0; b < used; b++) blocks.push_back(2 * b + s);
      for (int t = at; t < at + n; t++) {
        const uint32_t seed = 1000 + 100000u * s + t;
        for (float x : random_floats(width, seed)) kv_a.push_back(x);
        for (float x : random_floats(heads * qk, seed + 1000000, scale)) q.push_back(x);
        for (float x : random_floats(heads * 3, seed + 2000000)) g.push_back(x);
      }
    }
    must(ek_batch_set(d.ctx, batch, rotary, 2, start.data(), n_new.data(), counts.data(), blocks.data()));
    ek_buffer* y = d.put(std::vector<float>(static_cast<size_t>(2) * n * heads * v, NAN));
    must(ek_mla_store(d.ctx, kv, 1, batch, d.put(kv_a), norm, ck, cv, 1e-6f));
    must(ek_nsa_attention(d.ctx, y, d.put(q), d.put(g), kv, 1, batch, kv_b, &nsa));
    const std::vector<float> part = d.read(y, static_cast<size_t>(2) * n * heads * v);
    const size_t size = static_cast<size_t>(n) * heads * v;
    for (size_t s = 0; s < 2; s++) {
      std::copy(part.begin() + s * size, part.begin() + (s + 1) * size,
                out.begin() + (s * n_tokens + at) * heads * v);
    }
  }
  ek_kv_destroy(kv);
  ek_rope_destroy(rotary);
  ek_batch_destroy(batch);
  return out;
}

template <class Op>
void against_reference(const char* isa, const std::string& name, double absolute, double relative, Op&& op) {
  Device ref(EK_REFERENCE, nullptr, 1), one(EK_CPU, isa, 1), two(EK_CPU, isa, 2);
  const std::vector<float> expected = op(ref), first = op(one), second = op(two);
  expect_close(std::string(isa) + " " + name, first, expected, absolute, relative);
  expect(first.size() == second.size() && std::memcmp(first.data(), second.data(), first.size() * 4) == 0,
         std::string(isa) + " " + name + ": 1 and 2 threads give other bits");
}

void test_isa(const char* isa) {
  for (ek_type type : {EK_F32, EK_F16, EK_Q4_0, EK_Q8_0}) {
    const std::string t = " type " + std::to_string(type);
    for (int rows : {1, 3, 13, 241}) {
      against_reference(isa, "linear" + t, 2e-4, 2e-4,
                        [&](Device& d) { return run_linear(d, type, rows, 37, 96); });
      against_reference(isa, "moe" + t, 5e-3, 5e-4,
                        [&](Device& d) { return run_moe(d, type, rows, rows % 2 == 1); });
    }
    against_reference(isa, "ffn" + t, 5e-4, 5e-4, [&](Device& d) { return run_ffn(d, type, 5, 32, 96); });
  }
  against_reference(isa, "linear of odd width", 2e-4, 2e-4,
                    [](Device& d) { return run_linear(d, EK_F32, 2, 1, 7); });
  against_reference(isa, "ffn of odd width", 2e-4, 2e-4,
                    [](Device& d) { return run_ffn(d, EK_F32, 1, 5, 7); });
  for (int dim : {1, 17, 384}) {
    against_reference(isa, "rmsnorm", 1e-5, 1e-5, [&](Device& d) { return run_rmsnorm(d, 3, dim); });
  }
  for (int n : {1, 31, 32, 33, 63, 64, 65, 257, 577}) {
    against_reference(isa, "attention f32, tokens " + std::to_string(n), 2e-4, 1e-3,
                      [&](Device& d) { return run_attention(d, EK_F32, n, n, 1.0f); });
  }
  against_reference(isa, "attention f16", 5e-3, 5e-3,
                    [](Device& d) { return run_attention(d, EK_F16, 200, 200, 1.0f); });
  against_reference(isa, "attention, large scores", 5e-3, 5e-3,
                    [](Device& d) { return run_attention(d, EK_F32, 300, 300, 60.0f); });
  Device cpu(EK_CPU, isa, 2);
  const std::vector<float> whole = run_attention(cpu, EK_F16, 577, 577, 1.0f);
  expect_close("attention in chunks", run_attention(cpu, EK_F16, 577, 50, 1.0f), whole, 1e-5, 1e-5);
  expect_close("attention token by token", run_attention(cpu, EK_F16, 577, 1, 1.0f), whole, 1e-5, 1e-5);
}

}  // namespace

int main() {
  int tested = 0;
  for (const char* isa : {"scalar", "avx2", "avx512"}) {
    ek_context* probe = nullptr;
    const ek_status status = ek_context_create(EK_CPU, 0, 1, isa, &probe);
    ek_context_destroy(probe);
    if (status == EK_ERR_DEVICE) {
      std::printf("%s is not on this machine\n", isa);
      continue;
    }
    test_isa(isa);
    tested++;
  }
  expect(tested > 0, "no instruction set was tested");
  return failures == 0 ? 0 : 1;
}
