/* Exports that compute. Argument order: engine/backend/addon.ts; argument 0 is the context. */
#include "entry.h"

namespace ek::node {

namespace {

ek_context* context(const Arguments& a) { return a.get<ek_context>(0, "context"); }
ek_buffer* buffer(const Arguments& a, size_t i) { return a.get<ek_buffer>(i, "buffer"); }
ek_buffer* buffer_or_null(const Arguments& a, size_t i) { return a.get_or_null<ek_buffer>(i, "buffer"); }
ek_weight* weight(const Arguments& a, size_t i) { return a.get<ek_weight>(i, "weight"); }
ek_weight* weight_or_null(const Arguments& a, size_t i) { return a.get_or_null<ek_weight>(i, "weight"); }

napi_value done(const Arguments& a, ek_status status) {
  require_ok(status);
  return make_undefined(a.env());
}

napi_value embed(const Arguments& a) {
  const Array<int32_t> tokens = a.ints(3, "tokens");
  return done(
      a, ek_embed(context(a), buffer(a, 1), weight(a, 2), tokens.data, static_cast<int32_t>(tokens.length)));
}

napi_value rmsnorm(const Arguments& a) {
  return done(a, ek_rmsnorm(context(a), buffer(a, 1), buffer(a, 2), buffer(a, 3), a.integer(4, "nRows"),
                            a.integer(5, "dim"), static_cast<float>(a.number(6, "eps"))));
}

napi_value linear(const Arguments& a) {
  return done(a, ek_linear(context(a), buffer(a, 1), buffer(a, 2), a.integer(3, "xRow"), weight(a, 4),
                           buffer_or_null(a, 5), a.integer(6, "nRows"), a.boolean(7, "accumulate") ? 1 : 0));
}

napi_value gather_rows(const Arguments& a) {
  const Array<int32_t> rows = a.ints(3, "rows");
  return done(a, ek_gather_rows(context(a), buffer(a, 1), buffer(a, 2), rows.data,
                                static_cast<int32_t>(rows.length), a.integer(4, "dim")));
}

napi_value concat(const Arguments& a) {
  return done(a, ek_concat(context(a), buffer(a, 1), buffer(a, 2), buffer(a, 3), a.integer(4, "nRows"),
                           a.integer(5, "dim")));
}

napi_value ffn_swiglu(const Arguments& a) {
  return done(a, ek_ffn_swiglu(context(a), buffer(a, 1), buffer(a, 2), weight(a, 3), weight(a, 4),
                               weight(a, 5), a.integer(6, "nRows")));
}

napi_value moe(const Arguments& a) {
  ek_moe_params p{};
  p.router = weight(a, 3);
  p.router_bias = buffer_or_null(a, 4);
  p.gate = weight(a, 5);
  p.up = weight(a, 6);
  p.down = weight(a, 7);
  p.shared_gate = weight_or_null(a, 8);
  p.shared_up = weight_or_null(a, 9);
  p.shared_down = weight_or_null(a, 10);
  p.top_k = a.integer(11, "topK");
  p.score_func = a.integer(12, "scoreFunc");
  p.n_groups = a.integer(13, "nGroups");
  p.top_groups = a.integer(14, "topGroups");
  p.normalize = a.boolean(15, "normalize") ? 1 : 0;
  p.scale = static_cast<float>(a.number(16, "scale"));
  return done(a, ek_moe(context(a), buffer(a, 1), buffer(a, 2), &p, a.integer(17, "nRows")));
}

napi_value mla_store(const Arguments& a) {
  return done(a, ek_mla_store(context(a), a.get<ek_kv_cache>(1, "kv"), a.integer(2, "layer"),
                              a.get<ek_batch>(3, "batch"), buffer(a, 4), buffer(a, 5), buffer_or_null(a, 6),
                              buffer_or_null(a, 7), static_cast<float>(a.number(8, "eps"))));
}

napi_value nsa_attention(const Arguments& a) {
  const ek_nsa_params p{a.integer(8, "nHeads"),       a.integer(9, "nopeDim"),
                        a.integer(10, "vDim"),        static_cast<float>(a.number(11, "softmaxScale")),
                        a.integer(12, "selectBlock"), a.integer(13, "selectN"),
                        a.integer(14, "window"),      a.integer(15, "initBlocks"),
                        a.integer(16, "localBlocks")};
  return done(
      a, ek_nsa_attention(context(a), buffer(a, 1), buffer(a, 2), buffer(a, 3), a.get<ek_kv_cache>(4, "kv"),
                          a.integer(5, "layer"), a.get<ek_batch>(6, "batch"), weight(a, 7), &p));
}

napi_value mla_attention(const Arguments& a) {
  const ek_mla_params p{a.integer(7, "nHeads"), a.integer(8, "nopeDim"), a.integer(9, "vDim"),
                        static_cast<float>(a.number(10, "softmaxScale"))};
  return done(a, ek_mla_attention(context(a), buffer(a, 1), buffer(a, 2), a.get<ek_kv_cache>(3, "kv"),
                                  a.integer(4, "layer"), a.get<ek_batch>(5, "batch"), weight(a, 6), &p));
}

napi_value argmax(const Arguments& a) {
  const Array<int32_t> ids = a.ints(3, "ids");
  const Array<float> log_probs = a.floats(4, "logProbs");
  EK_REQUIRE(ids.length == log_probs.length, "argmax: ids has %zu elements, logProbs %zu", ids.length,
             log_probs.length);
  return done(a, ek_argmax(context(a), buffer(a, 1), static_cast<int32_t>(ids.length), a.integer(2, "vocab"),
                           ids.data, log_probs.data));
}

}  // namespace

const Entry kOpEntries[] = {
    {"embed", 4, embed},
    {"rmsnorm", 7, rmsnorm},
    {"linear", 8, linear},
    {"gatherRows", 5, gather_rows},
    {"concat", 6, concat},
    {"ffnSwiglu", 7, ffn_swiglu},
    {"moe", 18, moe},
    {"mlaStore", 9, mla_store},
    {"nsaAttention", 17, nsa_attention},
    {"mlaAttention", 11, mla_attention},
    {"argmax", 5, argmax},
};
const size_t kNOpEntries = sizeof kOpEntries / sizeof kOpEntries[0];

}  // namespace ek::node
