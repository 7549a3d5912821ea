/* A C11 program that knows only the header: every misuse gives a status and a message, and nothing ends the
 * process. */
#include <stdio.h>
#include <string.h>

#include "engine_kernels.h"

static int failures = 0;

static void expect(ek_status got, ek_status wanted, const char* mention, const char* what) {
  const int named = wanted == EK_OK || strstr(ek_last_error(), mention) != NULL;
  if (got == wanted && named) return;
  failures++;
  printf("FAIL %s: status %d, expected %d; message \"%s\", expected to mention \"%s\"\n", what, (int)got,
         (int)wanted, ek_last_error(), mention);
}

#define REFUSED(call, mention) expect((call), EK_ERR_ARG, mention, #call)
#define WORKS(call) expect((call), EK_OK, "", #call)

typedef struct {
  ek_context* ctx;
  ek_buffer *small, *large;
  ek_weight *w, *stack, *router;
} fixture;

static void misuse_contexts(void) {
  ek_context* ctx = NULL;
  REFUSED(ek_context_create(EK_CPU, 0, 1, NULL, NULL), "out is NULL");
  REFUSED(ek_context_create(EK_CPU, 0, -1, NULL, &ctx), "n_threads");
  REFUSED(ek_context_create(EK_CPU, 0, 257, NULL, &ctx), "257");
  REFUSED(ek_context_create(EK_CPU, 1, 1, NULL, &ctx), "ordinal");
  REFUSED(ek_context_create(EK_CPU, 0, 1, "mmx", &ctx), "mmx");
  REFUSED(ek_context_create((ek_device)3, 0, 1, NULL, &ctx), "got 3");
  /* No machine has GPU 4096; without a driver, or without CUDA kernels, the message says that. */
  expect(ek_context_create(EK_CUDA, 4096, 0, NULL, &ctx), EK_ERR_DEVICE, "", "a GPU that is not there");
  if (strlen(ek_last_error()) < 20) failures++;
  ek_context_destroy(NULL);
  if (strcmp(ek_context_describe(NULL), "") != 0 || ek_abi_version() != EK_ABI_VERSION) failures++;
}

static void misuse_buffers(fixture* f) {
  float value = 1;
  ek_buffer* b = NULL;
  REFUSED(ek_buffer_alloc(NULL, 4, &b), "ctx is NULL");
  REFUSED(ek_buffer_alloc(f->ctx, 4, NULL), "out is NULL");
  REFUSED(ek_buffer_alloc(f->ctx, 0, &b), "n_bytes");
  expect(ek_buffer_alloc(f->ctx, SIZE_MAX, &b), EK_ERR_OOM, "memory", "a buffer of all addresses");
  REFUSED(ek_buffer_upload(f->ctx, NULL, 0, &value, 4), "dst is NULL");
  REFUSED(ek_buffer_upload(f->ctx, f->small, 0, NULL, 4), "src is NULL");
  REFUSED(ek_buffer_upload(f->ctx, f->small, 125, &value, 4), "do not fit");
  REFUSED(ek_buffer_upload(f->ctx, f->small, SIZE_MAX, &value, 4), "do not fit");
  REFUSED(ek_buffer_download(f->ctx, &value, f->small, 128, 1), "are not in");
  REFUSED(ek_buffer_download(f->ctx, NULL, f->small, 0, 1), "dst is NULL");
  ek_buffer_free(NULL);
}

static void misuse_weights(fixture* f) {
  static const float data[64];
  ek_weight* w = NULL;
  ek_mapping* m = NULL;
  size_t n = 0;
  REFUSED(ek_weight_create_from_memory(f->ctx, NULL, 4, EK_F32, 1, 1, 1, &w), "NULL");
  REFUSED(ek_weight_create_from_memory(f->ctx, data, 256, (ek_type)5, 1, 1, 1, &w), "5");
  REFUSED(ek_weight_create_from_memory(f->ctx, data, 256, EK_F32, 1, 0, 1, &w), "positive");
  REFUSED(ek_weight_create_from_memory(f->ctx, data, 256, EK_F32, 1, 65, 1, &w), "260");
  REFUSED(ek_weight_create_from_memory(f->ctx, data, 256, EK_F32, 1 << 30, 1 << 30, 1, &w), "needs");
  REFUSED(ek_weight_create_from_memory(f->ctx, data, 256, EK_Q4_0, 1, 1, 33, &w), "multiples of 32");
  REFUSED(ek_weight_create(f->ctx, NULL, 0, EK_F32, 1, 1, 1, &w), "NULL");
  REFUSED(ek_mapping_open("no-such-folder/no-such-file", &m, &n), "no-such-file");
  REFUSED(ek_mapping_open(NULL, &m, &n), "NULL");
  ek_weight_destroy(NULL);
  ek_mapping_close(NULL);
}

static void misuse_ops(fixture* f) {
  const int32_t token = 8, negative = -1, row = 999;
  int32_t id = 0;
  float log_prob = 0;
  REFUSED(ek_embed(f->ctx, f->small, f->w, &token, 1), "token 0 is 8");
  REFUSED(ek_embed(f->ctx, f->small, f->w, &negative, 1), "token 0 is -1");
  REFUSED(ek_embed(f->ctx, f->small, f->w, NULL, 1), "tokens is NULL");
  REFUSED(ek_embed(f->ctx, f->small, f->w, &token, 0), "n_tokens");
  REFUSED(ek_rmsnorm(f->ctx, f->small, f->small, f->small, 3, 16, 1e-6f), "192 bytes");
  REFUSED(ek_rmsnorm(f->ctx, f->small, f->small, NULL, 1, 16, 1e-6f), "weight is NULL");
  REFUSED(ek_linear(f->ctx, f->small, f->large, 0, f->w, NULL, 0, 0), "positive sizes");
  REFUSED(ek_linear(f->ctx, f->small, f->large, -1, f->w, NULL, 1, 0), "positive sizes");
  REFUSED(ek_linear(f->ctx, f->large, f->large, 0, f->w, NULL, 1, 0), "same buffer");
  REFUSED(ek_linear(f->ctx, f->small, f->large, 0, f->stack, NULL, 1, 0), "must be 1 x");
  REFUSED(ek_gather_rows(f->ctx, f->small, f->large, &row, 1, 16), "x needs");
  REFUSED(ek_gather_rows(f->ctx, f->small, f->large, &negative, 1, 16), "positive sizes");
  REFUSED(ek_concat(f->ctx, f->small, f->large, f->small, 1, 16), "same buffer");
  REFUSED(ek_ffn_swiglu(f->ctx, f->small, f->large, f->w, f->w, f->w, 1), "down must be");
  REFUSED(ek_argmax(f->ctx, f->small, 1, 33, &id, &log_prob), "132 bytes");
  REFUSED(ek_argmax(f->ctx, f->small, 1, 32, NULL, &log_prob), "NULL");
  WORKS(ek_argmax(f->ctx, f->small, 1, 32, &id, &log_prob));
}

static void misuse_moe(fixture* f) {
  ek_moe_params p = {f->router, f->small, f->stack, f->stack, f->stack, NULL, NULL,
                     NULL,      2,        2,        1,        1,        1,    1.0f};
  WORKS(ek_moe(f->ctx, f->small, f->large, &p, 1));
  REFUSED(ek_moe(f->ctx, f->small, f->large, NULL, 1), "params is NULL");
  p.top_k = 5;
  REFUSED(ek_moe(f->ctx, f->small, f->large, &p, 1), "top_k");
  p.top_k = 0;
  REFUSED(ek_moe(f->ctx, f->small, f->large, &p, 1), "top_k");
  p.top_k = 2;
  p.score_func = 3;
  REFUSED(ek_moe(f->ctx, f->small, f->large, &p, 1), "score_func");
  p.score_func = 1;
  WORKS(ek_moe(f->ctx, f->small, f->large, &p, 1));
  p.n_groups = 3;
  REFUSED(ek_moe(f->ctx, f->small, f->large, &p, 1), "n_groups");
  p.n_groups = 2;
  p.top_groups = 3;
  REFUSED(ek_moe(f->ctx, f->small, f->large, &p, 1), "top_groups");
  p.top_groups = 1;
  p.router = f->w;
  REFUSED(ek_moe(f->ctx, f->small, f->large, &p, 1), "ek_moe");
  p.router = f->router;
  p.router_bias = NULL;
  WORKS(ek_moe(f->ctx, f->small, f->large, &p, 1));
}

static void misuse_caches(fixture* f) {
  ek_kv_params p = {1, 16, 16, 2, 32, 16, EK_F32};
  ek_kv_cache* kv = NULL;
  p.latent_dim = 24;
  REFUSED(ek_kv_create(f->ctx, &p, &kv), "multiple of 16");
  p.latent_dim = 16;
  p.rope_dim = 3;
  REFUSED(ek_kv_create(f->ctx, &p, &kv), "rope_dim");
  p.rope_dim = 16;
  p.type = EK_Q4_0;
  REFUSED(ek_kv_create(f->ctx, &p, &kv), "F16 or F32");
  p.type = EK_F32;
  p.cmp_stride = 24;
  REFUSED(ek_kv_create(f->ctx, &p, &kv), "cmp_stride");
  p.cmp_stride = 16;
  REFUSED(ek_kv_create(f->ctx, NULL, &kv), "NULL");
  WORKS(ek_kv_create(f->ctx, &p, &kv));
  REFUSED(ek_kv_copy_block(f->ctx, kv, 0, 2), "blocks must be");
  REFUSED(ek_kv_copy_block(f->ctx, kv, -1, 0), "blocks must be");
  ek_kv_destroy(kv);
  ek_kv_destroy(NULL);
}

static void misuse_batches(fixture* f) {
  static const float inv_freq[8];
  ek_kv_params kvp = {1, 16, 16, 2, 32, 16, EK_F32};
  ek_nsa_params nsa = {1, 16, 16, 0.2f, 64, 4, 64, 1, 2};
  ek_kv_cache* kv = NULL;
  ek_rope* rope = NULL;
  ek_batch* batch = NULL;
  const int32_t start = 0, n_new = 1, one = 1, none = 0, block = 0, far = 2;
  WORKS(ek_kv_create(f->ctx, &kvp, &kv));
  REFUSED(ek_rope_create(f->ctx, inv_freq, 5, &rope), "even");
  WORKS(ek_rope_create(f->ctx, inv_freq, 16, &rope));
  WORKS(ek_batch_create(f->ctx, &batch));
  REFUSED(ek_mla_store(f->ctx, kv, 0, batch, f->small, f->small, f->large, f->large, 1e-6f), "not set");
  REFUSED(ek_batch_set(f->ctx, batch, rope, 0, &start, &n_new, &one, &block), "n_seqs");
  REFUSED(ek_batch_set(f->ctx, batch, rope, 1, &start, &n_new, &none, &block), "needs 1 blocks");
  REFUSED(ek_batch_set(f->ctx, batch, rope, 1, &start, &none, &one, &block), "at least 1");
  REFUSED(ek_batch_set(f->ctx, batch, rope, 1, NULL, &n_new, &one, &block), "NULL");
  WORKS(ek_batch_set(f->ctx, batch, rope, 1, &start, &n_new, &one, &far));
  REFUSED(ek_mla_store(f->ctx, kv, 0, batch, f->small, f->small, f->large, f->large, 1e-6f), "block id 2");
  WORKS(ek_batch_set(f->ctx, batch, rope, 1, &start, &n_new, &one, &block));
  REFUSED(ek_mla_store(f->ctx, kv, 1, batch, f->small, f->small, f->large, f->large, 1e-6f), "layer");
  WORKS(ek_mla_store(f->ctx, kv, 0, batch, f->small, f->small, f->large, f->large, 1e-6f));
  nsa.v_dim = 24;
  REFUSED(ek_nsa_attention(f->ctx, f->small, f->large, f->large, kv, 0, batch, f->w, &nsa), "multiple of 16");
  nsa.v_dim = 16;
  REFUSED(ek_nsa_attention(f->ctx, f->small, f->large, f->large, kv, 0, batch, f->w, &nsa), "kv_b");
  REFUSED(ek_nsa_attention(f->ctx, f->small, f->large, f->large, kv, 0, batch, f->w, NULL), "params");
  ek_mla_params mla = {1, 16, 24, 1.0f};
  REFUSED(ek_mla_attention(f->ctx, f->small, f->large, kv, 0, batch, f->w, &mla), "multiple of 16");
  mla.v_dim = 16;
  REFUSED(ek_mla_attention(f->ctx, f->small, f->large, kv, 0, batch, f->w, &mla), "kv_b");
  REFUSED(ek_mla_attention(f->ctx, f->large, f->large, kv, 0, batch, f->w, &mla), "same buffer");
  REFUSED(ek_mla_attention(f->ctx, f->small, f->large, kv, 0, batch, f->w, NULL), "params");
  ek_batch_destroy(batch);
  ek_rope_destroy(rope);
  ek_kv_destroy(kv);
}

static ek_model_params lite_params(const float* inv_freq) {
  const ek_model_params p = {.n_layers = 2,
                             .n_dense = 1,
                             .hidden = 256,
                             .vocab = 320,
                             .n_heads = 16,
                             .nope_dim = 128,
                             .rope_dim = 64,
                             .v_dim = 128,
                             .latent_dim = 512,
                             .dense_ff = 320,
                             .n_experts = 8,
                             .top_k = 3,
                             .ff = 128,
                             .shared_ff = 256,
                             .score_func = 1,
                             .n_groups = 1,
                             .top_groups = 1,
                             .scale = 1,
                             .eps = 1e-6f,
                             .softmax_scale = 0.1f,
                             .inv_freq = inv_freq,
                             .n_blocks = 4,
                             .chunk = 64};
  return p;
}

/* The CPU has no fused kernels, and says so after the arguments are looked at. */
static void misuse_models(fixture* f) {
  static const float inv_freq[32];
  ek_model_params p = lite_params(inv_freq), wrong = p;
  ek_model_memory memory;
  ek_model* model = NULL;
  size_t free_bytes = 1, total_bytes = 1;
  double rate = 0;
  REFUSED(ek_model_plan(f->ctx, NULL, &memory), "params is NULL");
  REFUSED(ek_model_plan(f->ctx, &p, NULL), "out is NULL");
  wrong.inv_freq = NULL;
  REFUSED(ek_model_plan(f->ctx, &wrong, &memory), "inv_freq");
  wrong = p;
  wrong.top_k = 9;
  REFUSED(ek_model_plan(f->ctx, &wrong, &memory), "9 of 8 experts");
  wrong = p;
  wrong.n_dense = 3;
  REFUSED(ek_model_plan(f->ctx, &wrong, &memory), "of which 3 are dense");
  wrong = p;
  wrong.chunk = 0;
  REFUSED(ek_model_plan(f->ctx, &wrong, &memory), "chunk 0");
  REFUSED(ek_model_plan(f->ctx, &p, &memory), "ops alone");
  REFUSED(ek_model_create(f->ctx, &p, NULL, &model), "ops alone");
  REFUSED(ek_model_create_random(f->ctx, &p, NULL, 1, &model), "types");
  REFUSED(ek_model_create_random(f->ctx, &p, "bf16", 1, &model), "ops alone");
  REFUSED(ek_model_step(f->ctx, NULL, NULL, NULL), "model is NULL");
  REFUSED(ek_model_copy_block(f->ctx, NULL, 0, 0), "model is NULL");
  REFUSED(ek_model_fill_cache(f->ctx, NULL, 1, 1), "model is NULL");
  REFUSED(ek_measure_matrix_rate(f->ctx, &rate), "matrix units");
  ek_attention_times times;
  REFUSED(ek_measure_attention(f->ctx, 64, 1, 1, &times), "no kernels");
  REFUSED(ek_measure_attention(f->ctx, 64, 1, 1, NULL), "output is NULL");
  REFUSED(ek_device_memory(f->ctx, NULL, &total_bytes), "NULL");
  WORKS(ek_device_memory(f->ctx, &free_bytes, &total_bytes));
  if (free_bytes != 0 || total_bytes != 0) failures++;
  ek_model_destroy(NULL);
}

int main(void) {
  static const float data[4096];
  fixture f = {NULL, NULL, NULL, NULL, NULL, NULL};
  misuse_contexts();
  WORKS(ek_context_create(EK_CPU, 0, 2, NULL, &f.ctx));
  WORKS(ek_buffer_alloc(f.ctx, 128, &f.small));
  WORKS(ek_buffer_alloc(f.ctx, sizeof data, &f.large));
  WORKS(ek_buffer_upload(f.ctx, f.small, 0, data, 128));
  WORKS(ek_buffer_upload(f.ctx, f.large, 0, data, sizeof data));
  WORKS(ek_weight_create_from_memory(f.ctx, data, sizeof data, EK_F32, 1, 8, 16, &f.w));
  WORKS(ek_weight_create_from_memory(f.ctx, data, sizeof data, EK_F32, 4, 16, 16, &f.stack));
  WORKS(ek_weight_create_from_memory(f.ctx, data, sizeof data, EK_F32, 1, 4, 16, &f.router));
  if (failures == 0) {
    misuse_buffers(&f);
    misuse_weights(&f);
    misuse_ops(&f);
    misuse_moe(&f);
    misuse_caches(&f);
    misuse_batches(&f);
    misuse_models(&f);
  }
  ek_weight_destroy(f.router);
  ek_weight_destroy(f.stack);
  ek_weight_destroy(f.w);
  ek_buffer_free(f.large);
  ek_buffer_free(f.small);
  ek_context_destroy(f.ctx);
  return failures == 0 ? 0 : 1;
}
