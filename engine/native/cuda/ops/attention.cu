/* nsa_attention with plain f32 arithmetic for any shape: scores of pooled rows, selection, scores of the
 * chosen rows, their weights in both branches, and the weighted sums. Decode and prefill alike. */
#include <algorithm>
#include <cfloat>

#include "attention.cuh"
#include "reduce.cuh"

namespace ek::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kTileRows = 32; /* rows per block of a score kernel: one per lane */

/* query = [W_UK^T q_nope ; rotated q_pe] * scale. grid (heads, n), shared: (groups, latent) partial sums. */
template <ek_type F>
__global__ void absorb_kernel(AttentionPass a) {
  float* part = dynamic_shared<float>();
  const ek_nsa_params& nsa = a.op.nsa;
  const KvView& kv = a.op.kv;
  const int32_t h = blockIdx.x, row = a.first + blockIdx.y, n_units = kv.latent / 8;
  const int32_t width = min(n_units, static_cast<int32_t>(blockDim.x)), groups = blockDim.x / width;
  const float* q = a.op.q + (static_cast<size_t>(row) * nsa.n_heads + h) * (nsa.nope_dim + kv.rope);
  float* to = a.query + (static_cast<size_t>(blockIdx.y) * nsa.n_heads + h) * a.width();
  const int32_t group = threadIdx.x / width;
  for (int32_t unit = threadIdx.x % width; group < groups && unit < n_units; unit += width) {
    float sum[8] = {}, values[8];
    for (int32_t r = group; r < nsa.nope_dim; r += groups) {
      load_unit<F>(a.op.kv_b, static_cast<size_t>(h) * (nsa.nope_dim + nsa.v_dim) + r, unit, values);
      for (int i = 0; i < 8; i++) sum[i] = fmaf(q[r], values[i], sum[i]);
    }
    for (int i = 0; i < 8; i++) part[group * kv.latent + unit * 8 + i] = sum[i];
  }
  __syncthreads();
  for (int32_t c = threadIdx.x; c < kv.latent; c += blockDim.x) {
    float sum = 0;
    for (int32_t g = 0; g < groups; g++) sum += part[g * kv.latent + c];
    to[c] = sum * nsa.softmax_scale;
  }
  const int32_t t = place_of(a.op.batch, row).t;
  for (int32_t i = threadIdx.x; i < kv.rope / 2; i += blockDim.x) {
    float even = q[nsa.nope_dim + 2 * i], odd = q[nsa.nope_dim + 2 * i + 1];
    rotate_pair(even, odd, a.op.batch.inv_freq[i], t);
    to[kv.latent + 2 * i] = even * nsa.softmax_scale;
    to[kv.latent + 2 * i + 1] = odd * nsa.softmax_scale;
  }
}

/* Position of a slot, -1 when it does not count for the token at t. */
__device__ int32_t slot_position(const AttentionPass& a, const int32_t* list, int32_t n_union, int32_t slot,
                                 int32_t t) {
  if (slot / EK_KV_BLOCK >= n_union) return -1;
  const int32_t entry = list[slot / EK_KV_BLOCK], at = entry / 2 * EK_KV_BLOCK + slot % EK_KV_BLOCK;
  return at <= t && (entry % 2 == 1 || at > t - a.op.nsa.window) ? at : -1;
}

/* Element index of row `i`, a pooled row or a slot; false when the token does not see it. */
template <bool Pooled>
__device__ bool find_row(const AttentionPass& a, const TokenPlace& at, int32_t token, int32_t i, bool value,
                         size_t* element) {
  const KvView& kv = a.op.kv;
  if constexpr (Pooled) {
    if (i >= kv.n_visible(at.t)) return false;
    *element = pooled_at(kv, a.op.layer, a.op.batch, at.seq, i, value);
  } else {
    const int32_t* list = a.unions + static_cast<size_t>(token) * a.most_union;
    const int32_t position = slot_position(a, list, a.n_union[token], i, at.t);
    if (position < 0) return false;
    *element = row_at(kv, a.op.layer, a.op.batch, at.seq, position);
  }
  return true;
}

/* Scores of kTileRows rows for all heads. grid (tiles, n); shared: the rows, then the queries. A lane per
 * row, a warp per head. */
template <class T, bool Pooled>
__global__ void scores_kernel(AttentionPass a) {
  float* tile = dynamic_shared<float>();
  const int32_t width = a.width(), pitch = width + 1, heads = a.op.nsa.n_heads, token = blockIdx.y;
  const int32_t first = blockIdx.x * kTileRows, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const TokenPlace at = place_of(a.op.batch, a.first + token);
  float* query = tile + kTileRows * pitch;
  size_t element = 0;
  if (Pooled && first >= a.op.kv.n_visible(at.t)) return;
  if (!Pooled && first >= a.n_union[token] * EK_KV_BLOCK) return;
  for (int32_t r = warp; r < kTileRows; r += kThreads / kWarp) {
    const bool seen = find_row<Pooled>(a, at, token, first + r, false, &element);
    const T* row = static_cast<const T*>(a.op.kv.base) + element;
    for (int32_t c = lane; c < width; c += kWarp) tile[r * pitch + c] = seen ? load_element(row + c) : 0.0f;
  }
  for (int32_t i = threadIdx.x; i < heads * width; i += kThreads)
    query[i] = a.query[static_cast<size_t>(token) * heads * width + i];
  __syncthreads();
  const int32_t most = Pooled ? a.most_pooled : a.most_slots();
  float* out = (Pooled ? a.pooled : a.weight) + static_cast<size_t>(token) * heads * most;
  if (first + lane >= most) return;
  for (int32_t h = warp; h < heads; h += kThreads / kWarp) {
    float sum = 0;
    for (int32_t c = 0; c < width; c++) sum = fmaf(query[h * width + c], tile[lane * pitch + c], sum);
    out[static_cast<size_t>(h) * most + first + lane] = sum;
  }
}

/* Probabilities of the pooled rows. grid (heads, n). */
__global__ void pooled_softmax_kernel(AttentionPass a) {
  __shared__ float shared[kThreads / kWarp];
  const int32_t n = a.op.kv.n_visible(place_of(a.op.batch, a.first + blockIdx.y).t);
  if (n == 0) return;
  float* s = a.pooled + (static_cast<size_t>(blockIdx.y) * a.op.nsa.n_heads + blockIdx.x) * a.most_pooled;
  float top = -INFINITY, sum = 0;
  for (int32_t i = threadIdx.x; i < n; i += kThreads) top = fmaxf(top, s[i]);
  top = block_max<kThreads>(top, shared);
  for (int32_t i = threadIdx.x; i < n; i += kThreads) sum += expf(s[i] - top);
  sum = block_sum<kThreads>(sum, shared);
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    const float p = expf(s[i] - top) / sum;
    s[i] = p < FLT_MIN ? 0.0f : p; /* below the normal range blocks tie */
  }
}

/* Weight of a branch: 0 pooled, 1 selected, 2 window. */
__device__ float gate_of(const AttentionOp& op, int32_t row, int32_t head, int32_t branch) {
  if (op.gates == nullptr) return branch == 1 ? 1.0f : 0.0f;
  return 1.0f / (1.0f + expf(-op.gates[(static_cast<size_t>(row) * op.nsa.n_heads + head) * 3 + branch]));
}

/* Weights of the slots: both branches' probabilities times their gates. grid (heads, n). */
__global__ void slot_weights_kernel(AttentionPass a) {
  __shared__ float shared[kThreads / kWarp];
  const int32_t h = blockIdx.x, token = blockIdx.y, heads = a.op.nsa.n_heads;
  const int32_t t = place_of(a.op.batch, a.first + token).t, n_union = a.n_union[token];
  const int32_t* list = a.unions + static_cast<size_t>(token) * a.most_union;
  float* s = a.weight + (static_cast<size_t>(token) * heads + h) * a.most_slots();
  const int32_t n = n_union * EK_KV_BLOCK;
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  const auto in_branch = [&](int32_t position, int32_t slot, int branch) {
    return branch == 0 ? list[slot / EK_KV_BLOCK] % 2 == 1 : position > t - a.op.nsa.window;
  };
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    const int32_t position = slot_position(a, list, n_union, i, t);
    for (int b = 0; b < 2; b++) {
      if (position >= 0 && in_branch(position, i, b)) top[b] = fmaxf(top[b], s[i]);
    }
  }
  for (int b = 0; b < 2; b++) top[b] = block_max<kThreads>(top[b], shared);
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    const int32_t position = slot_position(a, list, n_union, i, t);
    for (int b = 0; b < 2; b++) {
      if (position >= 0 && in_branch(position, i, b)) sum[b] += expf(s[i] - top[b]);
    }
  }
  float scale[2];
  for (int b = 0; b < 2; b++)
    scale[b] = gate_of(a.op, a.first + token, h, b + 1) / block_sum<kThreads>(sum[b], shared);
  for (int32_t i = threadIdx.x; i < n; i += kThreads) {
    const int32_t position = slot_position(a, list, n_union, i, t);
    float weight = position < 0 ? -1.0f : 0.0f;
    for (int b = 0; b < 2; b++) {
      if (position >= 0 && in_branch(position, i, b)) weight += scale[b] * expf(s[i] - top[b]);
    }
    s[i] = weight;
  }
}

/* Weighted sums of kValueRows latents for all heads. grid (chunks, n). */
template <class T, bool Pooled>
__global__ void values_kernel(AttentionPass a) {
  constexpr int kHeads = 8;
  __shared__ float weight[kHeads][kValueRows];
  __shared__ size_t element[kValueRows];
  __shared__ bool seen[kValueRows];
  const int32_t heads = a.op.nsa.n_heads, latent = a.op.kv.latent, token = blockIdx.y;
  const int32_t first = blockIdx.x * kValueRows, most = Pooled ? a.most_pooled : a.most_slots();
  const TokenPlace at = place_of(a.op.batch, a.first + token);
  const int32_t n = Pooled ? a.op.kv.n_visible(at.t) : a.n_union[token] * EK_KV_BLOCK;
  if (first >= n) return;
  const float* weights = (Pooled ? a.pooled : a.weight) + static_cast<size_t>(token) * heads * most;
  const int32_t chunks = Pooled ? a.pooled_chunks() : a.row_chunks();
  float* out = (Pooled ? a.pooled_part : a.row_part) +
               (static_cast<size_t>(token) * chunks + blockIdx.x) * heads * latent;
  for (int32_t r = threadIdx.x; r < kValueRows; r += kThreads) {
    size_t where = 0;
    seen[r] = first + r < n && find_row<Pooled>(a, at, token, first + r, true, &where);
    element[r] = where;
  }
  for (int32_t h0 = 0; h0 < heads; h0 += kHeads) {
    __syncthreads();
    for (int32_t i = threadIdx.x; i < kHeads * kValueRows; i += kThreads) {
      const int32_t h = h0 + i / kValueRows, r = i % kValueRows;
      weight[i / kValueRows][r] =
          h < heads && first + r < n ? weights[static_cast<size_t>(h) * most + first + r] : 0.0f;
    }
    __syncthreads();
    for (int32_t c = threadIdx.x; c < latent; c += kThreads) {
      float sum[kHeads] = {};
      for (int32_t r = 0; r < kValueRows; r++) {
        if (!seen[r]) continue; /* stale rows may hold anything */
        const float v = load_element(static_cast<const T*>(a.op.kv.base) + element[r] + c);
        for (int h = 0; h < kHeads; h++) sum[h] = fmaf(weight[h][r], v, sum[h]);
      }
      for (int32_t h = 0; h < kHeads && h0 + h < heads; h++) out[(h0 + h) * latent + c] = sum[h];
    }
  }
}

/* out = W_UV (gated sum of latents). grid (heads, n), shared: latent floats. */
template <ek_type F>
__global__ void expand_kernel(AttentionPass a) {
  float* sum = dynamic_shared<float>();
  const ek_nsa_params& nsa = a.op.nsa;
  const KvView& kv = a.op.kv;
  const int32_t h = blockIdx.x, token = blockIdx.y, row = a.first + token;
  const int32_t n_visible = kv.n_visible(place_of(a.op.batch, row).t);
  const int32_t pooled_chunks = (n_visible + kValueRows - 1) / kValueRows;
  const int32_t row_chunks = (a.n_union[token] * EK_KV_BLOCK + kValueRows - 1) / kValueRows;
  const size_t stride = static_cast<size_t>(nsa.n_heads) * kv.latent;
  const float gate = gate_of(a.op, row, h, 0);
  for (int32_t c = threadIdx.x; c < kv.latent; c += blockDim.x) {
    const size_t at = static_cast<size_t>(h) * kv.latent + c;
    float pooled = 0, rows = 0;
    for (int32_t i = 0; i < pooled_chunks; i++)
      pooled += a.pooled_part[(static_cast<size_t>(token) * a.pooled_chunks() + i) * stride + at];
    for (int32_t i = 0; i < row_chunks; i++)
      rows += a.row_part[(static_cast<size_t>(token) * a.row_chunks() + i) * stride + at];
    sum[c] = n_visible > 0 ? fmaf(gate, pooled, rows) : rows;
  }
  __syncthreads();
  const int32_t lane = threadIdx.x % kWarp;
  float* out = a.op.out + (static_cast<size_t>(row) * nsa.n_heads + h) * nsa.v_dim;
  for (int32_t v = threadIdx.x / kWarp; v < nsa.v_dim; v += blockDim.x / kWarp) {
    const size_t w_row = static_cast<size_t>(h) * (nsa.nope_dim + nsa.v_dim) + nsa.nope_dim + v;
    float y = 0;
    for (int32_t unit = lane; unit * 8 < kv.latent; unit += kWarp) {
      float values[8];
      load_unit<F>(a.op.kv_b, w_row, unit, values);
      for (int i = 0; i < 8; i++) y = fmaf(values[i], sum[unit * 8 + i], y);
    }
    y = warp_sum(y);
    if (lane == 0) out[v] = y;
  }
}

template <class T>
void attend_pass(Device& d, const AttentionPass& a) {
  const int32_t heads = a.op.nsa.n_heads, width = a.width();
  const size_t tile =
      sizeof(float) * (static_cast<size_t>(kTileRows) * (width + 1) + static_cast<size_t>(heads) * width);
  const Grid per_head(heads, a.n);
  if (a.most_pooled > 0) {
    launch(d.stream, "scores_kernel", {{ceil_div(a.most_pooled, kTileRows), a.n}, kThreads, tile},
           scores_kernel<T, true>, a);
    launch(d.stream, "pooled_softmax_kernel", {per_head, kThreads}, pooled_softmax_kernel, a);
    launch(d.stream, "values_kernel", {{a.pooled_chunks(), a.n}, kThreads}, values_kernel<T, true>, a);
  }
  nsa_select(d, a);
  launch(d.stream, "scores_kernel", {{a.most_slots() / kTileRows, a.n}, kThreads, tile},
         scores_kernel<T, false>, a);
  launch(d.stream, "slot_weights_kernel", {per_head, kThreads}, slot_weights_kernel, a);
  launch(d.stream, "values_kernel", {{a.row_chunks(), a.n}, kThreads}, values_kernel<T, false>, a);
}

/* Scratch floats that one token needs. */
size_t floats_per_token(const AttentionPass& a) {
  const size_t heads = static_cast<size_t>(a.op.nsa.n_heads), latent = static_cast<size_t>(a.op.kv.latent);
  const size_t rows = static_cast<size_t>(a.most_pooled) + static_cast<size_t>(a.most_slots());
  return heads * (static_cast<size_t>(a.width()) + rows) + static_cast<size_t>(a.most_blocks + a.most_union) +
         heads * latent * static_cast<size_t>(a.pooled_chunks() + a.row_chunks());
}

}  // namespace

void nsa_attention(Device& d, const AttentionOp& op) {
  AttentionPass a{};
  a.op = op;
  const int32_t last = op.batch.max_position, heads = op.nsa.n_heads;
  a.most_blocks = last / EK_KV_BLOCK + 1;
  a.most_pooled = op.kv.n_visible(last);
  const int64_t most = int64_t{op.nsa.select_n} + op.nsa.window / EK_KV_BLOCK + 2;
  a.most_union = static_cast<int32_t>(std::min<int64_t>(a.most_blocks, most));
  constexpr size_t kMostFloats = size_t{24} << 20;
  const size_t fitting = std::max<size_t>(1, kMostFloats / floats_per_token(a));
  const size_t n = std::min<size_t>({fitting, static_cast<size_t>(op.batch.n_tokens), 32768});
  const size_t per_head = n * static_cast<size_t>(heads), latent = static_cast<size_t>(op.kv.latent);
  a.query = d.scratch.take<float>(per_head * static_cast<size_t>(a.width()));
  a.pooled = d.scratch.take<float>(per_head * static_cast<size_t>(a.most_pooled));
  a.weight = d.scratch.take<float>(per_head * static_cast<size_t>(a.most_slots()));
  a.pooled_part = d.scratch.take<float>(per_head * latent * static_cast<size_t>(a.pooled_chunks()));
  a.row_part = d.scratch.take<float>(per_head * latent * static_cast<size_t>(a.row_chunks()));
  a.block_score = d.scratch.take<float>(n * static_cast<size_t>(a.most_blocks));
  a.unions = d.scratch.take<int32_t>(n * static_cast<size_t>(a.most_union));
  a.n_union = d.scratch.take<int32_t>(n);
  for (a.first = 0; a.first < op.batch.n_tokens; a.first += static_cast<int32_t>(n)) {
    a.n = std::min(static_cast<int32_t>(n), op.batch.n_tokens - a.first);
    const int32_t n_units = op.kv.latent / 8, width = std::min(n_units, 128);
    const size_t partial = sizeof(float) * latent * static_cast<size_t>(128 / width);
    for_type(op.kv_b.type, [&]<ek_type F>() {
      launch(d.stream, "absorb_kernel", {{heads, a.n}, 128, partial}, absorb_kernel<F>, a);
    });
    op.kv.is_f32 ? attend_pass<float>(d, a) : attend_pass<__half>(d, a);
    for_type(op.kv_b.type, [&]<ek_type F>() {
      launch(d.stream, "expand_kernel", {{heads, a.n}, 128, sizeof(float) * latent}, expand_kernel<F>, a);
    });
  }
}

}  // namespace ek::cuda
