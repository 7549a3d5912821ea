/* Attention of a chunk with keys and values expanded per head (192 and 128 numbers a head), a segment of the
 * cache at a time. Between segments the running maximum, sum and weighted values of every token and head are
 * kept in f32, so that memory depends on the segment and not on the context, and the result on neither.
 *
 * A tile of queries, aligned to positions, goes through its blocks of 64 keys in ascending order: all up to
 * its own, or its list. Where a chunk has lists, only the blocks that one of its tiles needs are expanded,
 * each in its slot. */
#include "expanded.cuh"
#include "kernels.h"

namespace ek::cuda {

namespace {

/* A block of a list: of the sequence, among the expanded ones of all segments, and of the cache. */
struct ListedBlock {
  int32_t block, slot, cached;
};

template <class P>
__device__ ListedBlock* listed_blocks() {
  return reinterpret_cast<ListedBlock*>(reinterpret_cast<uint8_t*>(P::shared()) + kExpandedShared<P>);
}

/* The blocks of a tile that are expanded in a segment, as BlocksInOrder. */
template <class P>
struct SegmentBlocks {
  const int32_t* cache_blocks; /* of the sequence */
  int32_t begin_slot;
  int32_t begin, end; /* entries of the tile in the segment */
  int32_t n;          /* entries of the tile */
  bool listed;        /* in shared memory; otherwise entry i is block i in slot i */

  __device__ int32_t at(int32_t entry) const {
    const int32_t i = begin + entry;
    return (listed ? listed_blocks<P>()[i].block : i) * kBlockRows;
  }
  __device__ BlockPlace place(int32_t entry) const {
    const int32_t i = begin + entry;
    const ListedBlock b = listed ? listed_blocks<P>()[i] : ListedBlock{i, i, cache_blocks[i]};
    return {(b.slot - begin_slot) * kBlockRows, b.cached * kBlockRows};
  }
  __device__ bool counts(int32_t, int32_t) const { return true; }
};

/* Entries before the first whose slot is `slot` or more. */
template <class P>
__device__ int32_t entries_before(int32_t n, int32_t slot) {
  int32_t low = 0, high = n;
  while (low < high) {
    const int32_t middle = (low + high) / 2;
    if (listed_blocks<P>()[middle].slot < slot) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/* All threads of the block call. */
template <class P>
__device__ SegmentBlocks<P> find_blocks(const SegmentAttention& a, const QueryTile<P>& tile) {
  const int32_t first_block = tile.at / kBlockRows, last_block = tile.last() / kBlockRows;
  if (a.lists.of_block == nullptr || tile.at < a.lists.dense_len) {
    const int32_t n = last_block + 1;
    return {a.blocks, a.begin_slot, min(n, a.begin_slot), min(n, a.end_slot), n, false};
  }
  const int32_t* list = a.lists.of_block + static_cast<size_t>(a.blocks[first_block]) * a.lists.most_listed;
  const int32_t n_listed = min(a.lists.most_listed, first_block + 1), n = n_listed + last_block - first_block;
  for (int32_t i = threadIdx.x; i < n; i += QueryTile<P>::kThreads) {
    const int32_t block = i < n_listed ? list[i] : first_block + 1 + i - n_listed;
    listed_blocks<P>()[i] = {block, a.lists.block_slot[block], a.blocks[block]};
  }
  __syncthreads();
  return {a.blocks, a.begin_slot, entries_before<P>(n, a.begin_slot), entries_before<P>(n, a.end_slot),
          n,        true};
}

/* What the segments before left of the lane's queries, and of a query's row its part of the sum: so that
 * numbers meet in the same order however many segments there are. */
template <class P>
__device__ void load_sums(QuerySums<P>& sums, const SegmentAttention& a, const QueryTile<P>& tile) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    if (!tile.is_new(tile.position(r))) continue;
    const size_t row = tile.row(r);
    sums.top[r / 2][r % 2] = a.tops[row];
    sums.total[r / 2][r % 2] = a.totals[row * 4 + t];
#pragma unroll
    for (int i = 0; i < kValue / 8; i++) {
      const float2 v = *reinterpret_cast<const float2*>(a.sums + row * kValue + i * 8 + t * 2);
      sums.out[r / 2][i][r % 2 * 2] = v.x;
      sums.out[r / 2][i][r % 2 * 2 + 1] = v.y;
    }
  }
}

template <class P>
__device__ void store_sums(const SegmentAttention& a, const QuerySums<P>& sums, const QueryTile<P>& tile) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < QueryTile<P>::kRows; r++) {
    if (!tile.is_new(tile.position(r))) continue;
    const size_t row = tile.row(r);
    if (t == 0) a.tops[row] = sums.top[r / 2][r % 2];
    a.totals[row * 4 + t] = sums.total[r / 2][r % 2];
#pragma unroll
    for (int i = 0; i < kValue / 8; i++) {
      *reinterpret_cast<float2*>(a.sums + row * kValue + i * 8 + t * 2) = {sums.out[r / 2][i][r % 2 * 2],
                                                                           sums.out[r / 2][i][r % 2 * 2 + 1]};
    }
  }
}

/* grid (tiles of queries, heads) */
template <class P>
__global__ void __launch_bounds__(QueryTile<P>::kThreads, 2) attend_chunk_kernel(SegmentAttention a) {
  const QueryTile<P> tile = tile_of_block<P>(a.first, a.end);
  const SegmentBlocks<P> blocks = find_blocks(a, tile);
  if (blocks.begin == blocks.end) return; /* an earlier segment had the last, or a later one has the next */
  const ExpandedShared s = expanded_shared<P>();
  load_queries(s, a.query, tile);
  QuerySums<P> sums;
  clear(sums);
  if (blocks.begin > 0) load_sums(sums, a, tile);
  attend_blocks(s, a.rows, blocks, blocks.end - blocks.begin, a.end, tile, RowsBefore{}, sums);
  if (blocks.end < blocks.n) return store_sums(a, sums, tile);
  join_totals(sums);
  store_values(a.out, sums, tile);
}

/* The matrices of a stack below each other. */
WeightView as_one_matrix(WeightView stack) {
  stack.n_rows *= stack.n_matrices;
  stack.n_matrices = 1;
  return stack;
}

/* Keys and values of `n` rows, as op.b.keys and op.b.values. */
void launch_expand(const Chunk& c, const LiteLayer& layer, const GemmRows& rows, int32_t n) {
  if (is_transposed(layer.k_b)) {
    launch_multiply_down(c.stream, "expand_keys", rows, 0, layer.k_b, n, c.b.keys);
  } else {
    launch_gemm(c.stream, "expand_keys",
                {rows, {}, as_one_matrix(layer.k_b), {}, n, GemmOut::kBf16, c.b.keys});
  }
  launch_gemm(c.stream, "expand_values",
              {rows, {}, as_one_matrix(layer.v_b), {}, n, GemmOut::kBf16, c.b.values});
  c.mark("expand");
}

/* Attention of the chunk to slots [begin_slot, end_slot), expanded. */
SegmentAttention segment_of(const Chunk& c, int32_t index, int32_t begin_slot, int32_t end_slot) {
  const CachedRows& cache = c.cache.cache;
  const size_t block = static_cast<size_t>(index) * static_cast<size_t>(c.shape.n_blocks);
  const uint8_t* rotary = cache.row(block * 64) + rope_offset(cache.format);
  TileLists lists{};
  if (selects(c, index)) {
    const size_t most = static_cast<size_t>(c.shape.most_listed());
    lists = {c.cache.tile_lists + block * most, c.b.block_slot, c.shape.most_listed(), c.shape.dense_len};
  }
  return {c.b.query,
          c.first,
          c.first + c.n,
          {c.b.keys, reinterpret_cast<const __nv_bfloat16*>(rotary), c.b.values,
           cache_row_bytes(cache.format) / 2},
          c.cache.blocks,
          lists,
          begin_slot,
          end_slot,
          c.b.sums,
          c.b.tops,
          c.b.totals,
          c.b.heads};
}

}  // namespace

void launch_attend_segment(cudaStream_t stream, const SegmentAttention& a) {
  const bool listed = a.lists.of_block != nullptr;
  const size_t entries = listed ? static_cast<size_t>(a.lists.most_listed) + kTileQueries / kBlockRows : 0;
  with_products([&]<class P>(P) {
    launch(stream, "attend_chunk",
           {{n_tiles_of(a.first, a.end), kHeads},
            QueryTile<P>::kThreads,
            kExpandedShared<P> + round_up(entries * sizeof(ListedBlock), 1024)},
           attend_chunk_kernel<P>, a);
  });
}

/* Cached tokens at most that the chunk's tiles attend to by their lists, and the chunk itself. */
int32_t most_listed_tokens(const Chunk& c) {
  const LiteShape& s = c.shape;
  const int32_t end = c.first + c.n, first_tile = std::max(c.first, s.dense_len) / kTileQueries;
  const int64_t tiles = ceil_div(end, kTileQueries) - first_tile;
  const int64_t blocks =
      (c.first < s.dense_len ? s.dense_len / 64 : 0) + tiles * (s.most_listed() + kTileQueries / 64);
  return static_cast<int32_t>(std::min<int64_t>(end, blocks * 64));
}

void launch_attention(const Chunk& c, const LiteLayer& layer, int32_t index, int32_t segment) {
  const bool by_list = selects(c, index);
  if (by_list) {
    launch_select_tiles(c, layer, index);
    launch_assign_slots(c, index);
  }
  const int32_t most = by_list ? most_listed_tokens(c) : c.first + c.n;
  for (int32_t begin = 0; begin < most; begin += segment) {
    /* Tiles' lists may share blocks; the kernels of a segment that is empty end at once. */
    const int32_t n = std::min(segment, most - begin);
    const GemmRows rows{nullptr, 0,
                        nullptr, by_list ? c.b.slot_blocks : c.cache.blocks,
                        begin,   by_list ? c.b.n_slots : nullptr};
    launch_expand(c, layer, launch_latents(c, index, rows, n), n);
    launch_attend_segment(c.stream, segment_of(c, index, begin / 64, ceil_div(begin + n, 64)));
    c.mark(by_list ? "attend_lists" : "attend_chunk");
  }
}

}  // namespace ek::cuda
