/* Entry points of the attention ops. */
#include <algorithm>

#include "context.h"

using ek::guarded;
using ek::require_context;
using ek::require_floats;
using ek::require_handle;
using ek::run_op;

namespace {

void require_step(const ek_context* ctx, const ek_kv_cache* kv, int32_t layer, const ek_batch* batch,
                  const char* op) {
  require_handle(ctx, kv, op, "kv");
  require_handle(ctx, batch, op, "batch");
  EK_REQUIRE(batch->n_tokens > 0, "%s: the batch was not set", op);
  EK_REQUIRE(layer >= 0 && layer < kv->params.n_layers, "%s: layer must be 0 to %d, got %d", op,
             kv->params.n_layers - 1, layer);
  EK_REQUIRE(batch->max_block < kv->params.n_blocks, "%s: block id %d, the cache has %d blocks", op,
             batch->max_block, kv->params.n_blocks);
  EK_REQUIRE(static_cast<int32_t>(batch->inv_freq.size()) * 2 == kv->params.rope_dim,
             "%s: the batch rotates %zu dimensions, the cache %d", op, batch->inv_freq.size() * 2,
             kv->params.rope_dim);
}

void check_heads(int32_t n_heads, int32_t nope_dim, int32_t v_dim, const char* op) {
  EK_REQUIRE(n_heads > 0 && nope_dim > 0 && v_dim > 0, "%s: heads %d, nope %d and value %d must be positive",
             op, n_heads, nope_dim, v_dim);
  EK_REQUIRE(v_dim % 16 == 0, "%s: v_dim must be a multiple of 16, got %d", op, v_dim);
}

void check_nsa_params(const ek_nsa_params& p, const ek_kv_params& kv) {
  check_heads(p.n_heads, p.nope_dim, p.v_dim, "ek_nsa_attention");
  EK_REQUIRE(p.select_block == EK_KV_BLOCK, "ek_nsa_attention: select_block must be %d, got %d", EK_KV_BLOCK,
             p.select_block);
  EK_REQUIRE(
      p.window > 0 && p.init_blocks >= 0 && p.local_blocks > 0 &&
          p.select_n >= p.init_blocks + p.local_blocks,
      "ek_nsa_attention: window %d must be positive, select_n %d at least init %d plus local %d (at least 1)",
      p.window, p.select_n, p.init_blocks, p.local_blocks);
  EK_REQUIRE(kv.cmp_len > 0, "ek_nsa_attention: the cache has no pooled rows");
}

/* Rows that one token reads, about: its selected blocks, the window beside them, and the pooled rows. */
double rows_read(const ek_nsa_params& p, const ek_kv_params& kv, double t) {
  const double selected = static_cast<double>(p.select_n) * p.select_block;
  return std::min(t, selected + p.window) + (kv.cmp_len > 0 ? t / kv.cmp_stride : 0);
}

/* Checks what both ops have in common, fills the rest of args, and runs it as `profiled`. */
void run_attention(ek_context& ctx, ek::AttentionArgs args, ek_buffer* out, const ek_buffer* q,
                   const char* op, const char* profiled) {
  const ek_nsa_params& p = args.nsa;
  const ek_kv_params& kv = args.kv->params;
  const int64_t heads = p.n_heads, n = args.batch->n_tokens;
  args.out = require_floats(&ctx, out, 0, n, heads * p.v_dim, op, "out");
  args.q = require_floats(&ctx, q, 0, n, heads * (p.nope_dim + kv.rope_dim), op, "q");
  EK_REQUIRE(out != q, "%s: out and an input are the same buffer", op);
  require_handle(&ctx, args.kv_b, op, "kv_b");
  const ek::WeightShape& w = args.kv_b->shape;
  EK_REQUIRE(w.n_matrices == 1 && w.n_rows == heads * (p.nope_dim + p.v_dim) && w.n_cols == kv.latent_dim,
             "%s: kv_b must be (%d, %d), is %d x (%d, %d)", op, p.n_heads * (p.nope_dim + p.v_dim),
             kv.latent_dim, w.n_matrices, w.n_rows, w.n_cols);
  double rows = 0;
  for (const ek::Sequence& s : args.batch->sequences)
    rows += s.n_new * rows_read(p, kv, s.start + s.n_new / 2.0 + 0.5);
  const double bytes = rows * (kv.latent_dim + kv.rope_dim) * (kv.type == EK_F32 ? 4 : 2);
  const double flops = 2 * rows * static_cast<double>(heads) * (p.nope_dim + kv.rope_dim + p.v_dim);
  run_op(ctx, profiled, bytes, flops, [&] { ctx.backend->nsa_attention(args); });
}

}  // namespace

extern "C" {

ek_status ek_mla_store(ek_context* ctx, ek_kv_cache* kv, int32_t layer, const ek_batch* batch,
                       const ek_buffer* kv_a, const ek_buffer* norm, const ek_buffer* cmp_k,
                       const ek_buffer* cmp_v, float eps) {
  return guarded([&] {
    require_context(ctx, "ek_mla_store");
    require_step(ctx, kv, layer, batch, "ek_mla_store");
    const ek_kv_params& p = kv->params;
    const int32_t width = p.latent_dim + p.rope_dim;
    ek::StoreArgs args{kv, layer, batch, nullptr, nullptr, nullptr, nullptr, eps};
    args.kv_a = require_floats(ctx, kv_a, 0, batch->n_tokens, width, "ek_mla_store", "kv_a");
    args.norm = require_floats(ctx, norm, 0, 1, p.latent_dim, "ek_mla_store", "norm");
    if (p.cmp_len > 0) {
      args.cmp_k = require_floats(ctx, cmp_k, 0, p.cmp_len, width, "ek_mla_store", "cmp_k");
      args.cmp_v = require_floats(ctx, cmp_v, 0, p.cmp_len, p.latent_dim, "ek_mla_store", "cmp_v");
    }
    run_op(*ctx, "mla_store", 4.0 * batch->n_tokens * width, 0, [&] { ctx->backend->mla_store(args); });
  });
}

ek_status ek_nsa_attention(ek_context* ctx, ek_buffer* out, const ek_buffer* q, const ek_buffer* gates,
                           const ek_kv_cache* kv, int32_t layer, const ek_batch* batch, const ek_weight* kv_b,
                           const ek_nsa_params* params) {
  return guarded([&] {
    require_context(ctx, "ek_nsa_attention");
    require_step(ctx, kv, layer, batch, "ek_nsa_attention");
    EK_REQUIRE(params != nullptr, "ek_nsa_attention: params is NULL");
    check_nsa_params(*params, kv->params);
    ek::AttentionArgs args{nullptr, nullptr, nullptr, kv, layer, batch, kv_b, *params};
    args.gates = require_floats(ctx, gates, 0, batch->n_tokens, int64_t{params->n_heads} * 3,
                                "ek_nsa_attention", "gates");
    EK_REQUIRE(out != gates, "ek_nsa_attention: out and an input are the same buffer");
    run_attention(*ctx, args, out, q, "ek_nsa_attention", "nsa_attention");
  });
}

ek_status ek_mla_attention(ek_context* ctx, ek_buffer* out, const ek_buffer* q, const ek_kv_cache* kv,
                           int32_t layer, const ek_batch* batch, const ek_weight* kv_b,
                           const ek_mla_params* params) {
  return guarded([&] {
    require_context(ctx, "ek_mla_attention");
    require_step(ctx, kv, layer, batch, "ek_mla_attention");
    EK_REQUIRE(params != nullptr, "ek_mla_attention: params is NULL");
    check_heads(params->n_heads, params->nope_dim, params->v_dim, "ek_mla_attention");
    const ek_nsa_params all{params->n_heads,
                            params->nope_dim,
                            params->v_dim,
                            params->softmax_scale,
                            EK_KV_BLOCK,
                            INT32_MAX,
                            1,
                            0,
                            1};
    const ek::AttentionArgs args{nullptr, nullptr, nullptr, kv, layer, batch, kv_b, all};
    run_attention(*ctx, args, out, q, "ek_mla_attention", "mla_attention");
  });
}

}  // extern "C"
