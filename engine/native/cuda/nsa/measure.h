/* How long attention alone takes, dense and by native sparse attention, on data made on the device. */
#ifndef EK_CUDA_NSA_MEASURE_H
#define EK_CUDA_NSA_MEASURE_H
#include "decode.h"
#include "prefill.h"

namespace ek::cuda {

/* One layer. Times are the best of some rounds; bytes are those of rows that must be read, operations those
 * of products that the rule asks for. */
struct AttentionTimes {
  double dense_us = 0, sparse_us = 0;
  double dense_bytes = 0, sparse_bytes = 0;           /* decode */
  double dense_operations = 0, sparse_operations = 0; /* of products */
  /* Of prefill: dense attention by the kernel of the fused model, */
  double chunk_us = 0;
  /* sparse attention where the tokens of a tile share a choice (NsaRule::sharing), */
  double shared_us = 0, shared_operations = 0;
  /* and, where each selects for itself, the share of the blocks that compete which the next one selects too.
   */
  double overlap = 0;
};

struct AttentionMeasure {
  int32_t tokens;             /* of each sequence */
  int32_t batch;              /* sequences that decode a token each; 0: one that reads all its tokens */
  int rounds = 5;             /* 1: to see that it works */
  bool print_kernels = false; /* microseconds of each kernel of some more calls, without overlap */
  NsaRule rule = {};
};

/* Decode reads the cache of another layer in each call, of as many as do not fit into L2 together, and the
 * calls are one CUDA graph. Throws ArgError for sizes out of range, std::bad_alloc without memory for it. */
AttentionTimes measure_attention(Device& d, const AttentionMeasure& m);

}  // namespace ek::cuda
#endif
