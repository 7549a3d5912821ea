/* Launchers of the ops, in the order of core/backend.h. Conventions: device/device.h. */
#ifndef EK_CUDA_OPS_OPS_H
#define EK_CUDA_OPS_OPS_H
#include "../device/device.h"
#include "../device/kv.h"
#include "../device/launch.h"
#include "../weights/planes.h"

namespace ek::cuda {

/* out (n_tokens, dim) = rows `tokens` (device) of table. */
void embed(Device& d, float* out, const WeightView& table, const int32_t* tokens, int32_t n_tokens);
void rmsnorm(Device& d, float* out, const float* x, const float* weight, int32_t n_rows, int32_t dim,
             float eps);
void gather_rows(Device& d, float* out, const float* x, const int32_t* rows, int32_t n_rows, int32_t dim);
/* out[r,:] = [a[r,:] ; b[r,:]] */
void concat(Device& d, float* out, const float* a, const float* b, int32_t n_rows, int32_t dim);

struct LinearOp {
  float* out;     /* (n_rows, w.n_rows) */
  const float* x; /* (n_rows, w.n_cols) */
  WeightView w;
  const float* bias; /* (w.n_rows) or null */
  int32_t n_rows;
  bool accumulate;
};
void linear(Device& d, const LinearOp& op);

/* A matrix product per pair: row `pair` of out (n_pairs, w.n_rows) = matrix experts[pair] of w times row
 * pair / x_per of x. experts null: matrix 0 for all. */
struct PairLinearOp {
  float* out;
  const float* x;
  WeightView w;
  const int32_t* experts;
  int32_t n_pairs, x_per;
};
void pair_linear(Device& d, const PairLinearOp& op);

/* Row `pair` of h (n_pairs, gate.n_rows) = silu(gate x) * up x, otherwise as PairLinearOp. */
struct PairGatedOp {
  float* h;
  const float* x;
  WeightView gate, up;
  const int32_t* experts;
  int32_t n_pairs, x_per;
};
void pair_gated(Device& d, const PairGatedOp& op);

/* h = silu(h) * up, n numbers. */
void silu_mul(Device& d, float* h, const float* up, int64_t n);

struct RouteOp {
  int32_t* experts;    /* (n_rows, top_k) */
  float* weights;      /* (n_rows, top_k) */
  const float* logits; /* (n_rows, n_experts) */
  const float* bias;   /* (n_experts) or null */
  int32_t n_rows, n_experts, top_k;
  int32_t score_func, n_groups, top_groups; /* as ek_moe_params */
  bool normalize;
  float scale;
};
/* Chooses by score + bias, ties to the lowest index; weights are the scores of the chosen. */
void route(Device& d, const RouteOp& op);

/* out[r,:] += sum over k of weights[r,k] * y[r * top_k + k,:], in that order. */
void add_pairs(Device& d, float* out, const float* y, const float* weights, int32_t n_rows, int32_t top_k,
               int32_t dim);

/* out += down(silu(gate x) * up x). Resets the scratch memory. */
struct FeedForwardOp {
  float* out;
  const float* x;
  WeightView gate, up, down;
  int32_t n_rows;
};
void feed_forward(Device& d, const FeedForwardOp& op);

/* As in ek_moe_params. */
struct Routing {
  int32_t top_k, score_func, n_groups, top_groups;
  bool normalize;
  float scale;
};
/* out += the chosen experts of x, without shared ones. Resets the scratch memory. */
struct ExpertsOp {
  float* out;
  const float* x;
  WeightView router;
  const float* router_bias; /* (n_experts) or null */
  WeightView gate, up, down;
  Routing how;
  int32_t n_rows;
};
void experts(Device& d, const ExpertsOp& op);

struct StoreOp {
  KvView kv;
  int32_t layer;
  BatchView batch;
  const float *kv_a, *norm, *cmp_k, *cmp_v; /* as StoreArgs */
  float eps;
};
void mla_store(Device& d, const StoreOp& op);

struct AttentionOp {
  float* out;
  const float *q, *gates; /* gates null: every block is selected, and nothing else is added */
  KvView kv;
  int32_t layer;
  BatchView batch;
  WeightView kv_b;
  ek_nsa_params nsa;
};
void nsa_attention(Device& d, const AttentionOp& op);

/* ids, log_probs: (n_rows), device. Takes from the scratch memory. */
void argmax(Device& d, const float* logits, int32_t n_rows, int32_t vocab, int32_t* ids, float* log_probs);

/* Best of several rounds: bytes read plus written per second of a copy, and f32 multiply-adds (2 each). */
void measure_limits(Device& d, size_t n_bytes, double* gb_per_s, double* gflop_per_s);
/* TFLOP/s of bf16 products with f32 sums, the better of those of warps (mma.sync, operands in registers) and,
 * where the GPU has them, of groups of warps (wgmma, the right matrix in shared memory). */
double measure_matrix_rate(Device& d);

}  // namespace ek::cuda
#endif
