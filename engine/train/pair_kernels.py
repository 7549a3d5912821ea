"""Triton kernels of NSA's selected and window branches together: both read the same rows with the same queries.

out = g_slc * softmax over selected tokens + g_win * softmax over the window. One product q k gives both softmaxes, and
the backward pass needs one more for both, because both see the same gradient up to the gates.
Shapes as in kernels.py; gates (batch, length, heads, 3); bits (batch, length, words) from `select_kernel`.
`SKIP`: leave out key tiles that no query of the tile selected (pays on long rows).
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels import tile

CONFIGS = [
    triton.Config({"BQ": bq, "BK": bk, "SKIP": skip}, num_warps=warps, num_stages=stages)
    for bq, bk, warps, stages, skip in (
        (64, 64, 4, 2, True), (64, 64, 4, 3, False), (128, 64, 8, 2, True), (128, 64, 8, 3, False))
]
KEY = ["length"]


@triton.jit
def chosen(bits, batch, length, words: tl.constexpr, qi, ki, k0):
    """Mask (queries, keys): the key's block is selected by the query. A tile never straddles a word's 2048 tokens."""
    word = tl.load(bits + (batch * length + qi) * words + k0 // 2048)
    return ((word[:, None] >> ((ki // 64) % 32)[None, :]) & 1) == 1


@triton.jit
def accumulate(s, mask, vt, top, total, acc):
    """One online-softmax step."""
    s = tl.where(mask, s, -1e30)
    new = tl.maximum(tl.maximum(top, tl.max(s, 1)), -1e29)
    p = tl.exp2(s - new[:, None])
    shrink = tl.exp2(top - new)
    return new, total * shrink + tl.sum(p, 1), acc * shrink[:, None] + tl.dot(p.to(vt.dtype), vt)


@triton.autotune(CONFIGS, KEY)
@triton.jit
def forward_kernel(q, k, v, gates, bits, starts, out, out_s, out_w, lse_s, lse_w, scale, length, window,
                   H: tl.constexpr, words: tl.constexpr, D: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
                   SKIP: tl.constexpr):
    q0, head, batch = tl.program_id(0) * BQ, tl.program_id(1) % H, (tl.program_id(1) // H).to(tl.int64)
    qi = q0 + tl.arange(0, BQ)
    at = (batch * length + qi) * H + head
    qt = tl.load(tile(q, batch, length, qi, head, H, D))
    start = tl.load(starts + batch * length + qi)
    first = tl.min(start, 0)
    top_s, total_s = tl.full((BQ,), -1e30, tl.float32), tl.zeros((BQ,), tl.float32)
    top_w, total_w = tl.full((BQ,), -1e30, tl.float32), tl.zeros((BQ,), tl.float32)
    acc_s, acc_w = tl.zeros((BQ, D), tl.float32), tl.zeros((BQ, D), tl.float32)
    near = tl.maximum(first, q0 - window + 1) // BK
    for block in range(first // BK, near):
        ki = block * BK + tl.arange(0, BK)
        mask = chosen(bits, batch, length, words, qi, ki, block * BK) & (ki[None, :] >= start[:, None])
        if SKIP:
            if tl.max(tl.max(mask.to(tl.int32), 1), 0) > 0:
                kt = tl.load(tile(k, batch, length, ki, head, H, D))
                vt = tl.load(tile(v, batch, length, ki, head, H, D))
                top_s, total_s, acc_s = accumulate(tl.dot(qt, tl.trans(kt)) * scale, mask, vt, top_s, total_s, acc_s)
        else:
            kt = tl.load(tile(k, batch, length, ki, head, H, D))
            vt = tl.load(tile(v, batch, length, ki, head, H, D))
            top_s, total_s, acc_s = accumulate(tl.dot(qt, tl.trans(kt)) * scale, mask, vt, top_s, total_s, acc_s)
    for block in range(near, (q0 + BQ - 1) // BK + 1):
        ki = block * BK + tl.arange(0, BK)
        kt = tl.load(tile(k, batch, length, ki, head, H, D))
        vt = tl.load(tile(v, batch, length, ki, head, H, D))
        s = tl.dot(qt, tl.trans(kt)) * scale
        causal = (ki[None, :] <= qi[:, None]) & (ki[None, :] >= start[:, None])
        mask = causal & chosen(bits, batch, length, words, qi, ki, block * BK)
        top_s, total_s, acc_s = accumulate(s, mask, vt, top_s, total_s, acc_s)
        mask = causal & (ki[None, :] > qi[:, None] - window)
        top_w, total_w, acc_w = accumulate(s, mask, vt, top_w, total_w, acc_w)
    acc_s, acc_w = acc_s / total_s[:, None], acc_w / total_w[:, None]
    gs, gw = tl.load(gates + at * 3 + 1).to(tl.float32), tl.load(gates + at * 3 + 2).to(tl.float32)
    kind = out.dtype.element_ty
    tl.store(tile(out, batch, length, qi, head, H, D), (gs[:, None] * acc_s + gw[:, None] * acc_w).to(kind))
    tl.store(tile(out_s, batch, length, qi, head, H, D), acc_s.to(kind))
    tl.store(tile(out_w, batch, length, qi, head, H, D), acc_w.to(kind))
    tl.store(lse_s + at, top_s + tl.log2(total_s))
    tl.store(lse_w + at, top_w + tl.log2(total_w))


@triton.jit
def gradients(s, dov, ls, lw, gs, gw, ds_, dw_, selected, windowed):
    """Combined probability and score gradient of a tile; ls, lw: log-sum-exps; ds_, dw_: gate gradients."""
    ps = tl.exp2(tl.where(selected, s, -1e30) - ls[:, None])
    pw = tl.exp2(tl.where(windowed, s, -1e30) - lw[:, None])
    both = gs[:, None] * ps + gw[:, None] * pw
    shift = (gs * ds_)[:, None] * ps + (gw * dw_)[:, None] * pw
    return both, both * dov - shift


@triton.autotune(CONFIGS, KEY)
@triton.jit
def backward_q_kernel(q, k, v, gates, bits, starts, out_s, out_w, grad, lse_s, lse_w, dq, dgates, scale, length,
                      window, H: tl.constexpr, words: tl.constexpr, D: tl.constexpr, BQ: tl.constexpr,
                      BK: tl.constexpr, SKIP: tl.constexpr):
    """dq and the gradients of both gates, which are also what the kernel of the keys needs as delta."""
    q0, head, batch = tl.program_id(0) * BQ, tl.program_id(1) % H, (tl.program_id(1) // H).to(tl.int64)
    qi = q0 + tl.arange(0, BQ)
    at = (batch * length + qi) * H + head
    qt, gt = tl.load(tile(q, batch, length, qi, head, H, D)), tl.load(tile(grad, batch, length, qi, head, H, D))
    wide = gt.to(tl.float32)
    dgs = tl.sum(wide * tl.load(tile(out_s, batch, length, qi, head, H, D)).to(tl.float32), 1)
    dgw = tl.sum(wide * tl.load(tile(out_w, batch, length, qi, head, H, D)).to(tl.float32), 1)
    tl.store(dgates + at * 3, tl.zeros((BQ,), tl.float32))
    tl.store(dgates + at * 3 + 1, dgs)
    tl.store(dgates + at * 3 + 2, dgw)
    gs, gw = tl.load(gates + at * 3 + 1).to(tl.float32), tl.load(gates + at * 3 + 2).to(tl.float32)
    ls, lw, start = tl.load(lse_s + at), tl.load(lse_w + at), tl.load(starts + batch * length + qi)
    acc = tl.zeros((BQ, D), tl.float32)
    for block in range(tl.min(start, 0) // BK, (q0 + BQ - 1) // BK + 1):
        ki = block * BK + tl.arange(0, BK)
        causal = (ki[None, :] <= qi[:, None]) & (ki[None, :] >= start[:, None])
        selected = causal & chosen(bits, batch, length, words, qi, ki, block * BK)
        windowed = causal & (ki[None, :] > qi[:, None] - window)
        if SKIP:
            if tl.max(tl.max((selected | windowed).to(tl.int32), 1), 0) > 0:
                kt = tl.load(tile(k, batch, length, ki, head, H, D))
                vt = tl.load(tile(v, batch, length, ki, head, H, D))
                _, ds = gradients(tl.dot(qt, tl.trans(kt)) * scale, tl.dot(gt, tl.trans(vt)), ls, lw, gs, gw, dgs, dgw,
                                  selected, windowed)
                acc += tl.dot(ds.to(kt.dtype), kt)
        else:
            kt = tl.load(tile(k, batch, length, ki, head, H, D))
            vt = tl.load(tile(v, batch, length, ki, head, H, D))
            _, ds = gradients(tl.dot(qt, tl.trans(kt)) * scale, tl.dot(gt, tl.trans(vt)), ls, lw, gs, gw, dgs, dgw,
                              selected, windowed)
            acc += tl.dot(ds.to(kt.dtype), kt)
    tl.store(tile(dq, batch, length, qi, head, H, D), (acc * scale * 0.6931471805599453).to(dq.dtype.element_ty))


@triton.autotune(CONFIGS, KEY)
@triton.jit
def backward_kv_kernel(q, k, v, gates, bits, starts, ends, grad, lse_s, lse_w, dgates, dk, dv, scale, length, window,
                       H: tl.constexpr, words: tl.constexpr, D: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr,
                       SKIP: tl.constexpr):
    k0, head, batch = tl.program_id(0) * BK, tl.program_id(1) % H, (tl.program_id(1) // H).to(tl.int64)
    ki = k0 + tl.arange(0, BK)
    kt, vt = tl.load(tile(k, batch, length, ki, head, H, D)), tl.load(tile(v, batch, length, ki, head, H, D))
    acc_k, acc_v = tl.zeros((BK, D), tl.float32), tl.zeros((BK, D), tl.float32)
    end = tl.load(ends + batch * length + k0 + BK - 1)
    for block in range(k0 // BQ, tl.cdiv(end, BQ)):
        qi = block * BQ + tl.arange(0, BQ)
        at = (batch * length + qi) * H + head
        start = tl.load(starts + batch * length + qi)
        causal = (ki[None, :] <= qi[:, None]) & (ki[None, :] >= start[:, None])
        selected = causal & chosen(bits, batch, length, words, qi, ki, k0)
        windowed = causal & (ki[None, :] > qi[:, None] - window)
        needed = True
        if SKIP:
            needed = tl.max(tl.max((selected | windowed).to(tl.int32), 1), 0) > 0
        if needed:
            qt = tl.load(tile(q, batch, length, qi, head, H, D))
            gt = tl.load(tile(grad, batch, length, qi, head, H, D))
            gs, gw = tl.load(gates + at * 3 + 1).to(tl.float32), tl.load(gates + at * 3 + 2).to(tl.float32)
            dgs, dgw = tl.load(dgates + at * 3 + 1), tl.load(dgates + at * 3 + 2)
            ls, lw = tl.load(lse_s + at), tl.load(lse_w + at)
            both, ds = gradients(tl.dot(qt, tl.trans(kt)) * scale, tl.dot(gt, tl.trans(vt)), ls, lw, gs, gw, dgs, dgw,
                                 selected, windowed)
            acc_v += tl.dot(tl.trans(both.to(gt.dtype)), gt)
            acc_k += tl.dot(tl.trans(ds.to(qt.dtype)), qt)
    tl.store(tile(dk, batch, length, ki, head, H, D), (acc_k * scale * 0.6931471805599453).to(dk.dtype.element_ty))
    tl.store(tile(dv, batch, length, ki, head, H, D), acc_v.to(dv.dtype.element_ty))
