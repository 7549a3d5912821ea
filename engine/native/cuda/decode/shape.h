/* The shape and the weights of a model of DeepSeek-Coder-V2-Lite's architecture: all that kernels and their
 * launchers need of lite.h, and read in a fraction of the time. */
#ifndef EK_CUDA_DECODE_SHAPE_H
#define EK_CUDA_DECODE_SHAPE_H
#include "../device/device.h"
#include "../weights/planes.h"

namespace ek::cuda {

constexpr int kHeads = 16; /* the rows of one matrix-multiply tile */
constexpr int kLatent = 512;
constexpr int kRope = 64;
constexpr int kRow = kLatent + kRope; /* elements of a cache row */
constexpr int kNope = 128;
constexpr int kValue = 128;
constexpr int kPoolStride = 16;         /* tokens per pooled row */
constexpr int kMostTokens = EK_DECODED; /* of a step */
/* Tokens of a prompt that share a selection, from a multiple of this on: that of the first. */
constexpr int kTileQueries = 128;

/* How cache rows lie: as bf16 (1152 bytes); or the latents as e4m3, a scale of f32 (a power of two) for each
 * 128 of them, and the rotated part as bf16 (512 + 16 + 128 = 656 bytes). Pooled rows are bf16 in any case.
 */
enum class RowFormat : int32_t { kBf16, kFp8 };
constexpr int kScaledLatents = 128; /* that share a scale */
constexpr int kScales = kLatent / kScaledLatents;

/* Bytes before the rotated part of a row, and of all of it. */
EK_HD constexpr int rope_offset(RowFormat f) {
  return f == RowFormat::kFp8 ? kLatent + kScales * 4 : kLatent * 2;
}
EK_HD constexpr int cache_row_bytes(RowFormat f) { return rope_offset(f) + kRope * 2; }

struct LiteShape {
  int32_t n_layers, n_dense; /* the first n_dense layers have a dense feed-forward */
  int32_t hidden, dense_ff, n_experts, top_k, ff, shared_ff, vocab;
  float eps, softmax_scale;
  int32_t n_blocks; /* cache capacity, blocks of 64 tokens */
  /* Sparse attention: dense up to dense_len tokens and in the first dense_layers layers; else block 0, the
   * last `local` blocks and the `top` best of the others. */
  int32_t dense_len, dense_layers, local, top;
  RowFormat rows;

  /* Blocks that a token attends to where attention is sparse; fewer while there are fewer. */
  EK_HD int32_t most_listed() const { return 1 + local + top; }
};

/* DeepSeek-Coder-V2-Lite with a cache for n_tokens. */
LiteShape lite_shape(int32_t n_tokens);

/* Types of the weights by role. */
struct LiteTypes {
  ek_type main;           /* attn_q, kv_a, attn_output, gate and up of every feed-forward */
  ek_type absorbed;       /* the two halves of kv_b, per head */
  ek_type down[2];        /* of the experts and the dense layers: odd and even layers */
  ek_type shared_down[2]; /* of the shared experts */
  ek_type head, embedding;
};

struct LiteLayer {
  const float *attn_norm, *kv_norm, *ffn_norm;
  WeightView q;                                   /* (heads * (nope + rope), hidden) */
  WeightView kv_a;                                /* (latent + rope, hidden) */
  WeightView k_b;                                 /* W_UK: heads x (nope, latent), or (latent, nope) */
  WeightView v_b;                                 /* heads x (value, latent) */
  WeightView out;                                 /* (hidden, heads * value) */
  WeightView gate, up, down;                      /* n_experts x …; none in a dense layer */
  WeightView shared_gate, shared_up, shared_down; /* the dense feed-forward in a dense layer */
  const float* router;                            /* (n_experts, hidden); null in a dense layer */
};

/* Whether W_UK lies as (latent, nope): rows are sums over a head, as of every other matrix. */
inline bool is_transposed(const WeightView& k_b) { return k_b.n_rows == kLatent; }

struct LiteWeights {
  std::vector<LiteLayer> layers;
  WeightView embedding, head; /* (vocab, hidden) */
  const float* norm;
  std::vector<DeviceMemory> memory;
  double step_bytes; /* that one token reads, without the cache */
};

}  // namespace ek::cuda
#endif
