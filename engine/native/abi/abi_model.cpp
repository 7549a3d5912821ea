/* Entry points of whole models: shapes are checked here, what has kernels by the device. */
#include <algorithm>

#include "context.h"

using ek::guarded;
using ek::require_context;
using ek::require_floats;
using ek::require_handle;
using ek::require_weight;
using ek::run_op;

namespace {

void check_params(const ek_model_params* p, const char* op) {
  EK_REQUIRE(p != nullptr, "%s: params is NULL", op);
  EK_REQUIRE(p->n_layers > 0 && p->n_dense >= 0 && p->n_dense <= p->n_layers,
             "%s: layers %d must be positive, of which %d are dense", op, p->n_layers, p->n_dense);
  EK_REQUIRE(p->hidden > 0 && p->vocab > 0 && p->dense_ff > 0 && p->n_experts > 0 && p->ff > 0,
             "%s: hidden %d, vocabulary %d, dense %d, experts %d of %d must be positive", op, p->hidden,
             p->vocab, p->dense_ff, p->n_experts, p->ff);
  EK_REQUIRE(p->top_k > 0 && p->top_k <= p->n_experts && p->shared_ff >= 0,
             "%s: %d of %d experts and %d shared columns cannot be", op, p->top_k, p->n_experts,
             p->shared_ff);
  EK_REQUIRE(p->inv_freq != nullptr, "%s: inv_freq is NULL", op);
  EK_REQUIRE(p->n_blocks > 0 && p->chunk > 0, "%s: blocks %d and chunk %d must be positive", op, p->n_blocks,
             p->chunk);
}

/* The checks of one layer's handles against the shape. */
struct LayerCheck {
  const ek_context* ctx;
  const ek_model_params& p;
  const char* op;

  void floats(const ek_buffer* buffer, int32_t n, const char* name) const {
    require_floats(ctx, buffer, 0, 1, n, op, name);
  }
  void weight(const ek_weight* w, int32_t matrices, int32_t rows, int32_t cols, const char* name) const {
    require_weight(ctx, w, matrices, rows, cols, op, name);
  }
  void attention(const ek_model_layer& l) const {
    floats(l.attn_norm, p.hidden, "attn_norm");
    floats(l.kv_norm, p.latent_dim, "kv_norm");
    floats(l.ffn_norm, p.hidden, "ffn_norm");
    weight(l.q, 1, p.n_heads * (p.nope_dim + p.rope_dim), p.hidden, "q");
    weight(l.kv_a, 1, p.latent_dim + p.rope_dim, p.hidden, "kv_a");
    weight(l.out, 1, p.hidden, p.n_heads * p.v_dim, "out");
    p.sparse.cmp_len > 0 ? sparse(l) : latent(l);
  }
  /* W_UK and W_UV of dense attention. */
  void latent(const ek_model_layer& l) const {
    require_handle(ctx, l.k_b, op, "k_b");
    const bool transposed = l.k_b->shape.n_cols == p.nope_dim;
    weight(l.k_b, p.n_heads, transposed ? p.latent_dim : p.nope_dim, transposed ? p.nope_dim : p.latent_dim,
           "k_b");
    weight(l.v_b, p.n_heads, p.v_dim, p.latent_dim, "v_b");
  }
  /* What native sparse attention has beside queries and latents. */
  void sparse(const ek_model_layer& l) const {
    weight(l.kv_b, 1, p.n_heads * (p.nope_dim + p.v_dim), p.latent_dim, "kv_b");
    weight(l.attn_gate, 1, p.n_heads * 3, p.hidden, "attn_gate");
    floats(l.attn_gate_bias, p.n_heads * 3, "attn_gate_bias");
    floats(l.cmp_k, p.sparse.cmp_len * (p.latent_dim + p.rope_dim), "cmp_k");
    floats(l.cmp_v, p.sparse.cmp_len * p.latent_dim, "cmp_v");
  }
  void feed_forward(const ek_model_layer& l, bool dense) const {
    const int32_t shared = dense ? p.dense_ff : p.shared_ff;
    weight(l.shared_gate, 1, shared, p.hidden, "shared_gate");
    weight(l.shared_up, 1, shared, p.hidden, "shared_up");
    weight(l.shared_down, 1, p.hidden, shared, "shared_down");
    if (dense) return;
    weight(l.router, 1, p.n_experts, p.hidden, "router");
    if (l.router_bias != nullptr) floats(l.router_bias, p.n_experts, "router_bias");
    weight(l.gate, p.n_experts, p.ff, p.hidden, "gate");
    weight(l.up, p.n_experts, p.ff, p.hidden, "up");
    weight(l.down, p.n_experts, p.hidden, p.ff, "down");
  }
};

void check_weights(const ek_context* ctx, const ek_model_params& p, const ek_model_weights* w) {
  constexpr const char* kOp = "ek_model_create";
  EK_REQUIRE(w != nullptr && w->layers != nullptr, "%s: weights or their layers are NULL", kOp);
  require_weight(ctx, w->embedding, 1, p.vocab, p.hidden, kOp, "embedding");
  require_weight(ctx, w->head, 1, p.vocab, p.hidden, kOp, "head");
  require_floats(ctx, w->norm, 0, 1, p.hidden, kOp, "norm");
  const LayerCheck check{ctx, p, kOp};
  for (int32_t i = 0; i < p.n_layers; i++) {
    check.attention(w->layers[i]);
    check.feed_forward(w->layers[i], i < p.n_dense);
  }
}

ek_model* new_model(const ek_context& ctx, const ek_model_params& params, std::unique_ptr<ek::Storage> made) {
  auto* model = new ek_model{ctx.backend, params, std::move(made)};
  model->params.inv_freq = nullptr;
  return model;
}

/* Checks tokens and wishes; returns how many rows of logits are wanted. */
int32_t check_step(const ek_model& model, const ek_batch& batch, const ek_model_step_params& step) {
  constexpr const char* kOp = "ek_model_step";
  const ek_model_params& p = model.params;
  EK_REQUIRE(step.tokens != nullptr && step.wants != nullptr, "%s: an array is NULL", kOp);
  EK_REQUIRE((step.ids == nullptr) == (step.log_probs == nullptr),
             "%s: ids and log_probs must both be given or both be NULL", kOp);
  EK_REQUIRE(batch.max_block < p.n_blocks, "%s: block id %d, the cache has %d blocks", kOp, batch.max_block,
             p.n_blocks);
  for (int32_t i = 0; i < batch.n_tokens; i++)
    EK_REQUIRE(step.tokens[i] >= 0 && step.tokens[i] < p.vocab, "%s: token %d is %d, vocabulary has %d", kOp,
               i, step.tokens[i], p.vocab);
  int32_t n_wanted = 0;
  for (int32_t i = 0; i < step.n_seqs; i++) {
    const ek::Sequence& s = batch.sequences[static_cast<size_t>(i)];
    EK_REQUIRE(s.n_blocks <= p.n_blocks, "%s: a sequence has %d blocks, the cache %d", kOp, s.n_blocks,
               p.n_blocks);
    EK_REQUIRE(step.wants[i] <= s.n_new, "%s: logits of %d tokens are wanted of sequence %d, it has %d", kOp,
               step.wants[i], i, s.n_new);
    n_wanted += step.wants[i];
  }
  return n_wanted;
}

}  // namespace

extern "C" {

ek_status ek_model_plan(ek_context* ctx, const ek_model_params* params, ek_model_memory* out) {
  return guarded([&] {
    require_context(ctx, "ek_model_plan");
    check_params(params, "ek_model_plan");
    EK_REQUIRE(out != nullptr, "ek_model_plan: out is NULL");
    *out = ctx->backend->plan_model(*params);
  });
}

ek_status ek_model_create(ek_context* ctx, const ek_model_params* params, const ek_model_weights* weights,
                          ek_model** out) {
  return guarded([&] {
    require_context(ctx, "ek_model_create");
    check_params(params, "ek_model_create");
    EK_REQUIRE(out != nullptr, "ek_model_create: out is NULL");
    ctx->backend->plan_model(*params); /* refuses a shape before its weights are looked at */
    check_weights(ctx, *params, weights);
    *out = new_model(*ctx, *params, ctx->backend->make_model(*params, *weights));
  });
}

ek_status ek_model_create_random(ek_context* ctx, const ek_model_params* params, const char* types,
                                 uint32_t seed, ek_model** out) {
  return guarded([&] {
    require_context(ctx, "ek_model_create_random");
    check_params(params, "ek_model_create_random");
    EK_REQUIRE(types != nullptr && out != nullptr, "ek_model_create_random: types or out is NULL");
    *out = new_model(*ctx, *params, ctx->backend->make_random_model(*params, types, seed));
  });
}

void ek_model_destroy(ek_model* model) { delete model; }

ek_status ek_model_copy_block(ek_context* ctx, ek_model* model, int32_t dst_block, int32_t src_block) {
  return guarded([&] {
    require_context(ctx, "ek_model_copy_block");
    require_handle(ctx, model, "ek_model_copy_block", "model");
    const int32_t n = model->params.n_blocks;
    EK_REQUIRE(dst_block >= 0 && dst_block < n && src_block >= 0 && src_block < n,
               "ek_model_copy_block: blocks must be 0 to %d, got %d and %d", n - 1, dst_block, src_block);
    ctx->backend->model_copy_block(*model, dst_block, src_block);
  });
}

ek_status ek_model_step(ek_context* ctx, ek_model* model, const ek_model_step_params* step,
                        ek_buffer* logits) {
  return guarded([&] {
    require_context(ctx, "ek_model_step");
    require_handle(ctx, model, "ek_model_step", "model");
    EK_REQUIRE(step != nullptr, "ek_model_step: step is NULL");
    ek_batch batch;
    ek::fill_sequences(batch, "ek_model_step", step->n_seqs, step->start, step->n_new, step->n_seq_blocks,
                       step->blocks);
    const int32_t n_wanted = check_step(*model, batch, *step);
    float* rows = n_wanted == 0 ? nullptr
                                : require_floats(ctx, logits, 0, n_wanted, model->params.vocab,
                                                 "ek_model_step", "logits");
    const ek::ModelStep args{batch.sequences, step->tokens, step->wants,    rows,
                             n_wanted,        step->ids,    step->log_probs};
    if (!ctx->profiling) return ctx->backend->model_step(*model, args);
    const ek::ModelCost cost = ctx->backend->model_cost(*model, args);
    const bool reads = std::any_of(batch.sequences.begin(), batch.sequences.end(),
                                   [](const ek::Sequence& s) { return s.n_new > EK_DECODED; });
    run_op(*ctx, reads ? "prefill" : "decode", cost.bytes, cost.flops,
           [&] { ctx->backend->model_step(*model, args); });
  });
}

ek_status ek_model_fill_cache(ek_context* ctx, ek_model* model, int32_t n_tokens, uint32_t seed) {
  return guarded([&] {
    require_context(ctx, "ek_model_fill_cache");
    require_handle(ctx, model, "ek_model_fill_cache", "model");
    EK_REQUIRE(n_tokens > 0 && n_tokens <= model->params.n_blocks * EK_KV_BLOCK,
               "ek_model_fill_cache: tokens must be 1 to %d, got %d", model->params.n_blocks * EK_KV_BLOCK,
               n_tokens);
    ctx->backend->model_fill_cache(*model, n_tokens, seed);
  });
}

}  // extern "C"
