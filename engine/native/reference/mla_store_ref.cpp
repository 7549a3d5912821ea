#include <cmath>

#include "reference_backend.h"

namespace ek {

namespace {

/* Writes the row of the token at position t. row (latent + rope): the projection's output. */
void store_row(const StoreArgs& a, const HostKv& kv, const Sequence& seq, int32_t t, const float* row) {
  const int32_t latent = kv.params.latent_dim, rope = kv.params.rope_dim;
  double sum = 0;
  for (int32_t i = 0; i < latent; i++) sum += static_cast<double>(row[i]) * row[i];
  const double rms = std::sqrt(sum / latent + a.eps);
  std::vector<double> rotated(row + latent, row + latent + rope);
  rotate_row(rotated.data(), a.batch->inv_freq.data(), rope / 2, t);

  void* rows = kv.rows(a.layer, seq.blocks[t / EK_KV_BLOCK]);
  const auto put = [&](int32_t dim, double value) {
    kv.store(rows, static_cast<size_t>(dim) * EK_KV_BLOCK + t % EK_KV_BLOCK, static_cast<float>(value));
  };
  for (int32_t i = 0; i < latent; i++) put(i, row[i] / rms * a.norm[i]);
  for (int32_t i = 0; i < rope; i++) put(latent + i, rotated[i]);
  for (int32_t i = 0; i < rope; i++) put(latent + rope + i, row[latent + i]);
}

/* Writes pooled row `index`, whose tokens all lie in the cache. */
void store_pooled(const StoreArgs& a, const HostKv& kv, const Sequence& seq, int32_t index) {
  const int32_t latent = kv.params.latent_dim, rope = kv.params.rope_dim, width = kv.pooled_dim;
  const int32_t first = kv.params.cmp_stride * index;
  std::vector<double> k(width, 0.0), v(latent, 0.0);
  for (int32_t m = 0; m < kv.params.cmp_len; m++) {
    const int32_t t = first + m;
    const void* rows = kv.rows(a.layer, seq.blocks[t / EK_KV_BLOCK]);
    for (int32_t i = 0; i < width; i++) {
      const int32_t dim = i < latent ? i : i + rope; /* the rotary key before rotation */
      const double value = kv.load(rows, static_cast<size_t>(dim) * EK_KV_BLOCK + t % EK_KV_BLOCK);
      k[i] += a.cmp_k[m * width + i] * value;
      if (i < latent) v[i] += a.cmp_v[m * latent + i] * value;
    }
  }
  rotate_row(k.data() + latent, a.batch->inv_freq.data(), rope / 2, first);

  const PooledSlot at = kv.pooled_slot(index);
  void* pooled_k = kv.pooled_k(a.layer, seq.blocks[at.seq_block]);
  void* pooled_v = kv.pooled_v(a.layer, seq.blocks[at.seq_block]);
  for (int32_t i = 0; i < width; i++) {
    kv.store(pooled_k, static_cast<size_t>(i) * kv.n_pooled + at.slot, static_cast<float>(k[i]));
  }
  for (int32_t i = 0; i < latent; i++) {
    kv.store(pooled_v, static_cast<size_t>(at.slot) * latent + i, static_cast<float>(v[i]));
  }
}

}  // namespace

void ReferenceBackend::mla_store(const StoreArgs& a) {
  const HostKv& kv = host_kv(*a.kv);
  for (const Sequence& seq : a.batch->sequences) {
    for (int32_t i = 0; i < seq.n_new; i++) {
      const int32_t t = seq.start + i;
      store_row(a, kv, seq, t, a.kv_a + static_cast<size_t>(seq.first_row + i) * kv.pooled_dim);
      for (int32_t index = kv.n_visible(t - 1); index < kv.n_visible(t); index++)
        store_pooled(a, kv, seq, index);
    }
  }
}

}  // namespace ek
