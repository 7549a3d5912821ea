/* The op: what it derives once per weight and batch, and the choice between its two forms. */
#include "attention.h"

#include <cmath>
#include <string_view>

namespace ek::cpu {

namespace {

/* From this many new tokens on, expanding keys and values costs less than scoring latent rows (measured with
 * bench_attention at 1000 to 8000 cached tokens). */
constexpr int32_t kDecompressFrom = 48;

std::unique_ptr<Projections> unpack_projections(const Kernels& k, const CpuWeight& w,
                                                const ek_nsa_params& nsa) {
  const int32_t latent = w.shape.n_cols, per_head = nsa.nope_dim + nsa.v_dim;
  auto out = std::make_unique<Projections>();
  float* uk = out->uk.reserve(static_cast<size_t>(nsa.n_heads) * nsa.nope_dim * latent);
  float* uv = out->uv.reserve(static_cast<size_t>(nsa.n_heads) * nsa.v_dim * latent);
  std::vector<float> panel(static_cast<size_t>(latent) * kLanes);
  for (int32_t r = 0; r < w.shape.n_rows; r++) {
    if (r % kLanes == 0) k.unpack(w.shape.type, w.group(0, r / kLanes), latent, panel.data());
    const size_t head = r / per_head, at = r % per_head;
    for (int32_t c = 0; c < latent; c++) {
      const float value = panel[static_cast<size_t>(c) * kLanes + r % kLanes];
      if (at < static_cast<size_t>(nsa.nope_dim)) {
        uk[(head * nsa.nope_dim + at) * latent + c] = value;
      } else {
        uv[(head * latent + c) * nsa.v_dim + at - nsa.nope_dim] = value;
      }
    }
  }
  return out;
}

/* Cosines and sines of a batch's tokens. */
struct BatchTurns : Storage {
  std::vector<float> turns; /* (n_tokens, rope): cosine and sine of each pair */
};

}  // namespace

const AttentionKernels& attention_kernels(const char* isa) {
#if defined(__x86_64__)
  if (std::string_view(isa) == kAttentionAvx512.name) return kAttentionAvx512;
  if (std::string_view(isa) == kAttentionAvx2.name) return kAttentionAvx2;
#endif
  (void)isa;
  return kAttentionScalar;
}

float AttentionStep::gate(size_t row, int32_t head, int32_t branch) const {
  return 1 / (1 + std::exp(-a.gates[(row * heads() + head) * 3 + branch]));
}

void AttentionStep::rotate(size_t row, int32_t head, float* to) const {
  const float *from = query(row, head) + a.nsa.nope_dim, *turn = turns + row * rope();
  const float scale = a.nsa.softmax_scale;
  for (int32_t i = 0; i < rope(); i += 2) {
    to[i] = (from[i] * turn[i] - from[i + 1] * turn[i + 1]) * scale;
    to[i + 1] = (from[i] * turn[i + 1] + from[i + 1] * turn[i]) * scale;
  }
}

void CpuBackend::prepare_batch(ek_batch& batch) {
  auto made = std::make_unique<BatchTurns>();
  const size_t n_pairs = batch.inv_freq.size();
  made->turns.resize(2 * n_pairs * batch.n_tokens);
  float* to = made->turns.data();
  for (const Sequence& seq : batch.sequences) {
    for (int32_t t = seq.start; t < seq.start + seq.n_new; t++, to += 2 * n_pairs) {
      for (size_t i = 0; i < n_pairs; i++) to[2 * i] = 1, to[2 * i + 1] = 0;
      rotate_row(to, batch.inv_freq.data(), static_cast<int32_t>(n_pairs), t);
    }
  }
  batch.storage = std::move(made);
}

void CpuBackend::nsa_attention(const AttentionArgs& a) {
  const CpuWeight& w = cpu_weight(*a.kv_b);
  if (w.derived == nullptr) w.derived = unpack_projections(k_, w, a.nsa);
  if (attention_ == nullptr) attention_ = std::make_shared<AttentionMemory>();
  const AttentionStep step{a,
                           host_kv(*a.kv),
                           attention_kernels(k_.name),
                           static_cast<const Projections&>(*w.derived),
                           static_cast<const BatchTurns&>(*a.batch->storage).turns.data(),
                           pool_,
                           *attention_};
  std::vector<StepToken>& few = step.m.few;
  few.clear();
  for (const Sequence& seq : a.batch->sequences) {
    if (seq.n_new >= kDecompressFrom) {
      attend_sequence(step, seq);
      continue;
    }
    for (int32_t i = 0; i < seq.n_new; i++)
      few.push_back({&seq, seq.start + i, static_cast<size_t>(seq.first_row + i)});
  }
  for_groups(step, few, [&](const TokenGroup& group) {
    attend_pooled(step, group);
    attend_absorbed(step, group);
  });
}

}  // namespace ek::cpu
