/* The kernels of a narrow decoder's step and what they pass to each other. */
#ifndef EK_CUDA_NARROW_KERNELS_H
#define EK_CUDA_NARROW_KERNELS_H
#include "../device/launch.h"
#include "shape.h"

namespace ek::cuda::narrow {

constexpr int kTileRows = 32;                /* rows of the cache, or pooled rows, that a block attends to */
constexpr int kThreads = 256;                /* of every kernel but those that say otherwise */
constexpr int kRowsPerBlock = kThreads / 16; /* rows of a weight: 16 lanes have one */
constexpr int kQuarters = 4;                 /* of the latent, that combine shares out */
constexpr int kHeadRows = 32;                /* rows of the vocabulary of a block */

struct StepState {
  int32_t token, position;
};

/* The best of some logits, and the sum of exponentials below it. */
struct Best {
  float value;
  int32_t index; /* -1: nothing but NaN */
  float sum;
};

/* Device memory of a step. */
struct Buffers {
  StepState* state;
  KvView kv;
  int32_t* blocks;       /* (n_blocks): the sequence's block table */
  const float* inv_freq; /* (rope / 2) */
  float2* turn;          /* (rope / 2): cosine and sine at the position */
  float* x;              /* (hidden): the residual */
  float* query;          /* (latent + rope, kMostHeads): absorbed, rotated, scaled; unused heads are 0 */
  float* kv_a;           /* (latent + rope): not yet normed nor rotated */
  float* gates;          /* (heads, 3), behind the sigmoid */
  float* scores;         /* (pooled rows, kMostHeads) */
  /* Per split of the pooled rows, then per branch (selected, window) and split of the attended rows: maximum
   * and sum (splits, kMostHeads), weighted latents (splits, heads, latent). */
  float *pooled_max, *pooled_sum, *pooled_part;
  float *row_max[2], *row_sum[2], *row_part[2];
  float* heads;    /* (kQuarters, heads * value): the share of each quarter of the latent */
  int32_t* chosen; /* (top_k) */
  float* chosen_weight;
  float* hidden; /* (top_k * ff + max(shared_ff, dense_ff)) */
  float* logits; /* (vocab) */
  Best* best;    /* (blocks of the head) */
  Choice* choice;
};

struct Step {
  cudaStream_t stream;
  const Shape& shape;
  const Buffers& b;
  LaunchListener* listener = nullptr;

  /* Launches a kernel that may begin while the one before it runs. */
  template <class... Parameters, class... Args>
  void run(const char* name, const Grid& grid, size_t shared, void (*kernel)(Parameters...),
           Args... args) const {
    launch(stream, name, {grid, kThreads, shared, true}, kernel, args...);
    if (listener != nullptr) listener->launched(name);
  }
};

/* Throws ArgError unless matrices of the type have kernels. */
inline void require_kernels(ek_type type) {
  EK_REQUIRE(type == EK_Q4_0 || type == EK_Q8_0 || type == EK_BF16 || type == EK_F32,
             "the fused kernels of narrow models take Q4_0, Q8_0, BF16 and F32, found type %d",
             static_cast<int>(type));
}

/* Calls body with one of those types as a constant. */
template <class Body>
void for_narrow_type(ek_type type, Body&& body) {
  require_kernels(type);
  if (type == EK_Q4_0) return body.template operator()<EK_Q4_0>();
  if (type == EK_Q8_0) return body.template operator()<EK_Q8_0>();
  if (type == EK_BF16) return body.template operator()<EK_BF16>();
  return body.template operator()<EK_F32>();
}

/* In the order of a step. begin: the embedding of `token` and the state, both from the host. */
void launch_begin(const Step& s, const WeightView& embedding, int32_t token, int32_t position);
void launch_project(const Step& s, const Layer& layer);
void launch_pooled(const Step& s, const Layer& layer, int32_t layer_index, int32_t n_splits);
void launch_attend(const Step& s, int32_t layer_index);
void launch_combine(const Step& s, const Layer& layer, int32_t pooled_splits);
void launch_project_out(const Step& s, const Layer& layer);
void launch_experts_in(const Step& s, const Layer& layer);
void launch_experts_out(const Step& s, const Layer& layer);
void launch_head(const Step& s, const WeightView& head, const float* norm);
/* The choice, and the state and embedding of the step that reads it. */
void launch_next(const Step& s, const WeightView& embedding);

}  // namespace ek::cuda::narrow
#endif
