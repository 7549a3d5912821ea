/* Decoding with a narrow model of tidepool-mini's architecture: native sparse attention over latents of 128,
 * a mixture of experts after dense first layers, a residual of a few hundred numbers.
 *
 * Its weights are read from L2 in a few microseconds, so a step's time is that of its kernels following each
 * other: seven per layer, one CUDA graph for all, every kernel launched while the one before runs. Token,
 * position, block table and experts are read from device memory. Arithmetic is f32, as in ops/. */
#ifndef EK_CUDA_NARROW_NARROW_H
#define EK_CUDA_NARROW_NARROW_H
#include <memory>

#include "shape.h"

namespace ek::cuda::narrow {

/* Throws ArgError, saying what was expected and found, unless the kernels are compiled for the shape, and for
 * the types of every weight. */
void check_shape(const Shape& shape);
void check_types(const Weights& weights);
/* Bytes that a decoder allocates beside its cache. */
size_t workspace_bytes(const Shape& shape);

struct Buffers;

class Decoder {
 public:
  /* kv: the cache, of f16. inv_freq (kRope / 2): angle per position of each pair. Blocks of the cache are
   * those of one sequence, in order, until set_blocks. */
  Decoder(Device& d, const Shape& shape, Weights weights, const KvView& kv,
          const std::vector<float>& inv_freq);
  ~Decoder();
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /* What is decoded next belongs to a sequence whose i-th 64 tokens lie in block blocks[i]. */
  void set_blocks(const int32_t* blocks, int32_t n);
  /* The next step reads `token` at `position`. */
  void set(int32_t token, int32_t position);
  /* Runs n steps, each on the token that the one before chose. */
  void run(int32_t n_steps);
  /* Logits, and the choice, of a residual x (hidden, device) behind the last layer. */
  void choose_after(const float* x);
  /* Logits (vocab) of the last step, on the device until the next. */
  const float* device_logits() const;
  /* Wait; logits (vocab) and the choice of the last step. */
  std::vector<float> logits();
  Choice choice();
  /* Prints microseconds of each kernel of one step without the graph, with their names. */
  void time_kernels(int32_t position);

  /* Bytes of cache that a step at `position` reads. */
  double cache_bytes(int32_t position) const;
  int32_t kernels_per_step() const;
  /* The cache, the block table and the rotary frequencies on the device. */
  const KvView& cache() const;
  const int32_t* device_blocks() const;
  const float* device_frequencies() const;

  const Shape shape;
  const Weights weights;

 private:
  struct State;
  void launch_step(int32_t pooled_splits);
  void capture(int32_t pooled_splits);
  /* Splits of the pooled rows of a graph that serves `position`: a power of two. */
  int32_t pooled_splits(int32_t position) const;

  Device& device_;
  std::unique_ptr<State> state_;
};

}  // namespace ek::cuda::narrow
#endif
