/* The op: what it derives once per weight and batch, and the choice between its two forms. */
#include "attention.h"

#include <cmath>
#include <string_view>

#include "batch_turns.h"

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

}  // namespace

const AttentionKernels& attention_kernels(const char* isa) {
#if defined(__x86_64__)
  if (std::string_view(isa) == kAttentionAvx512.name) return kAttentionAvx512;
  if (std::string_view(isa) == kAttentionAvx2.name) return kAttentionAvx2;
#elif defined(__aarch64__)
  if (std::string_view(isa) == kAttentionNeon.name) return kAttentionNeon;
#endif
  (void)isa;
  return kAttentionScalar;
}

float AttentionStep::gate(size_t row, int32_t head, int32_t branch) const {
  if (a.gates == nullptr) return branch == 1 ? 1.0f : 0.0f;
  return 1 / (1 + std::exp(-a.gates[(row * heads() + head) * 3 + branch]));
}

void AttentionStep::rotate(size_t row, int32_t head, float* to) const {
  turn_row(query(row, head) + a.nsa.nope_dim, turns + row * rope(), rope(), a.nsa.softmax_scale, to);
}

void CpuBackend::nsa_attention(const AttentionArgs& a) {
  const CpuWeight& w = cpu_weight(*a.kv_b);
  if (w.derived == nullptr) w.derived = unpack_projections(k_, w, a.nsa);
  if (attention_ == nullptr) attention_ = std::make_shared<AttentionMemory>();
  const AttentionStep step{a,
                           host_kv(*a.kv),
                           attention_kernels(k_.name),
                           static_cast<const Projections&>(*w.derived),
                           static_cast<const BatchTurns&>(*a.batch->storage).of_tokens(),
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
