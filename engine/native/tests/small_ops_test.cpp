/* embed, gather, concat and argmax of every instruction set, and that few rows and many give the same bits.
 */
#include "device.h"

using namespace ek::test;

namespace {

void test_copies(Device& d, Device& ref, const std::string& isa) {
  const int vocab = 37;
  const std::vector<int32_t> tokens{36, 0, 16, 15, 16}, rows{4, 0, 4};
  for (ek_type type : kWeightTypes) {
    const int dim = ek::block_columns(type) == 256 ? 256 : 96;
    const auto embed = [&](Device& on) {
      ek_buffer* out = on.put(std::vector<float>(tokens.size() * dim, NAN));
      must(ek_embed(on.ctx, out, on.weight(type, 1, vocab, dim, 31, 1.0f), tokens.data(), 5));
      return on.read(out, tokens.size() * dim);
    };
    expect_close(isa + " embed type " + std::to_string(type), embed(d), embed(ref), 0, 0);
  }
  const std::vector<float> a = random_floats(5 * 7, 32), b = random_floats(5 * 7, 33);
  ek_buffer *out = d.put(std::vector<float>(5 * 14, NAN)), *left = d.put(a), *right = d.put(b);
  must(ek_gather_rows(d.ctx, out, left, rows.data(), 3, 7));
  const std::vector<float> gathered = d.read(out, 3 * 7);
  must(ek_concat(d.ctx, out, left, right, 5, 7));
  const std::vector<float> joined = d.read(out, 5 * 14);
  for (size_t c = 0; c < 7; c++) {
    for (size_t i = 0; i < 3; i++)
      expect(gathered[i * 7 + c] == a[rows[i] * 7 + c], isa + " gather_rows copies the row");
    for (size_t r = 0; r < 5; r++) {
      const bool both = joined[r * 14 + c] == a[r * 7 + c] && joined[r * 14 + 7 + c] == b[r * 7 + c];
      expect(both, isa + " concat puts both rows side by side");
    }
  }
}

struct Choice {
  int32_t id;
  float log_prob;
};

Choice argmax_of(Device& d, const std::vector<float>& logits) {
  Choice c{-1, 0};
  must(ek_argmax(d.ctx, d.put(logits), 1, static_cast<int32_t>(logits.size()), &c.id, &c.log_prob));
  return c;
}

void test_argmax(Device& d, const std::string& isa) {
  for (size_t n : {1, 15, 16, 17, 1000}) {
    const std::string name = isa + " argmax of " + std::to_string(n);
    const Choice even = argmax_of(d, std::vector<float>(n, -3.0f));
    expect(even.id == 0, name + ": a tie goes to the lowest index");
    expect_close(name, {even.log_prob}, {-std::log(static_cast<float>(n))}, 1e-5, 1e-5);
    std::vector<float> logits = random_floats(n, 34);
    logits[n - 1] = 50.0f;
    const Choice sure = argmax_of(d, logits);
    expect(sure.id == static_cast<int32_t>(n) - 1, name + ": the largest is the last");
    expect_close(name, {sure.log_prob}, {0.0f}, 1e-5, 0);
    logits[0] = NAN;
    const Choice marred = argmax_of(d, logits);
    expect(marred.id == static_cast<int32_t>(n) - 1 || n == 1, name + ": a NaN is never chosen");
    expect(std::isnan(marred.log_prob), name + ": a NaN shows in the log-probability");
    const Choice nothing = argmax_of(d, std::vector<float>(n, NAN));
    expect(nothing.id == 0 && std::isnan(nothing.log_prob), name + ": nothing but NaN gives 0 and NaN");
    logits[0] = INFINITY;
    expect(argmax_of(d, logits).id == 0, name + ": infinity is the largest");
    const Choice below = argmax_of(d, std::vector<float>(n, -INFINITY));
    expect(below.id == 0 && std::isnan(below.log_prob), name + ": minus infinity alone is no distribution");
  }
}

/* One row alone must give the bits that it has among others, whichever path the others take. */
void test_rows_alone(Device& d, const std::string& isa) {
  const int n_in = 256, n_out = 160, most = 70;
  const std::vector<float> x = random_floats(static_cast<size_t>(most) * n_in, 35);
  const ek_buffer* from = d.put(x);
  for (ek_type type : kWeightTypes) {
    const ek_weight* w = d.weight(type, 1, n_out, n_in, 36, 0.1f);
    ek_buffer* out = d.put(std::vector<float>(static_cast<size_t>(most) * n_out, NAN));
    must(ek_linear(d.ctx, out, from, 0, w, nullptr, most, 0));
    const std::vector<float> whole = d.read(out, static_cast<size_t>(most) * n_out);
    for (int n : {1, 2, 3, 5, 8, 9, 16, 17}) {
      must(ek_linear(d.ctx, out, from, 11, w, nullptr, n, 0));
      const std::vector<float> part = d.read(out, static_cast<size_t>(n) * n_out);
      expect(
          std::memcmp(part.data(), &whole[11 * n_out], part.size() * 4) == 0,
          isa + " linear type " + std::to_string(type) + ": " + std::to_string(n) + " rows give other bits");
    }
  }
}

}  // namespace

int main() {
  int tested = 0;
  Device ref(EK_REFERENCE, nullptr, 1);
  test_argmax(ref, "reference");
  for (const char* isa : {"scalar", "avx2", "avx512", "neon"}) {
    ek_context* probe = nullptr;
    const ek_status status = ek_context_create(EK_CPU, 0, 1, isa, &probe);
    ek_context_destroy(probe);
    if (status == EK_ERR_DEVICE) {
      std::printf("%s is not on this machine\n", isa);
      continue;
    }
    Device cpu(EK_CPU, isa, 2);
    test_copies(cpu, ref, isa);
    test_argmax(cpu, isa);
    test_rows_alone(cpu, isa);
    tested++;
  }
  expect(tested > 0, "no instruction set was tested");
  return failures == 0 ? 0 : 1;
}
