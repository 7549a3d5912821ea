/* Entry points of the ops: every shape is checked here, against the handles' own sizes. */
#include <algorithm>

#include "../core/quant.h"
#include "context.h"

using ek::guarded;
using ek::require_context;
using ek::require_floats;
using ek::require_handle;
using ek::require_weight;
using ek::run_op;

namespace {

double weight_bytes(const ek_weight& w, double n_matrices) {
  return static_cast<double>(ek::row_bytes(w.shape.type, w.shape.n_cols)) * w.shape.n_rows * n_matrices;
}

double elements(const ek_weight& w) { return static_cast<double>(w.shape.n_rows) * w.shape.n_cols; }

/* Checks the three matrices of a feed-forward against `gate`. */
void require_ffn(const ek_context* ctx, const ek_weight* gate, const ek_weight* up, const ek_weight* down,
                 const char* op) {
  require_handle(ctx, gate, op, "gate");
  const ek::WeightShape& s = gate->shape;
  require_weight(ctx, up, s.n_matrices, s.n_rows, s.n_cols, op, "up");
  require_weight(ctx, down, s.n_matrices, s.n_cols, s.n_rows, op, "down");
}

/* Groups must be equal, and those that are kept must hold enough experts. */
void require_groups(const ek_moe_params& p, int32_t n_experts) {
  EK_REQUIRE(p.n_groups > 0 && n_experts % p.n_groups == 0, "ek_moe: n_groups must divide %d experts, got %d",
             n_experts, p.n_groups);
  EK_REQUIRE(
      p.top_groups > 0 && p.top_groups <= p.n_groups && p.top_groups * (n_experts / p.n_groups) >= p.top_k,
      "ek_moe: top_groups must be 1 to %d and hold %d experts, got %d", p.n_groups, p.top_k, p.top_groups);
}

void require_distinct(const void* out, const void* x, const char* op) {
  EK_REQUIRE(out != x, "%s: out and an input are the same buffer", op);
}

}  // namespace

extern "C" {

ek_status ek_embed(ek_context* ctx, ek_buffer* out, const ek_weight* table, const int32_t* tokens,
                   int32_t n_tokens) {
  return guarded([&] {
    require_context(ctx, "ek_embed");
    require_handle(ctx, table, "ek_embed", "table");
    EK_REQUIRE(tokens != nullptr, "ek_embed: tokens is NULL");
    EK_REQUIRE(n_tokens > 0, "ek_embed: n_tokens must be positive, got %d", n_tokens);
    float* to = require_floats(ctx, out, 0, n_tokens, table->shape.n_cols, "ek_embed", "out");
    for (int32_t i = 0; i < n_tokens; i++) {
      EK_REQUIRE(tokens[i] >= 0 && tokens[i] < table->shape.n_rows,
                 "ek_embed: token %d is %d, vocabulary has %d", i, tokens[i], table->shape.n_rows);
    }
    const double bytes = weight_bytes(*table, 1) / table->shape.n_rows * n_tokens;
    run_op(*ctx, "embed", bytes, 0, [&] { ctx->backend->embed(to, *table, tokens, n_tokens); });
  });
}

ek_status ek_rmsnorm(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const ek_buffer* weight,
                     int32_t n_rows, int32_t dim, float eps) {
  return guarded([&] {
    require_context(ctx, "ek_rmsnorm");
    float* to = require_floats(ctx, out, 0, n_rows, dim, "ek_rmsnorm", "out");
    const float* from = require_floats(ctx, x, 0, n_rows, dim, "ek_rmsnorm", "x");
    const float* scale = require_floats(ctx, weight, 0, 1, dim, "ek_rmsnorm", "weight");
    run_op(*ctx, "rmsnorm", 0, 4.0 * n_rows * dim,
           [&] { ctx->backend->rmsnorm(to, from, scale, n_rows, dim, eps); });
  });
}

ek_status ek_linear(ek_context* ctx, ek_buffer* out, const ek_buffer* x, int32_t x_row, const ek_weight* w,
                    const ek_buffer* bias, int32_t n_rows, int32_t accumulate) {
  return guarded([&] {
    require_context(ctx, "ek_linear");
    require_handle(ctx, w, "ek_linear", "w");
    require_weight(ctx, w, 1, w->shape.n_rows, w->shape.n_cols, "ek_linear", "w");
    ek::LinearArgs args{};
    args.out = require_floats(ctx, out, 0, n_rows, w->shape.n_rows, "ek_linear", "out");
    args.x = require_floats(ctx, x, x_row, n_rows, w->shape.n_cols, "ek_linear", "x");
    require_distinct(out, x, "ek_linear");
    args.w = w;
    args.bias =
        bias == nullptr ? nullptr : require_floats(ctx, bias, 0, 1, w->shape.n_rows, "ek_linear", "bias");
    args.n_rows = n_rows;
    args.accumulate = accumulate != 0;
    run_op(*ctx, w->shape.n_rows > 4096 ? "linear (head)" : "linear", weight_bytes(*w, 1),
           2 * elements(*w) * n_rows, [&] { ctx->backend->linear(args); });
  });
}

ek_status ek_gather_rows(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const int32_t* rows,
                         int32_t n_rows, int32_t dim) {
  return guarded([&] {
    require_context(ctx, "ek_gather_rows");
    EK_REQUIRE(rows != nullptr, "ek_gather_rows: rows is NULL");
    float* to = require_floats(ctx, out, 0, n_rows, dim, "ek_gather_rows", "out");
    for (int32_t i = 0; i < n_rows; i++) require_floats(ctx, x, rows[i], 1, dim, "ek_gather_rows", "x");
    require_distinct(out, x, "ek_gather_rows");
    const float* from = static_cast<const float*>(x->data);
    run_op(*ctx, "gather_rows", 4.0 * n_rows * dim, 0,
           [&] { ctx->backend->gather_rows(to, from, rows, n_rows, dim); });
  });
}

ek_status ek_concat(ek_context* ctx, ek_buffer* out, const ek_buffer* a, const ek_buffer* b, int32_t n_rows,
                    int32_t dim) {
  return guarded([&] {
    require_context(ctx, "ek_concat");
    float* to = require_floats(ctx, out, 0, n_rows, 2 * static_cast<int64_t>(dim), "ek_concat", "out");
    const float* left = require_floats(ctx, a, 0, n_rows, dim, "ek_concat", "a");
    const float* right = require_floats(ctx, b, 0, n_rows, dim, "ek_concat", "b");
    require_distinct(out, a, "ek_concat");
    require_distinct(out, b, "ek_concat");
    run_op(*ctx, "concat", 8.0 * n_rows * dim, 0,
           [&] { ctx->backend->concat(to, left, right, n_rows, dim); });
  });
}

ek_status ek_ffn_swiglu(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const ek_weight* gate,
                        const ek_weight* up, const ek_weight* down, int32_t n_rows) {
  return guarded([&] {
    require_context(ctx, "ek_ffn_swiglu");
    require_ffn(ctx, gate, up, down, "ek_ffn_swiglu");
    const int32_t dim = gate->shape.n_cols;
    require_weight(ctx, gate, 1, gate->shape.n_rows, dim, "ek_ffn_swiglu", "gate");
    float* to = require_floats(ctx, out, 0, n_rows, dim, "ek_ffn_swiglu", "out");
    const float* from = require_floats(ctx, x, 0, n_rows, dim, "ek_ffn_swiglu", "x");
    require_distinct(out, x, "ek_ffn_swiglu");
    run_op(*ctx, "ffn_swiglu", weight_bytes(*gate, 1) + weight_bytes(*up, 1) + weight_bytes(*down, 1),
           6 * elements(*gate) * n_rows,
           [&] { ctx->backend->ffn_swiglu(to, from, *gate, *up, *down, n_rows); });
  });
}

ek_status ek_moe(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const ek_moe_params* p,
                 int32_t n_rows) {
  return guarded([&] {
    require_context(ctx, "ek_moe");
    EK_REQUIRE(p != nullptr, "ek_moe: params is NULL");
    require_handle(ctx, p->router, "ek_moe", "router");
    const int32_t n_experts = p->router->shape.n_rows, dim = p->router->shape.n_cols;
    require_weight(ctx, p->router, 1, n_experts, dim, "ek_moe", "router");
    EK_REQUIRE(p->router->shape.type == EK_F32, "ek_moe: router must be F32, is type %d",
               static_cast<int>(p->router->shape.type));
    if (p->router_bias != nullptr)
      require_floats(ctx, p->router_bias, 0, 1, n_experts, "ek_moe", "router_bias");
    require_ffn(ctx, p->gate, p->up, p->down, "ek_moe");
    require_weight(ctx, p->gate, n_experts, p->gate->shape.n_rows, dim, "ek_moe", "gate");
    double always = 0, shared_flops = 0;
    if (p->shared_gate != nullptr) {
      require_ffn(ctx, p->shared_gate, p->shared_up, p->shared_down, "ek_moe (shared)");
      require_weight(ctx, p->shared_gate, 1, p->shared_gate->shape.n_rows, dim, "ek_moe", "shared_gate");
      always = 3 * weight_bytes(*p->shared_gate, 1);
      shared_flops = 6 * elements(*p->shared_gate);
    }
    EK_REQUIRE(p->top_k > 0 && p->top_k <= n_experts && p->top_k <= 32,
               "ek_moe: top_k must be 1 to %d and at most 32, got %d", n_experts, p->top_k);
    EK_REQUIRE(p->score_func == 1 || p->score_func == 2,
               "ek_moe: score_func must be 1 (softmax) or 2 (sigmoid), got %d", p->score_func);
    require_groups(*p, n_experts);
    float* to = require_floats(ctx, out, 0, n_rows, dim, "ek_moe", "out");
    const float* from = require_floats(ctx, x, 0, n_rows, dim, "ek_moe", "x");
    require_distinct(out, x, "ek_moe");
    const double used = std::min<double>(n_experts, static_cast<double>(p->top_k) * n_rows);
    const double flops =
        (6 * elements(*p->gate) * p->top_k + shared_flops + 2 * elements(*p->router)) * n_rows;
    run_op(*ctx, "moe", always + 3 * weight_bytes(*p->gate, used), flops,
           [&] { ctx->backend->moe(to, from, *p, n_rows); });
  });
}

ek_status ek_argmax(ek_context* ctx, const ek_buffer* logits, int32_t n_rows, int32_t vocab, int32_t* ids,
                    float* log_probs) {
  return guarded([&] {
    require_context(ctx, "ek_argmax");
    EK_REQUIRE(ids != nullptr && log_probs != nullptr, "ek_argmax: ids or log_probs is NULL");
    const float* from = require_floats(ctx, logits, 0, n_rows, vocab, "ek_argmax", "logits");
    run_op(*ctx, "argmax", 4.0 * n_rows * vocab, 0,
           [&] { ctx->backend->argmax(from, n_rows, vocab, ids, log_probs); });
  });
}

}  // extern "C"
