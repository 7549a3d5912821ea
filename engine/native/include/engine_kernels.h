/* The one boundary between TypeScript orchestration and numeric code.
 * C only: no C++, CUDA or N-API type may appear here.
 *
 * Every op exists in each backend (reference: naive double; cpu; cuda) behind this header.
 * Shapes are (rows, columns), row-major. Activations are f32. Ops run in call order on the context;
 * a context is used by one thread at a time. Formulas: docs/model.md. */
#ifndef ENGINE_KERNELS_H
#define ENGINE_KERNELS_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define EK_ABI_VERSION 6

typedef enum { EK_OK = 0, EK_ERR_ARG = 1, EK_ERR_OOM = 2, EK_ERR_DEVICE = 3, EK_ERR_INTERNAL = 4 } ek_status;
typedef enum { EK_CPU = 0, EK_CUDA = 1, EK_REFERENCE = 2 } ek_device;
/* Numbers are GGUF's tensor types; GGUF has none of fp8. */
typedef enum {
  EK_F32 = 0,
  EK_F16 = 1,
  EK_Q4_0 = 2,
  EK_Q5_0 = 6,
  EK_Q8_0 = 8,
  EK_Q4_K = 12,
  EK_Q5_K = 13,
  EK_Q6_K = 14,
  EK_BF16 = 30,
  EK_FP8_E4M3 = 1000 /* with a scale of f32 for each 128 x 128; of random models only (docs/kernels.md) */
} ek_type;

typedef struct ek_context ek_context; /* owns a device, its threads or stream, and its scratch memory */
typedef struct ek_buffer ek_buffer;   /* device memory; freed only by ek_buffer_free */
typedef struct ek_mapping ek_mapping; /* a file mapped read-only */
typedef struct ek_weight ek_weight; /* a matrix, or a stack of equal matrices, in the backend's own layout */
typedef struct ek_rope ek_rope;     /* rotary frequencies */
typedef struct ek_kv_cache ek_kv_cache; /* paged latent rows and pooled rows of all layers */
typedef struct ek_batch ek_batch;       /* which tokens of which sequences a step computes */
typedef struct ek_model ek_model;       /* a whole model whose step is one call, with a cache of its own */

uint32_t ek_abi_version(void);
const char* ek_last_error(void); /* message of this thread's last failed call */

/* n_threads 0: all physical cores. isa NULL: the best the machine has; "scalar", "avx2", "avx512", "neon":
 * force one (tests). */
ek_status ek_context_create(ek_device device, int32_t ordinal, int32_t n_threads, const char* isa,
                            ek_context** out);
void ek_context_destroy(ek_context* ctx);
const char* ek_context_describe(ek_context* ctx); /* one line: device, instruction set, threads */
/* Bytes of the device's own memory: free now, and all. Both 0 where ops work in the machine's memory. */
ek_status ek_device_memory(ek_context* ctx, size_t* free_bytes, size_t* total_bytes);

ek_status ek_buffer_alloc(ek_context* ctx, size_t n_bytes, ek_buffer** out);
void ek_buffer_free(ek_buffer* buffer);
ek_status ek_buffer_upload(ek_context* ctx, ek_buffer* dst, size_t offset, const void* src, size_t n_bytes);
ek_status ek_buffer_download(ek_context* ctx, void* dst, const ek_buffer* src, size_t offset, size_t n_bytes);

ek_status ek_mapping_open(const char* path, ek_mapping** out, size_t* n_bytes);
void ek_mapping_close(ek_mapping* mapping);

/* n_matrices stacked matrices (n_rows, n_cols) of `type`, read from the mapping at `offset`, repacked, values
 * unchanged. */
ek_status ek_weight_create(ek_context* ctx, const ek_mapping* mapping, size_t offset, ek_type type,
                           int32_t n_matrices, int32_t n_rows, int32_t n_cols, ek_weight** out);
ek_status ek_weight_create_from_memory(ek_context* ctx, const void* data, size_t n_bytes, ek_type type,
                                       int32_t n_matrices, int32_t n_rows, int32_t n_cols, ek_weight** out);
void ek_weight_destroy(ek_weight* weight);

/* inv_freq (dim / 2): angle per position of each interleaved pair. */
ek_status ek_rope_create(ek_context* ctx, const float* inv_freq, int32_t dim, ek_rope** out);
void ek_rope_destroy(ek_rope* rope);

typedef struct {
  int32_t n_layers;
  int32_t latent_dim; /* c, a multiple of 16 */
  int32_t rope_dim;   /* k */
  int32_t n_blocks;   /* capacity in blocks of EK_KV_BLOCK tokens; pages are touched on first use only */
  int32_t cmp_len;    /* NSA l; 0: no pooled rows */
  int32_t cmp_stride; /* NSA d, divides EK_KV_BLOCK */
  ek_type type;       /* EK_F16, or EK_F32 for exact tests */
} ek_kv_params;
#define EK_KV_BLOCK 64
/* A row is [c | rotated k | k]. Pooled row i (tokens d*i .. d*i + l - 1) lives in the block that holds its
 * LAST token, so a shared block never depends on what follows it. */
ek_status ek_kv_create(ek_context* ctx, const ek_kv_params* params, ek_kv_cache** out);
void ek_kv_destroy(ek_kv_cache* kv);
ek_status ek_kv_copy_block(ek_context* ctx, ek_kv_cache* kv, int32_t dst_block, int32_t src_block);
size_t ek_kv_bytes(const ek_kv_cache* kv); /* reserved bytes of all blocks */

/* A step: n_seqs sequences; sequence s adds n_new[s] tokens at positions start[s] .. start[s] + n_new[s] - 1.
 * blocks: concatenated block ids, n_seq_blocks[s] of sequence s, covering all its tokens up to the new ones.
 * Rows of all activations are the new tokens of all sequences, in order. */
ek_status ek_batch_create(ek_context* ctx, ek_batch** out);
void ek_batch_destroy(ek_batch* batch);
ek_status ek_batch_set(ek_context* ctx, ek_batch* batch, const ek_rope* rope, int32_t n_seqs,
                       const int32_t* start, const int32_t* n_new, const int32_t* n_seq_blocks,
                       const int32_t* blocks);

/* ---- ops ---- */

/* out (n_tokens, dim) = rows `tokens` of table (vocab, dim) */
ek_status ek_embed(ek_context* ctx, ek_buffer* out, const ek_weight* table, const int32_t* tokens,
                   int32_t n_tokens);

/* out[r,:] = x[r,:] / rms(x[r,:]) * weight[:]   x, out: (n_rows, dim); weight: (dim) f32 */
ek_status ek_rmsnorm(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const ek_buffer* weight,
                     int32_t n_rows, int32_t dim, float eps);

/* out (n_rows, w.n_rows) = x (n_rows, w.n_cols) W^T (+ bias) (+ out when accumulate). bias (w.n_rows) f32 or
 * NULL. Reads x from row `x_row` on. */
ek_status ek_linear(ek_context* ctx, ek_buffer* out, const ek_buffer* x, int32_t x_row, const ek_weight* w,
                    const ek_buffer* bias, int32_t n_rows, int32_t accumulate);

/* out[i,:] = x[rows[i],:]   x (*, dim) */
ek_status ek_gather_rows(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const int32_t* rows,
                         int32_t n_rows, int32_t dim);

/* out[r,:] = [a[r,:] ; b[r,:]]   a, b (n_rows, dim); out (n_rows, 2 dim) */
ek_status ek_concat(ek_context* ctx, ek_buffer* out, const ek_buffer* a, const ek_buffer* b, int32_t n_rows,
                    int32_t dim);

/* out += down(silu(gate x) * up x)   x, out (n_rows, dim) */
ek_status ek_ffn_swiglu(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const ek_weight* gate,
                        const ek_weight* up, const ek_weight* down, int32_t n_rows);

typedef struct {
  const ek_weight* router;      /* (n_experts, dim) f32 */
  const ek_buffer* router_bias; /* (n_experts) f32: only for choosing; or NULL */
  const ek_weight* gate;        /* n_experts x (ff, dim) */
  const ek_weight* up;          /* n_experts x (ff, dim) */
  const ek_weight* down;        /* n_experts x (dim, ff) */
  const ek_weight* shared_gate; /* (ff_shared, dim) or NULL */
  const ek_weight* shared_up;
  const ek_weight* shared_down; /* (dim, ff_shared) */
  int32_t top_k;
  int32_t score_func; /* 1: softmax over all experts; 2: sigmoid */
  /* Experts are chosen from the top_groups best of n_groups equal groups; 1 and 1: from all. A group counts
   * as much as its best expert with softmax (DeepSeek-V2), as its two best together with sigmoid
   * (DeepSeek-V3). */
  int32_t n_groups, top_groups;
  int32_t normalize; /* weights of the chosen experts sum to 1 before the scale */
  float scale;
} ek_moe_params;
/* out += routed and shared experts of x   x, out (n_rows, dim) */
ek_status ek_moe(ek_context* ctx, ek_buffer* out, const ek_buffer* x, const ek_moe_params* params,
                 int32_t n_rows);

typedef struct {
  int32_t n_heads;
  int32_t nope_dim; /* plain part of a query and key head; the rotary part follows it */
  int32_t v_dim;
  float softmax_scale;
  int32_t select_block; /* l' = EK_KV_BLOCK */
  int32_t select_n;
  int32_t window;
  int32_t init_blocks;
  int32_t local_blocks;
} ek_nsa_params;

/* Writes the cache rows of the batch's tokens, and the pooled rows that they complete.
 * kv_a (n_tokens, latent + rope): the projection's output; norm (latent) f32;
 * cmp_k (cmp_len, latent + rope) f32, cmp_v (cmp_len, latent) f32. */
ek_status ek_mla_store(ek_context* ctx, ek_kv_cache* kv, int32_t layer, const ek_batch* batch,
                       const ek_buffer* kv_a, const ek_buffer* norm, const ek_buffer* cmp_k,
                       const ek_buffer* cmp_v, float eps);

/* out (n_tokens, n_heads * v_dim): gated sum of the three branches, before the output projection.
 * q (n_tokens, n_heads * (nope + rope)) not yet rotated; gates (n_tokens, n_heads * 3) before the sigmoid;
 * kv_b: one matrix (n_heads * (nope + v), latent). The batch's rows must have been stored in this layer.
 * The result of a token does not depend on how its prompt was cut into steps, within rounding. */
ek_status ek_nsa_attention(ek_context* ctx, ek_buffer* out, const ek_buffer* q, const ek_buffer* gates,
                           const ek_kv_cache* kv, int32_t layer, const ek_batch* batch, const ek_weight* kv_b,
                           const ek_nsa_params* params);

typedef struct {
  int32_t n_heads;
  int32_t nope_dim; /* plain part of a query and key head; the rotary part follows it */
  int32_t v_dim;
  float softmax_scale;
} ek_mla_params;
/* As ek_nsa_attention with one branch, which attends to every token up to the query's own (DeepSeek-V2's
 * MLA). The cache needs no pooled rows. */
ek_status ek_mla_attention(ek_context* ctx, ek_buffer* out, const ek_buffer* q, const ek_kv_cache* kv,
                           int32_t layer, const ek_batch* batch, const ek_weight* kv_b,
                           const ek_mla_params* params);

/* For each row of logits (n_rows, vocab): index of the largest (ties: lowest) and its log-probability.
 * A NaN is never chosen, but makes the log-probability NaN; a row of nothing but NaN gives index 0. */
ek_status ek_argmax(ek_context* ctx, const ek_buffer* logits, int32_t n_rows, int32_t vocab, int32_t* ids,
                    float* log_probs);

/* ---- whole models ----
 * Where a device has fused kernels for a kind of model, a step is one call instead of hundreds of ops. Today:
 * EK_CUDA, and models of DeepSeek-Coder-V2-Lite's kind and of tidepool-mini's (docs/kernels.md). Every call
 * answers EK_ERR_ARG, and says what was expected and what was found, where a device, a shape or a type has no
 * such kernels; the ops above are then the way. */

/* Native sparse attention, as in ek_kv_params and ek_nsa_params; cmp_len 0: none. */
typedef struct {
  int32_t cmp_len, cmp_stride;
  int32_t select_n, window, init_blocks, local_blocks;
} ek_model_sparse;

typedef struct {
  int32_t n_layers, n_dense; /* the first n_dense layers have a dense feed-forward */
  int32_t hidden, vocab;
  /* 16, 128, 64, 128, 512; with native sparse attention up to 8, 32, 32, 64, 128 */
  int32_t n_heads, nope_dim, rope_dim, v_dim, latent_dim;
  int32_t dense_ff;
  int32_t n_experts, top_k, ff, shared_ff; /* of one expert; of the shared ones together */
  /* As in ek_moe_params. Softmax over all experts, not normalised and not scaled, has kernels, and with
   * native sparse attention sigmoid over all experts. */
  int32_t score_func, n_groups, top_groups, normalize;
  float scale;
  float eps, softmax_scale;
  const float* inv_freq; /* (rope_dim / 2) angle per position; read during the call only */
  int32_t n_blocks;      /* capacity of the cache, blocks of EK_KV_BLOCK tokens */
  int32_t chunk;         /* tokens that are read at once; longer parts of a step are cut */
  ek_model_sparse sparse;
  /* 0: cache rows of bf16. Otherwise rows of 656 bytes: 512 latents of e4m3, a scale of f32 for each 128 of
   * them (a power of two), and the rotated part as bf16. */
  int32_t fp8_cache;
} ek_model_params;

typedef struct {
  size_t cache_bytes;     /* of all blocks */
  size_t workspace_bytes; /* of a step, at most */
} ek_model_memory;
/* What a model will take beside its weights, before anything is loaded. */
ek_status ek_model_plan(ek_context* ctx, const ek_model_params* params, ek_model_memory* out);

typedef struct {
  const ek_buffer *attn_norm, *kv_norm, *ffn_norm; /* (hidden), (latent), (hidden) f32 */
  const ek_weight* q;                              /* (n_heads (nope + rope), hidden) */
  const ek_weight* kv_a;                           /* (latent + rope, hidden) */
  const ek_weight* k_b;    /* W_UK: n_heads x (nope, latent), or transposed n_heads x (latent, nope) */
  const ek_weight* v_b;    /* W_UV: n_heads x (v, latent) */
  const ek_weight* out;    /* (hidden, n_heads v) */
  const ek_weight* router; /* (n_experts, hidden) f32; NULL in a dense layer, as are gate, up and down */
  const ek_weight *gate, *up, *down;                      /* n_experts x (ff, hidden), …, (hidden, ff) */
  const ek_weight *shared_gate, *shared_up, *shared_down; /* in a dense layer its dense feed-forward */
  /* With native sparse attention; NULL without. */
  const ek_weight* kv_b;           /* one matrix as in ek_nsa_attention; k_b and v_b are NULL then */
  const ek_weight* attn_gate;      /* (n_heads 3, hidden) f32 */
  const ek_buffer* attn_gate_bias; /* (n_heads 3) f32 */
  const ek_buffer *cmp_k, *cmp_v;  /* as in ek_mla_store */
  const ek_buffer* router_bias;    /* (n_experts) f32, as in ek_moe_params; or NULL */
} ek_model_layer;

typedef struct {
  const ek_weight *embedding, *head; /* (vocab, hidden); may be the same */
  const ek_buffer* norm;             /* (hidden) f32 */
  const ek_model_layer* layers;      /* (n_layers); read during the call only */
} ek_model_weights;
/* The weights must outlive the model. */
ek_status ek_model_create(ek_context* ctx, const ek_model_params* params, const ek_model_weights* weights,
                          ek_model** out);
/* The same with random weights made on the device, for measurements. types: "q4_k_m", "q8_0", "fp8" or
 * "bf16". */
ek_status ek_model_create_random(ek_context* ctx, const ek_model_params* params, const char* types,
                                 uint32_t seed, ek_model** out);
void ek_model_destroy(ek_model* model);
ek_status ek_model_copy_block(ek_context* ctx, ek_model* model, int32_t dst_block, int32_t src_block);

/* Sequences as in ek_batch_set. tokens: the new ones of all sequences, in order. wants[s], at most n_new[s]:
 * behind how many of its last tokens the logits are wanted; they become the next rows of logits (n_wanted,
 * vocab); NULL when none is. ids and log_probs (n_wanted): as of ek_argmax of these rows, without another
 * wait for the device; NULL when nobody asks. Parts of at most EK_DECODED tokens are decoded, with exact
 * weights, and so are the last wants[s] tokens of a longer part if that is more than one: together, with
 * native sparse attention one after the other. What is before them is read by other kernels, which without
 * native sparse attention round weights to bf16. Within each way, what a token's row is depends on nothing
 * but the tokens before it. Returns when the step is done; after a failure the rows of its new tokens are
 * undefined, and all others as before. */
#define EK_DECODED 8
typedef struct {
  int32_t n_seqs;
  const int32_t *start, *n_new, *n_seq_blocks, *blocks, *tokens;
  const uint8_t* wants;
  int32_t* ids;
  float* log_probs;
} ek_model_step_params;
ek_status ek_model_step(ek_context* ctx, ek_model* model, const ek_model_step_params* step,
                        ek_buffer* logits);
/* As after ek_model_step of positions 0 to n_tokens - 1 in blocks 0, 1, …, with random rows; for
 * measurements. */
ek_status ek_model_fill_cache(ek_context* ctx, ek_model* model, int32_t n_tokens, uint32_t seed);

/* ---- measurement ---- */

typedef struct {
  const char* op; /* static string */
  uint64_t n_calls;
  double ns, bytes, flops; /* bytes: weights and cache rows read; flops: multiply-adds count 2 */
} ek_op_profile;
/* Counts since the last reset; profiling is off until the first reset. Returns the number of entries written.
 */
void ek_profile_reset(ek_context* ctx);
int32_t ek_profile_read(ek_context* ctx, ek_op_profile* out, int32_t capacity);

/* The machine's own limits with the context's threads: read bandwidth over n_bytes, and f32 multiply-add
 * rate. */
ek_status ek_measure_limits(ek_context* ctx, size_t n_bytes, double* gb_per_s, double* gflop_per_s);
/* Products of bf16 with f32 sums by the device's matrix units; EK_ERR_ARG where ops do not use any. */
ek_status ek_measure_matrix_rate(ek_context* ctx, double* tflop_per_s);

/* Attention alone, one layer of the shape of DeepSeek-Coder-V2-Lite on random data: our best dense kernel,
 * and native sparse attention where every token selects for itself. Bytes are those of cached rows (0 when
 * reading a prompt, which products bound), operations those that the rule asks for. shared: reading a prompt
 * where 128 tokens share what the first of them selects, otherwise 0. */
typedef struct {
  double dense_us, sparse_us, shared_us;
  double dense_bytes, sparse_bytes;
  double dense_flops, sparse_flops, shared_flops;
} ek_attention_times;
/* n_tokens of each sequence, 1 to 2^20; batch: sequences that decode a token each, at most 64, or 0 for one
 * that reads all its tokens. rounds: the best of so many, 1 to see that it works. EK_ERR_ARG where there are
 * no such kernels. */
ek_status ek_measure_attention(ek_context* ctx, int32_t n_tokens, int32_t batch, int32_t rounds,
                               ek_attention_times* out);

#ifdef __cplusplus
}
#endif
#endif
