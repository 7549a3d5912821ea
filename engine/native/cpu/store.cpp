#include <algorithm>
#include <cmath>

#include "cpu_backend.h"

namespace ek::cpu {

namespace {

/* Writes the row of the token at position t. row (latent + rope): the projection's output; rotated (rope):
 * scratch. */
void store_row(const StoreArgs& a, const HostKv& kv, const Sequence& seq, int32_t t, const float* row,
               float* rotated) {
  const int32_t latent = kv.params.latent_dim, rope = kv.params.rope_dim;
  float sum = 0;
  for (int32_t i = 0; i < latent; i++) sum += row[i] * row[i];
  const float scale = 1 / std::sqrt(sum / static_cast<float>(latent) + a.eps);
  std::copy(row + latent, row + latent + rope, rotated);
  rotate_row(rotated, a.batch->inv_freq.data(), rope / 2, t);
  void* rows = kv.rows(a.layer, seq.blocks[t / EK_KV_BLOCK]);
  const size_t at = t % EK_KV_BLOCK;
  for (int32_t i = 0; i < latent; i++)
    kv.store(rows, i * size_t{EK_KV_BLOCK} + at, row[i] * scale * a.norm[i]);
  for (int32_t i = 0; i < rope; i++) {
    kv.store(rows, (latent + i) * size_t{EK_KV_BLOCK} + at, rotated[i]);
    kv.store(rows, (latent + rope + i) * size_t{EK_KV_BLOCK} + at, row[latent + i]);
  }
}

/* Writes pooled row `index` from the cached rows, so that it does not depend on how a prompt was cut.
 * k (2 latent + rope): scratch for the pooled key, then the pooled value. */
void store_pooled(const StoreArgs& a, const HostKv& kv, const Sequence& seq, int32_t index, float* k) {
  const int32_t latent = kv.params.latent_dim, rope = kv.params.rope_dim, width = kv.pooled_dim;
  const int32_t first = kv.params.cmp_stride * index;
  float* v = k + width;
  std::fill(k, v + latent, 0.0f);
  for (int32_t i = 0; i < width; i++) {
    const size_t dim = i < latent ? i : i + rope; /* the rotary key before rotation */
    for (int32_t m = 0; m < kv.params.cmp_len; m++) {
      const int32_t t = first + m;
      const void* rows = kv.rows(a.layer, seq.blocks[t / EK_KV_BLOCK]);
      const float value = kv.load(rows, dim * EK_KV_BLOCK + t % EK_KV_BLOCK);
      k[i] += a.cmp_k[m * width + i] * value;
      if (i < latent) v[i] += a.cmp_v[m * latent + i] * value;
    }
  }
  rotate_row(k + latent, a.batch->inv_freq.data(), rope / 2, first);
  const PooledSlot at = kv.pooled_slot(index);
  void* pooled_k = kv.pooled_k(a.layer, seq.blocks[at.seq_block]);
  void* pooled_v = kv.pooled_v(a.layer, seq.blocks[at.seq_block]);
  for (int32_t i = 0; i < width; i++)
    kv.store(pooled_k, static_cast<size_t>(i) * kv.n_pooled + at.slot, k[i]);
  for (int32_t i = 0; i < latent; i++) kv.store(pooled_v, static_cast<size_t>(at.slot) * latent + i, v[i]);
}

}  // namespace

void CpuBackend::mla_store(const StoreArgs& a) {
  const HostKv& kv = host_kv(*a.kv);
  reserve(static_cast<size_t>(kv.pooled_dim) + kv.params.latent_dim); /* the loops below must not allocate */
  for (const Sequence& seq : a.batch->sequences) {
    pool_.run(seq.n_new, [&](int i, int thread) {
      const float* row = a.kv_a + static_cast<size_t>(seq.first_row + i) * kv.pooled_dim;
      store_row(a, kv, seq, seq.start + i, row, scratch(thread));
    });
    const int32_t before = kv.n_visible(seq.start - 1), after = kv.n_visible(seq.start + seq.n_new - 1);
    pool_.run(after - before,
              [&](int i, int thread) { store_pooled(a, kv, seq, before + i, scratch(thread)); });
  }
}

}  // namespace ek::cpu
