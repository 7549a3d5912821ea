"""Triton kernels of packed attention with one softmax (pooled rows, or all keys), and NSA's choice of blocks.

Shapes: q (batch, length, heads, D), k, v (batch, n_keys, heads, D); starts, ends (batch, length) int32: where the
document of a position begins and ends. `pooled`: key i is the pooled row of tokens 16 i .. 16 i + 31.
Log-sum-exps are in base 2. A program handles BQ queries (or BK keys) of one head.
"""

from __future__ import annotations

import triton
import triton.language as tl

CONFIGS = [
    triton.Config({"BQ": bq, "BK": bk}, num_warps=warps, num_stages=stages)
    for bq, bk, warps, stages in ((64, 64, 4, 3), (128, 64, 4, 3), (128, 64, 8, 3))
]
KEY = ["length", "pooled"]


@triton.jit
def tile(base, batch, rows, row, head, H: tl.constexpr, D: tl.constexpr):
    """Pointers (rows, D) of one head; rows: length of the sequence axis."""
    return base + ((batch * rows + row[:, None]) * H + head) * D + tl.arange(0, D)[None, :]


@triton.jit
def visible(pooled: tl.constexpr, qi, ki, start):
    """Mask (queries, keys)."""
    if pooled:
        seen = (ki[None, :] * 16 + 31 <= qi[:, None]) & (ki[None, :] * 16 >= start[:, None])
    else:
        seen = (ki[None, :] <= qi[:, None]) & (ki[None, :] >= start[:, None])
    return seen


@triton.jit
def key_range(pooled: tl.constexpr, q0, first, BQ: tl.constexpr, BK: tl.constexpr):
    """First and one past the last key tile of queries q0 .. q0 + BQ - 1; first: where q0's document starts."""
    low, high = first // BK, (q0 + BQ - 1) // BK + 1
    if pooled:
        low, high = first // 16 // BK, (q0 + BQ - 32) // 16 // BK + 1
    return low, high


@triton.autotune(CONFIGS, KEY)
@triton.jit
def forward_kernel(q, k, v, starts, out, lse, scale, length, n_keys, H: tl.constexpr, pooled: tl.constexpr,
                   D: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr):
    q0, head, batch = tl.program_id(0) * BQ, tl.program_id(1) % H, (tl.program_id(1) // H).to(tl.int64)
    qi = q0 + tl.arange(0, BQ)
    qt = tl.load(tile(q, batch, length, qi, head, H, D))
    start = tl.load(starts + batch * length + qi)
    top = tl.full((BQ,), -1e30, tl.float32)
    total = tl.zeros((BQ,), tl.float32)
    acc = tl.zeros((BQ, D), tl.float32)
    low, high = key_range(pooled, q0, tl.min(start, 0), BQ, BK)
    for block in range(low, high):
        ki = block * BK + tl.arange(0, BK)
        kt = tl.load(tile(k, batch, n_keys, ki, head, H, D))
        vt = tl.load(tile(v, batch, n_keys, ki, head, H, D))
        s = tl.where(visible(pooled, qi, ki, start), tl.dot(qt, tl.trans(kt)) * scale, -1e30)
        new = tl.maximum(tl.maximum(top, tl.max(s, 1)), -1e29)
        p = tl.exp2(s - new[:, None])
        shrink = tl.exp2(top - new)
        total = total * shrink + tl.sum(p, 1)
        acc = acc * shrink[:, None] + tl.dot(p.to(vt.dtype), vt)
        top = new
    acc = acc / tl.maximum(total, 1e-30)[:, None]
    tl.store(tile(out, batch, length, qi, head, H, D), acc.to(out.dtype.element_ty))
    tl.store(lse + (batch * length + qi) * H + head, tl.where(total > 0, top + tl.log2(tl.maximum(total, 1e-30)), 0.0))


@triton.autotune(CONFIGS, KEY)
@triton.jit
def backward_q_kernel(q, k, v, starts, out, grad, lse, delta, dq, scale, length, n_keys, H: tl.constexpr,
                      pooled: tl.constexpr, D: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr):
    """dq, and delta = sum(grad * out) for the kernel of the keys."""
    q0, head, batch = tl.program_id(0) * BQ, tl.program_id(1) % H, (tl.program_id(1) // H).to(tl.int64)
    qi = q0 + tl.arange(0, BQ)
    at = (batch * length + qi) * H + head
    qt, gt = tl.load(tile(q, batch, length, qi, head, H, D)), tl.load(tile(grad, batch, length, qi, head, H, D))
    dl = tl.sum(gt.to(tl.float32) * tl.load(tile(out, batch, length, qi, head, H, D)).to(tl.float32), 1)
    tl.store(delta + at, dl)
    ls, start = tl.load(lse + at), tl.load(starts + batch * length + qi)
    acc = tl.zeros((BQ, D), tl.float32)
    low, high = key_range(pooled, q0, tl.min(start, 0), BQ, BK)
    for block in range(low, high):
        ki = block * BK + tl.arange(0, BK)
        kt = tl.load(tile(k, batch, n_keys, ki, head, H, D))
        vt = tl.load(tile(v, batch, n_keys, ki, head, H, D))
        s = tl.where(visible(pooled, qi, ki, start), tl.dot(qt, tl.trans(kt)) * scale, -1e30)
        ds = tl.exp2(s - ls[:, None]) * (tl.dot(gt, tl.trans(vt)) - dl[:, None])
        acc += tl.dot(ds.to(kt.dtype), kt)
    tl.store(tile(dq, batch, length, qi, head, H, D), (acc * scale * 0.6931471805599453).to(dq.dtype.element_ty))


@triton.autotune(CONFIGS, KEY)
@triton.jit
def backward_kv_kernel(q, k, v, starts, ends, grad, lse, delta, dk, dv, scale, length, n_keys, H: tl.constexpr,
                       pooled: tl.constexpr, D: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr):
    k0, head, batch = tl.program_id(0) * BK, tl.program_id(1) % H, (tl.program_id(1) // H).to(tl.int64)
    ki = k0 + tl.arange(0, BK)
    kt, vt = tl.load(tile(k, batch, n_keys, ki, head, H, D)), tl.load(tile(v, batch, n_keys, ki, head, H, D))
    acc_k = tl.zeros((BK, D), tl.float32)
    acc_v = tl.zeros((BK, D), tl.float32)
    last, low = k0 + BK - 1, k0 // BQ
    if pooled:
        last, low = (k0 + BK) * 16 - 1, (k0 * 16 + 31) // BQ
    end = tl.load(ends + batch * length + last)
    for block in range(low, tl.cdiv(end, BQ)):
        qi = block * BQ + tl.arange(0, BQ)
        start = tl.load(starts + batch * length + qi)
        at = (batch * length + qi) * H + head
        qt, gt = tl.load(tile(q, batch, length, qi, head, H, D)), tl.load(tile(grad, batch, length, qi, head, H, D))
        ls, dl = tl.load(lse + at), tl.load(delta + at)
        s = tl.where(visible(pooled, qi, ki, start), tl.dot(qt, tl.trans(kt)) * scale, -1e30)
        p = tl.exp2(s - ls[:, None])
        acc_v += tl.dot(tl.trans(p.to(gt.dtype)), gt)
        ds = p * (tl.dot(gt, tl.trans(vt)) - dl[:, None])
        acc_k += tl.dot(tl.trans(ds.to(qt.dtype)), qt)
    tl.store(tile(dk, batch, n_keys, ki, head, H, D), (acc_k * scale * 0.6931471805599453).to(dk.dtype.element_ty))
    tl.store(tile(dv, batch, n_keys, ki, head, H, D), acc_v.to(dv.dtype.element_ty))


@triton.jit
def pooled_mass_kernel(q, kc, starts, lse, mass, scale, length, n_keys, H: tl.constexpr, D: tl.constexpr,
                       B: tl.constexpr):
    """mass (batch, length, n_keys) f32: probability of every pooled row summed over heads."""
    qi, ki = tl.program_id(0) * B + tl.arange(0, B), tl.program_id(1) * B + tl.arange(0, B)
    batch = tl.program_id(2).to(tl.int64)
    mask = visible(True, qi, ki, tl.load(starts + batch * length + qi))
    acc = tl.zeros((B, B), tl.float32)
    if tl.max(tl.max(mask.to(tl.int32), 1), 0) > 0:
        for head in range(H):
            qt = tl.load(tile(q, batch, length, qi, head, H, D))
            kt = tl.load(tile(kc, batch, n_keys, ki, head, H, D))
            ls = tl.load(lse + (batch * length + qi) * H + head)
            acc += tl.exp2(tl.where(mask, tl.dot(qt, tl.trans(kt)) * scale, -1e30) - ls[:, None])
    tl.store(mass + (batch * length + qi[:, None]) * n_keys + ki[None, :], acc)


@triton.jit
def select_kernel(mass, starts, bits, length, n_keys, words: tl.constexpr, NB: tl.constexpr, N: tl.constexpr,
                  INIT: tl.constexpr, LOCAL: tl.constexpr, B: tl.constexpr):
    """bits (batch, length, words) from mass: Eq. 9 of NSA, forced blocks, the best of the rest, lowest index on ties.

    Bit j % 32 of word j / 32 says that block j is selected."""
    batch = tl.program_id(1).to(tl.int64)
    qi = tl.program_id(0) * B + tl.arange(0, B)
    block = tl.arange(0, NB)
    start = tl.load(starts + batch * length + qi)
    row = mass + (batch * length + qi[:, None]) * n_keys + block[None, :] * 4
    inside = block[None, :] * 4 < n_keys
    score = tl.load(row - 1, mask=inside & (block[None, :] > 0), other=0.0)
    score += 2 * (tl.load(row, mask=inside, other=0.0) + tl.load(row + 1, mask=inside, other=0.0)
                  + tl.load(row + 2, mask=inside, other=0.0))
    score += tl.load(row + 3, mask=inside, other=0.0)
    own, first = (qi // 64)[:, None], (start // 64)[:, None]
    allowed = (block[None, :] <= own) & (block[None, :] >= first)
    forced = allowed & ((block[None, :] < first + INIT) | (block[None, :] > own - LOCAL))
    score = tl.where(forced, 1e30, tl.where(allowed, score, -1e30))
    chosen = tl.zeros((B, NB), tl.int32)
    for _ in range(N):
        best = tl.argmax(score, 1, tie_break_left=True)
        hit = block[None, :] == best[:, None]
        chosen = tl.where(hit & (score > -1e29), 1, chosen)
        score = tl.where(hit, -1e30, score)
    packed = tl.sum(tl.reshape(chosen << (block % 32)[None, :], (B, words, 32)), 2)
    tl.store(bits + (batch * length + qi[:, None]) * words + tl.arange(0, words)[None, :], packed)
