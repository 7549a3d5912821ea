/* Exports of whole models. Argument order: engine/backend/addon.ts; argument 0 is the context. */
#include "entry.h"

namespace ek::node {

namespace {

ek_context* context(const Arguments& a) { return a.get<ek_context>(0, "context"); }
ek_model* model(const Arguments& a) { return a.get<ek_model>(1, "model"); }

napi_value done(const Arguments& a, ek_status status) {
  require_ok(status);
  return make_undefined(a.env());
}

/* Arguments 1 to 3: integers, numbers and rotary frequencies, in the order of ek_model_params. */
ek_model_params params_of(const Arguments& a) {
  const Array<int32_t> n = a.ints(1, "integers");
  const Array<float> f = a.floats(2, "numbers"), inv_freq = a.floats(3, "invFreq");
  EK_REQUIRE(n.length == 27 && f.length == 3, "a model needs 27 integers and 3 numbers, got %zu and %zu",
             n.length, f.length);
  ek_model_params p{};
  int32_t* const fields[] = {&p.n_layers,
                             &p.n_dense,
                             &p.hidden,
                             &p.vocab,
                             &p.n_heads,
                             &p.nope_dim,
                             &p.rope_dim,
                             &p.v_dim,
                             &p.latent_dim,
                             &p.dense_ff,
                             &p.n_experts,
                             &p.top_k,
                             &p.ff,
                             &p.shared_ff,
                             &p.score_func,
                             &p.n_groups,
                             &p.top_groups,
                             &p.normalize,
                             &p.n_blocks,
                             &p.chunk,
                             &p.sparse.cmp_len,
                             &p.sparse.cmp_stride,
                             &p.sparse.select_n,
                             &p.sparse.window,
                             &p.sparse.init_blocks,
                             &p.sparse.local_blocks,
                             &p.fp8_cache};
  for (size_t i = 0; i < n.length; i++) *fields[i] = n.data[i];
  p.scale = f.data[0];
  p.eps = f.data[1];
  p.softmax_scale = f.data[2];
  EK_REQUIRE(static_cast<int64_t>(inv_freq.length) * 2 == p.rope_dim,
             "a model of %d rotated dimensions needs half as many frequencies, got %zu", p.rope_dim,
             inv_freq.length);
  p.inv_freq = inv_freq.data;
  return p;
}

napi_value model_plan(const Arguments& a) {
  const ek_model_params params = params_of(a);
  ek_model_memory memory{};
  require_ok(ek_model_plan(context(a), &params, &memory));
  napi_value out = nullptr;
  check(napi_create_object(a.env(), &out), "object");
  set_property(a.env(), out, "cacheBytes", make_number(a.env(), static_cast<double>(memory.cache_bytes)));
  set_property(a.env(), out, "workspaceBytes",
               make_number(a.env(), static_cast<double>(memory.workspace_bytes)));
  return out;
}

napi_value model_create(const Arguments& a) {
  const ek_model_params params = params_of(a);
  const std::vector<void*> weights = a.objects(4, "weight"), norms = a.objects(5, "buffer");
  const size_t n = static_cast<size_t>(params.n_layers > 0 ? params.n_layers : 0);
  constexpr size_t kWeights = 14, kVectors = 7; /* of a layer */
  EK_REQUIRE(weights.size() == 2 + kWeights * n && norms.size() == 1 + kVectors * n,
             "modelCreate: %zu layers need %zu weights and %zu vectors, got %zu and %zu", n, 2 + kWeights * n,
             1 + kVectors * n, weights.size(), norms.size());
  const auto weight = [&](size_t i) { return static_cast<const ek_weight*>(weights[i]); };
  const auto norm = [&](size_t i) { return static_cast<const ek_buffer*>(norms[i]); };
  std::vector<ek_model_layer> layers;
  for (size_t layer = 0; layer < n; layer++) {
    const size_t w = 2 + kWeights * layer, f = 1 + kVectors * layer;
    layers.push_back({norm(f),        norm(f + 1),    norm(f + 2),   weight(w),      weight(w + 1),
                      weight(w + 2),  weight(w + 3),  weight(w + 4), weight(w + 5),  weight(w + 6),
                      weight(w + 7),  weight(w + 8),  weight(w + 9), weight(w + 10), weight(w + 11),
                      weight(w + 12), weight(w + 13), norm(f + 3),   norm(f + 4),    norm(f + 5),
                      norm(f + 6)});
  }
  const ek_model_weights all{weight(0), weight(1), norm(0), layers.data()};
  ek_model* made = nullptr;
  require_ok(ek_model_create(context(a), &params, &all, &made));
  return make_handle(a.env(), "model", made);
}

napi_value model_create_random(const Arguments& a) {
  const ek_model_params params = params_of(a);
  ek_model* made = nullptr;
  require_ok(ek_model_create_random(context(a), &params, a.text(4, "types").c_str(),
                                    static_cast<uint32_t>(a.integer(5, "seed")), &made));
  return make_handle(a.env(), "model", made);
}

napi_value model_copy_block(const Arguments& a) {
  return done(a, ek_model_copy_block(context(a), model(a), a.integer(2, "dst"), a.integer(3, "src")));
}

napi_value model_fill_cache(const Arguments& a) {
  return done(a, ek_model_fill_cache(context(a), model(a), a.integer(2, "nTokens"),
                                     static_cast<uint32_t>(a.integer(3, "seed"))));
}

/* Sums of arrays that say how long others are. */
int64_t sum_of(const Array<int32_t>& lengths, const char* name) {
  int64_t sum = 0;
  for (size_t i = 0; i < lengths.length; i++) {
    EK_REQUIRE(lengths.data[i] >= 0, "modelStep: %s %zu is negative", name, i);
    sum += lengths.data[i];
  }
  return sum;
}

napi_value model_step(const Arguments& a) {
  const Array<int32_t> start = a.ints(2, "start"), n_new = a.ints(3, "nNew"),
                       n_blocks = a.ints(4, "nSeqBlocks"), blocks = a.ints(5, "blocks"),
                       tokens = a.ints(6, "tokens");
  const Array<uint8_t> wants = a.octets(7, "wants");
  EK_REQUIRE(start.length == n_new.length && start.length == n_blocks.length && start.length == wants.length,
             "modelStep: start, nNew, nSeqBlocks and wants must be equally long, got %zu, %zu, %zu, %zu",
             start.length, n_new.length, n_blocks.length, wants.length);
  EK_REQUIRE(sum_of(n_blocks, "nSeqBlocks") == static_cast<int64_t>(blocks.length) &&
                 sum_of(n_new, "nNew") == static_cast<int64_t>(tokens.length),
             "modelStep: %zu blocks or %zu tokens are not as many as nSeqBlocks or nNew say", blocks.length,
             tokens.length);
  const Array<int32_t> ids = a.ints(9, "ids");
  const Array<float> log_probs = a.floats(10, "logProbs");
  size_t n_wanted = 0;
  for (size_t i = 0; i < wants.length; i++) n_wanted += wants.data[i];
  EK_REQUIRE(ids.length == n_wanted && log_probs.length == n_wanted,
             "modelStep: %zu ids and %zu logProbs for %zu wanted rows", ids.length, log_probs.length,
             n_wanted);
  const ek_model_step_params step{static_cast<int32_t>(start.length),
                                  start.data,
                                  n_new.data,
                                  n_blocks.data,
                                  blocks.data,
                                  tokens.data,
                                  wants.data,
                                  n_wanted == 0 ? nullptr : ids.data,
                                  n_wanted == 0 ? nullptr : log_probs.data};
  return done(a, ek_model_step(context(a), model(a), &step, a.get<ek_buffer>(8, "buffer")));
}

}  // namespace

const Entry kModelEntries[] = {
    {"modelPlan", 4, model_plan},
    {"modelCreate", 6, model_create},
    {"modelCreateRandom", 6, model_create_random},
    {"modelCopyBlock", 4, model_copy_block},
    {"modelFillCache", 4, model_fill_cache},
    {"modelStep", 11, model_step},
};
const size_t kNModelEntries = sizeof kModelEntries / sizeof kModelEntries[0];

}  // namespace ek::node
