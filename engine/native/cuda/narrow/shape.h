/* The shape and the weights of a narrow model: all that kernels and their launchers need of narrow.h, and
 * read in a fraction of the time. */
#ifndef EK_CUDA_NARROW_SHAPE_H
#define EK_CUDA_NARROW_SHAPE_H
#include <vector>

#include "../device/device.h"
#include "../device/kv.h"
#include "../weights/planes.h"

namespace ek::cuda::narrow {

constexpr int kLatent = 128, kRope = 32, kNope = 32, kValue = 64;
constexpr int kWidth = kLatent + kRope; /* of a query and of a pooled key */
constexpr int kMostHeads = 8, kMostExperts = 32;
constexpr int kPoolLength = 32, kPoolStride = 16;

struct Shape {
  int32_t n_layers, n_dense; /* the first n_dense layers have a dense feed-forward */
  int32_t hidden, vocab, n_heads, dense_ff;
  int32_t n_experts, top_k, ff, shared_ff;
  bool normalize;
  float scale, eps, softmax_scale;
  int32_t n_blocks; /* cache capacity, blocks of 64 tokens */
  int32_t select_n, window, init_blocks, local_blocks;

  /* Blocks that overlap the window of any token. */
  EK_HD int32_t most_window() const { return (window - 2 + EK_KV_BLOCK) / EK_KV_BLOCK + 1; }
  /* Blocks that a token attends to, at most: selected ones and those of its window. */
  EK_HD int32_t most_union() const {
    const int32_t most = select_n + most_window();
    return most < n_blocks ? most : n_blocks;
  }
  EK_HD int32_t q_width() const { return n_heads * (kNope + kRope); }
};

struct Layer {
  const float *attn_norm, *kv_norm, *ffn_norm;
  WeightView q;                      /* (heads * (nope + rope), hidden) */
  WeightView kv_a;                   /* (latent + rope, hidden) */
  WeightView kv_b;                   /* per head W_UK (nope, latent), then W_UV (value, latent) */
  WeightView out;                    /* (hidden, heads * value) */
  WeightView attn_gate;              /* (heads * 3, hidden) f32 */
  const float* attn_gate_bias;       /* (heads * 3) */
  const float *cmp_k, *cmp_v;        /* (32, latent + rope), (32, latent) */
  WeightView router;                 /* (n_experts, hidden) f32; its data is null in a dense layer */
  const float* router_bias;          /* (n_experts) or null */
  WeightView gate, up, down;         /* n_experts x ...; none in a dense layer */
  WeightView shared_gate, shared_up; /* the dense feed-forward in a dense layer */
  WeightView shared_down;

  EK_HD bool is_dense() const { return router.data == nullptr; }
};

struct Weights {
  std::vector<Layer> layers;
  WeightView embedding, head; /* (vocab, hidden) */
  const float* norm;
  double step_bytes; /* that one token reads, without the cache */
};

/* The likeliest token and its natural-log probability. */
struct Choice {
  int32_t id;
  float log_prob;
};

}  // namespace ek::cuda::narrow
#endif
