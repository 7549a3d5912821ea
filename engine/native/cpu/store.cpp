#include <algorithm>

#include "attention_kernels.h"
#include "batch_turns.h"
#include "cpu_backend.h"

namespace ek::cpu {

namespace {

/* Tokens of one item: their values of one dimension are one cache line of f16, so threads never write into
 * the same line. */
constexpr int32_t kRun = 32;

/* One call of the op. */
struct StoreStep {
  const StoreArgs& a;
  const HostKv& kv;
  const Kernels& k;
  const AttentionKernels& attention;
  const float* weights; /* (latent + rope, cmp_len), then (latent, cmp_len): cmp_k and cmp_v transposed */

  int32_t latent() const { return kv.params.latent_dim; }
  int32_t rope() const { return kv.params.rope_dim; }
};

/* Writes the rows of the positions [t, t + n), which lie in one aligned run. x (n, latent + rope): the
 * projection's output; turns (n, rope); tile: scratch of (latent + 2 rope, kRun) and one row. */
void store_run(const StoreStep& s, const Sequence& seq, int32_t t, int32_t n, const float* x,
               const float* turns, float* tile) {
  const int32_t latent = s.latent(), rope = s.rope();
  float *row = tile + static_cast<size_t>(s.kv.row_dim) * kRun, *rotated = row + latent;
  for (int32_t j = 0; j < n; j++, x += latent + rope, turns += rope) {
    s.k.rmsnorm(row, x, s.a.norm, latent, s.a.eps);
    turn_row(x + latent, turns, rope, 1.0f, rotated);
    for (int32_t i = 0; i < latent + rope; i++) tile[i * kRun + j] = row[i];
    for (int32_t i = 0; i < rope; i++) tile[(latent + rope + i) * kRun + j] = x[latent + i];
  }
  char* rows = static_cast<char*>(s.kv.rows(s.a.layer, seq.blocks[t / EK_KV_BLOCK]));
  for (int32_t i = 0; i < s.kv.row_dim; i++) {
    const size_t at = i * size_t{EK_KV_BLOCK} + t % EK_KV_BLOCK;
    s.attention.narrow(tile + i * kRun, s.kv.element == 2, rows + at * s.kv.element, n);
  }
}

/* Writes pooled row `index` from the cached rows, so that it does not depend on how a prompt was cut.
 * turns (rope); k (2 latent + rope): scratch for the pooled key, then the pooled value. */
void store_pooled(const StoreStep& s, const Sequence& seq, int32_t index, const float* turns, float* k) {
  const HostKv& kv = s.kv;
  const int32_t latent = s.latent(), rope = s.rope(), width = kv.pooled_dim, len = kv.params.cmp_len;
  const int32_t first = kv.params.cmp_stride * index;
  float* v = k + width;
  std::fill(k, v + latent, 0.0f);
  for (int32_t m = 0, n = 0; m < len; m += n) {
    const int32_t at = (first + m) % EK_KV_BLOCK;
    n = std::min(len - m, EK_KV_BLOCK - at);
    const Pooled from{kv.rows(s.a.layer, seq.blocks[(first + m) / EK_KV_BLOCK]), kv.element == 2, at, n, len};
    s.attention.pool(from, 0, latent, s.weights + m, k);
    s.attention.pool(from, latent + rope, rope, s.weights + latent * len + m, k + latent); /* not rotated */
    s.attention.pool(from, 0, latent, s.weights + width * len + m, v);
  }
  turn_row(k + latent, turns, rope, 1.0f, k + latent);
  const PooledSlot at = kv.pooled_slot(index);
  void* pooled_k = kv.pooled_k(s.a.layer, seq.blocks[at.seq_block]);
  char* pooled_v = static_cast<char*>(kv.pooled_v(s.a.layer, seq.blocks[at.seq_block]));
  for (int32_t i = 0; i < width; i++)
    kv.store(pooled_k, static_cast<size_t>(i) * kv.n_pooled + at.slot, k[i]);
  s.attention.narrow(v, kv.element == 2, pooled_v + static_cast<size_t>(at.slot) * latent * kv.element,
                     latent);
}

/* to (n_cols, n_rows) = from (n_rows, n_cols) transposed. */
void transpose(const float* from, int32_t n_rows, int32_t n_cols, float* to) {
  for (int32_t r = 0; r < n_rows; r++) {
    for (int32_t c = 0; c < n_cols; c++) to[static_cast<size_t>(c) * n_rows + r] = *from++;
  }
}

}  // namespace

void CpuBackend::mla_store(const StoreArgs& a) {
  const HostKv& kv = host_kv(*a.kv);
  auto& turns = static_cast<BatchTurns&>(*a.batch->storage);
  const int32_t width = kv.pooled_dim, rope = kv.params.rope_dim, latent = kv.params.latent_dim;
  const float *token_turns = turns.of_tokens(), *pooled_turns = turns.of_pooled(*a.batch, kv);
  const auto n_pooled = [&](const Sequence& seq) {
    return kv.n_visible(seq.start + seq.n_new - 1) - kv.n_visible(seq.start - 1);
  };
  const auto& sequences = a.batch->sequences;
  float* weights = nullptr;
  if (std::any_of(sequences.begin(), sequences.end(),
                  [&](const Sequence& seq) { return n_pooled(seq) > 0; })) {
    weights = work_.reserve(static_cast<size_t>(width + latent) * kv.params.cmp_len);
    transpose(a.cmp_k, kv.params.cmp_len, width, weights);
    transpose(a.cmp_v, kv.params.cmp_len, latent, weights + static_cast<size_t>(width) * kv.params.cmp_len);
  }
  /* The loops below must not allocate. */
  reserve(static_cast<size_t>(kv.row_dim) * kRun + static_cast<size_t>(width) + latent);
  const StoreStep step{a, kv, k_, attention_kernels(k_.name), weights};
  for (const Sequence& seq : sequences) {
    const int32_t end = seq.start + seq.n_new, first_run = seq.start / kRun;
    pool_.run((end - 1) / kRun + 1 - first_run, [&](int i, int thread) {
      const int32_t t = std::max(seq.start, (first_run + i) * kRun);
      const int32_t n = std::min(end, (first_run + i + 1) * kRun) - t;
      const size_t row = static_cast<size_t>(seq.first_row) + t - seq.start;
      store_run(step, seq, t, n, a.kv_a + row * width, token_turns + row * rope, scratch(thread));
    });
    const int32_t before = kv.n_visible(seq.start - 1);
    pool_.run(n_pooled(seq), [&](int i, int thread) {
      store_pooled(step, seq, before + i, pooled_turns + static_cast<size_t>(i) * rope, scratch(thread));
    });
    pooled_turns += static_cast<size_t>(n_pooled(seq)) * rope;
  }
}

}  // namespace ek::cpu
