/* The parts of a sequence put together: a block per head and piece of the latent. */
#include "parts.cuh"

namespace ek::cuda {

namespace {

/* How a block divides its columns of a head, and the parts, between its threads. */
template <int Columns>
struct Divided {
  static_assert(kLatent % Columns == 0, "whole pieces");
  static constexpr int kColumns = Columns, kPieces = kLatent / Columns;
  static constexpr int kLanes = Columns / 4, kGroups = kThreads / kLanes;
  static constexpr int kEarly = 4; /* late parts of a group that load while they are weighed */

  __device__ static int32_t group() { return static_cast<int32_t>(threadIdx.x) / kLanes; }
};
/* Many blocks where few sequences are to be done soon; else as few as find a place at once. */
using Quarters = Divided<kLatent / 4>;
using Heads = Divided<kLatent>;
constexpr int32_t kFewSequences = 2;

struct CombineOp {
  DecodeBatch b;
  AttendParts parts;
  NsaRule rule;
  PartCounts counts;
  SparseProgress progress;
};

/* Largest score and sum of some parts. */
struct Total {
  float top, sum;
};

/* weight[i] = of part i relative to the largest score; 0 of one without rows. One warp. */
__device__ Total weigh_parts(const AttendParts& parts, size_t sequence, int h, const Share& range,
                             float* weight) {
  const int lane = threadIdx.x % kWarp;
  const float *tops = parts.top + sequence * parts.n * kHeads + h, *sums = parts.sum + (tops - parts.top);
  Total total{-INFINITY, 0};
#pragma unroll 4
  for (int32_t i = range.begin + lane; i < range.end; i += kWarp) {
    const float top = tops[i * kHeads], sum = sums[i * kHeads];
    total.top = fmaxf(total.top, sum == 0 ? -INFINITY : top);
  }
  total.top = warp_max(total.top);
#pragma unroll 4
  for (int32_t i = range.begin + lane; i < range.end; i += kWarp) {
    const float top = tops[i * kHeads], sum = sums[i * kHeads];
    weight[i] = sum == 0 ? 0.0f : expf(top - total.top);
    total.sum += weight[i] * sum;
  }
  total.sum = warp_sum(total.sum);
  return total;
}

/* sum += w times 4 columns. */
__device__ void add_columns(float4& sum, float w, const float4& v) {
  sum = {fmaf(w, v.x, sum.x), fmaf(w, v.y, sum.y), fmaf(w, v.z, sum.z), fmaf(w, v.w, sum.w)};
}

/* Of a part, the thread's 4 columns. */
__device__ float4 columns_of(const float* from, int32_t part) {
  return *reinterpret_cast<const float4*>(from + static_cast<size_t>(part) * kHeads * kLatent);
}

/* sum += factor times the weighted parts that the thread's group has, of 4 columns. */
template <class D>
__device__ void add_parts(float4& sum, const float* from, const float* weight, const Share& range,
                          float factor) {
#pragma unroll 4
  for (int32_t i = range.begin + D::group(); i < range.end; i += D::kGroups) {
    const float w = weight[i] * factor;
    if (w == 0) continue; /* a part without rows has no latents */
    add_columns(sum, w, columns_of(from, i));
  }
}

/* The last block of a sequence sets its counters back: the kernel before, which waited for one, is complete,
 * and so is the waiting of this one. */
__device__ void end_progress(const SparseProgress& progress, size_t sequence) {
  if (atomicAdd(progress.combined + sequence, 1u) + 1 < gridDim.x * gridDim.y) return;
  progress.scored[sequence] = 0;
  progress.pooled[sequence] = 0;
  progress.window[sequence] = 0;
  progress.combined[sequence] = 0;
}

__device__ float gate_of(const DecodeBatch& b, size_t sequence, int h, int branch) {
  return 1.0f / (1.0f + expf(-b.gates[(sequence * kHeads + h) * 3 + branch]));
}

/* grid (heads, pieces, sequences); shared: a weight per part. */
template <class D>
__global__ void __launch_bounds__(kThreads) combine_parts_kernel(CombineOp op) {
  __shared__ float4 partial[D::kGroups][D::kLanes];
  __shared__ Total totals[3]; /* pooled, window, selected */
  float* weight = dynamic_shared<float>();
  allow_next_kernel();
  const int h = blockIdx.x, warp = threadIdx.x / kWarp, column = threadIdx.x % D::kLanes;
  const size_t sequence = blockIdx.z;
  const int32_t column_at = blockIdx.y * D::kColumns + column * 4;
  const float* from = op.parts.latents + (sequence * op.parts.n * kHeads + h) * kLatent + column_at;
  const PartCounts& counts = op.counts;
  const Share late{counts.pooled + counts.window, counts.all()};
  float4 done = {0, 0, 0, 0};
  float gate = 1;
  if (counts.pooled > 0) {
    gate = gate_of(op.b, sequence, h, 1);
    const TokenTiles tiles(op.rule, op.b.positions[sequence]);
    const Share ranges[2] = {{0, parts_with_tiles(counts.pooled, tiles.pooled)}, {counts.pooled, late.begin}};
    for (int i = 0; i < 2; i++) {
      const float own_gate = gate_of(op.b, sequence, h, i * 2);
      if (threadIdx.x == 0)
        wait_for_count((i == 0 ? op.progress.pooled : op.progress.window) + sequence,
                       ranges[i].count() * (i == 0 ? 1 : counts.pieces));
      __syncthreads();
      if (warp == 0) {
        const Total total = weigh_parts(op.parts, sequence, h, ranges[i], weight);
        if (threadIdx.x == 0) totals[i] = total;
      }
      __syncthreads();
      if (totals[i].sum != 0) add_parts<D>(done, from, weight, ranges[i], own_gate / totals[i].sum);
    }
  }
  wait_for_kernel_before();
  if (counts.pooled > 0 && threadIdx.x == kThreads - 1) end_progress(op.progress, sequence);
  /* What a thread has of the first late parts loads while they are weighed. */
  constexpr int kEarly = D::kEarly;
  const int32_t first_late = late.begin + D::group();
  float4 early[kEarly];
#pragma unroll
  for (int e = 0; e < kEarly; e++)
    early[e] = columns_of(from, min(first_late + e * D::kGroups, late.end - 1));
  if (warp == 0) {
    const Total total = weigh_parts(op.parts, sequence, h, late, weight);
    if (threadIdx.x == 0) totals[2] = total;
  }
  __syncthreads();
  const float factor = gate / totals[2].sum;
#pragma unroll
  for (int e = 0; e < kEarly; e++) {
    const int32_t i = first_late + e * D::kGroups;
    const float w = i < late.end ? weight[i] * factor : 0.0f;
    if (w != 0) add_columns(done, w, early[e]); /* a part without rows has no latents */
  }
  add_parts<D>(done, from, weight, {late.begin + kEarly * D::kGroups, late.end}, factor);
  partial[D::group()][column] = done;
  __syncthreads();
  if (threadIdx.x >= D::kLanes) return;
  for (int i = 1; i < D::kGroups; i++) {
    const float4 v = partial[i][column];
    done = {done.x + v.x, done.y + v.y, done.z + v.z, done.w + v.w};
  }
  *reinterpret_cast<float4*>(op.b.out + (sequence * kHeads + h) * kLatent + column_at) = done;
}

}  // namespace

void launch_combine_parts(cudaStream_t stream, const DecodeBatch& b, const AttendParts& parts,
                          const NsaRule& rule, const PartCounts& counts, const SparseProgress& progress) {
  const bool few = b.n <= kFewSequences;
  launch(stream, "combine",
         {{kHeads, few ? Quarters::kPieces : Heads::kPieces, b.n},
          kThreads,
          sizeof(float) * static_cast<size_t>(parts.n),
          true},
         few ? combine_parts_kernel<Quarters> : combine_parts_kernel<Heads>,
         CombineOp{b, parts, rule, counts, progress});
}

}  // namespace ek::cuda
