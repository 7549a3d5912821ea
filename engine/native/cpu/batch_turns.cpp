#include "batch_turns.h"

#include "cpu_backend.h"

namespace ek::cpu {

namespace {

void append_turns(const ek_batch& batch, int32_t position, std::vector<float>& to) {
  const size_t n_pairs = batch.inv_freq.size(), at = to.size();
  to.resize(at + 2 * n_pairs);
  for (size_t i = 0; i < n_pairs; i++) to[at + 2 * i] = 1, to[at + 2 * i + 1] = 0;
  rotate_row(to.data() + at, batch.inv_freq.data(), static_cast<int32_t>(n_pairs), position);
}

}  // namespace

BatchTurns::BatchTurns(const ek_batch& batch) {
  tokens_.reserve(2 * batch.inv_freq.size() * batch.n_tokens);
  for (const Sequence& seq : batch.sequences) {
    for (int32_t t = seq.start; t < seq.start + seq.n_new; t++) append_turns(batch, t, tokens_);
  }
}

const float* BatchTurns::of_pooled(const ek_batch& batch, const HostKv& kv) {
  if (cmp_len_ == kv.params.cmp_len && cmp_stride_ == kv.params.cmp_stride) return pooled_.data();
  pooled_.clear();
  for (const Sequence& seq : batch.sequences) {
    const int32_t end = kv.n_visible(seq.start + seq.n_new - 1);
    for (int32_t index = kv.n_visible(seq.start - 1); index < end; index++)
      append_turns(batch, kv.params.cmp_stride * index, pooled_);
  }
  cmp_len_ = kv.params.cmp_len;
  cmp_stride_ = kv.params.cmp_stride;
  return pooled_.data();
}

void CpuBackend::prepare_batch(ek_batch& batch) { batch.storage = std::make_unique<BatchTurns>(batch); }

}  // namespace ek::cpu
