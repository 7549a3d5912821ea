#include "context.h"

using ek::guarded;
using ek::require_context;
using ek::require_handle;

namespace ek {

void fill_sequences(ek_batch& batch, const char* op, int32_t n_seqs, const int32_t* start,
                    const int32_t* n_new, const int32_t* n_seq_blocks, const int32_t* blocks) {
  constexpr int32_t kMaxPosition = 1 << 24; /* a float counts positions exactly up to here */
  EK_REQUIRE(n_seqs > 0, "%s: n_seqs must be positive, got %d", op, n_seqs);
  EK_REQUIRE(start != nullptr && n_new != nullptr && n_seq_blocks != nullptr && blocks != nullptr,
             "%s: an array is NULL", op);
  size_t n_blocks = 0;
  for (int32_t s = 0; s < n_seqs; s++) {
    EK_REQUIRE(start[s] >= 0 && n_new[s] > 0 && start[s] <= kMaxPosition - n_new[s],
               "%s: sequence %d adds %d tokens at %d, expected at least 1 and positions below %d", op, s,
               n_new[s], start[s], kMaxPosition);
    const int32_t needed = (start[s] + n_new[s] + EK_KV_BLOCK - 1) / EK_KV_BLOCK;
    EK_REQUIRE(n_seq_blocks[s] >= needed, "%s: sequence %d needs %d blocks, got %d", op, s, needed,
               n_seq_blocks[s]);
    n_blocks += static_cast<size_t>(n_seq_blocks[s]);
  }
  int32_t max_block = -1;
  for (size_t i = 0; i < n_blocks; i++) {
    EK_REQUIRE(blocks[i] >= 0, "%s: block id %d is negative", op, blocks[i]);
    max_block = blocks[i] > max_block ? blocks[i] : max_block;
  }
  batch.blocks.assign(blocks, blocks + n_blocks);
  batch.sequences.clear();
  int64_t first_row = 0;
  const int32_t* at = batch.blocks.data();
  for (int32_t s = 0; s < n_seqs; s++) {
    EK_REQUIRE(first_row + n_new[s] <= kMaxPosition, "%s: more than %d new tokens", op, kMaxPosition);
    batch.sequences.push_back({start[s], n_new[s], static_cast<int32_t>(first_row), at, n_seq_blocks[s]});
    first_row += n_new[s];
    at += n_seq_blocks[s];
  }
  batch.n_tokens = static_cast<int32_t>(first_row);
  batch.max_block = max_block;
}

}  // namespace ek

extern "C" {

ek_status ek_batch_create(ek_context* ctx, ek_batch** out) {
  return guarded([&] {
    require_context(ctx, "ek_batch_create");
    EK_REQUIRE(out != nullptr, "ek_batch_create: out is NULL");
    auto batch = std::make_unique<ek_batch>();
    batch->backend = ctx->backend;
    *out = batch.release();
  });
}

void ek_batch_destroy(ek_batch* batch) { delete batch; }

ek_status ek_batch_set(ek_context* ctx, ek_batch* batch, const ek_rope* rope, int32_t n_seqs,
                       const int32_t* start, const int32_t* n_new, const int32_t* n_seq_blocks,
                       const int32_t* blocks) {
  return guarded([&] {
    require_context(ctx, "ek_batch_set");
    require_handle(ctx, batch, "ek_batch_set", "batch");
    require_handle(ctx, rope, "ek_batch_set", "rope");
    batch->sequences.clear(); /* a batch whose setting failed holds nothing */
    batch->n_tokens = 0;
    ek::fill_sequences(*batch, "ek_batch_set", n_seqs, start, n_new, n_seq_blocks, blocks);
    batch->inv_freq = rope->inv_freq;
    ctx->backend->prepare_batch(*batch);
  });
}

}  // extern "C"
