"""GPU paths of the two hot spots: packed attention through `kernels.py`, experts through grouped products.

Same results as the references in attention.py and model.py up to bf16 rounding; test_gpu.py compares them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

import kernels
import pair_kernels
from config import ModelConfig

LOG2E = 1.4426950408889634


def _grid(rows: int, per: str, batch: int, heads: int):
    """Launch grid: tiles of `rows` (tile size from the tuned configuration) by heads of the batch."""
    return lambda meta: (triton.cdiv(rows, meta[per]), batch * heads)


@torch.library.custom_op("tidepool::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, ends: Tensor, scale: float,
           pooled: bool) -> tuple[Tensor, Tensor]:
    """Attention with one softmax over packed rows, and its log-sum-exp. Shapes: kernels.py."""
    batch, length, heads, dim = q.shape
    out, lse = torch.empty_like(q), q.new_empty((batch, length, heads), dtype=torch.float32)
    kernels.forward_kernel[_grid(length, "BQ", batch, heads)](
        q, k, v, starts, out, lse, scale * LOG2E, length, k.shape[1], heads, pooled, dim)
    return out, lse


@attend.register_fake
def _(q, k, v, starts, ends, scale, pooled):
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op("tidepool::attend_backward", mutates_args=())
def attend_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, starts: Tensor,
                    ends: Tensor, scale: float, pooled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    grad = grad.contiguous()
    batch, length, heads, dim = q.shape
    n_keys = k.shape[1]
    dq, dk, dv, delta = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), torch.empty_like(lse)
    last = (scale * LOG2E, length, n_keys, heads, pooled, dim)
    kernels.backward_q_kernel[_grid(length, "BQ", batch, heads)](q, k, v, starts, out, grad, lse, delta, dq, *last)
    kernels.backward_kv_kernel[_grid(n_keys, "BK", batch, heads)](
        q, k, v, starts, ends, grad, lse, delta, dk, dv, *last)
    return dq, dk, dv


@attend_backward.register_fake
def _(grad, q, k, v, out, lse, starts, ends, scale, pooled):
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx, inputs, output):
    q, k, v, starts, ends, ctx.scale, ctx.pooled = inputs
    ctx.save_for_backward(q, k, v, output[0], output[1], starts, ends)


def _backward(ctx, grad, _grad_lse):
    grads = attend_backward(grad, *ctx.saved_tensors, ctx.scale, ctx.pooled)
    return (*grads, None, None, None, None)


attend.register_autograd(_backward, setup_context=_save)


@torch.library.custom_op("tidepool::attend_pair", mutates_args=())
def attend_pair(q: Tensor, k: Tensor, v: Tensor, gates: Tensor, bits: Tensor, starts: Tensor, ends: Tensor,
                scale: float, window: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gated sum of the selected and the window branch, each branch alone, and their log-sum-exps."""
    batch, length, heads, dim = q.shape
    out, out_s, out_w = torch.empty_like(q), torch.empty_like(q), torch.empty_like(q)
    lse_s = q.new_empty((batch, length, heads), dtype=torch.float32)
    lse_w = torch.empty_like(lse_s)
    pair_kernels.forward_kernel[_grid(length, "BQ", batch, heads)](
        q, k, v, gates, bits, starts, out, out_s, out_w, lse_s, lse_w, scale * LOG2E, length, window, heads,
        bits.shape[-1], dim)
    return out, out_s, out_w, lse_s, lse_w


@attend_pair.register_fake
def _(q, k, v, gates, bits, starts, ends, scale, window):
    lse = [q.new_empty(q.shape[:3], dtype=torch.float32) for _ in range(2)]
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape), lse[0], lse[1]


@torch.library.custom_op("tidepool::attend_pair_backward", mutates_args=())
def attend_pair_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, gates: Tensor, out_s: Tensor, out_w: Tensor,
                         lse_s: Tensor, lse_w: Tensor, bits: Tensor, starts: Tensor, ends: Tensor, scale: float,
                         window: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and of the gates (f32)."""
    grad = grad.contiguous()
    batch, length, heads, dim = q.shape
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    dgates = torch.empty_like(gates, dtype=torch.float32)
    last = (scale * LOG2E, length, window, heads, bits.shape[-1], dim)
    pair_kernels.backward_q_kernel[_grid(length, "BQ", batch, heads)](
        q, k, v, gates, bits, starts, out_s, out_w, grad, lse_s, lse_w, dq, dgates, *last)
    pair_kernels.backward_kv_kernel[_grid(length, "BK", batch, heads)](
        q, k, v, gates, bits, starts, ends, grad, lse_s, lse_w, dgates, dk, dv, *last)
    return dq, dk, dv, dgates


@attend_pair_backward.register_fake
def _(grad, q, k, v, gates, out_s, out_w, lse_s, lse_w, bits, starts, ends, scale, window):
    return (q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape),
            gates.new_empty(gates.shape, dtype=torch.float32))


def _save_pair(ctx, inputs, output):
    q, k, v, gates, bits, starts, ends, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(q, k, v, gates, *output[1:], bits, starts, ends)


def _backward_pair(ctx, grad, *_unused):
    dq, dk, dv, dgates = attend_pair_backward(grad, *ctx.saved_tensors, ctx.scale, ctx.window)
    return dq, dk, dv, dgates.to(ctx.saved_tensors[3].dtype), None, None, None, None, None


attend_pair.register_autograd(_backward_pair, setup_context=_save_pair)


@torch.library.custom_op("tidepool::select", mutates_args=())
def select(q: Tensor, kc: Tensor, lse: Tensor, starts: Tensor, scale: float, n: int, init: int, local: int) -> Tensor:
    """Selected blocks as bits (batch, length, words) int32; no gradient flows through the choice."""
    batch, length, heads, dim = q.shape
    n_keys = kc.shape[1]
    words = max(1, triton.next_power_of_2(length // 64) // 32)
    mass = torch.empty(batch, length, n_keys, device=q.device, dtype=torch.float32)
    kernels.pooled_mass_kernel[(length // 64, n_keys // 64, batch)](
        q, kc, starts, lse, mass, scale * LOG2E, length, n_keys, heads, dim, 64, num_warps=4)
    bits = torch.empty(batch, length, words, device=q.device, dtype=torch.int32)
    kernels.select_kernel[(length // 16, batch)](
        mass, starts, bits, length, n_keys, words, words * 32, n, init, local, 16, num_warps=4)
    return bits


@select.register_fake
def _(q, kc, lse, starts, scale, n, init, local):
    words = max(1, triton.next_power_of_2(q.shape[1] // 64) // 32)
    return q.new_empty((q.shape[0], q.shape[1], words), dtype=torch.int32)


def attention(cfg: ModelConfig, q: Tensor, k: Tensor, v: Tensor, kc: Tensor | None, vc: Tensor | None, gates: Tensor,
              doc_start: Tensor, doc_end: Tensor) -> Tensor:
    """Same contract as attention.reference_attention; lengths are multiples of 2048 (128 pooled rows)."""
    q, k, v = (x.to(torch.bfloat16).contiguous() for x in (q, k, v))
    starts, ends = doc_start.int(), doc_end.int()
    scale = cfg.softmax_scale()
    if cfg.attention == "dense":
        return attend(q, k, v, starts, ends, scale, False)[0]
    assert kc is not None and vc is not None
    kc, vc = (x.to(torch.bfloat16).contiguous() for x in (kc, vc))
    o_cmp, lse = attend(q, kc, vc, starts, ends, scale, True)
    bits = select(q.detach(), kc.detach(), lse.detach(), starts, scale, cfg.select_n, cfg.init_blocks,
                  cfg.local_blocks)
    gates = gates.contiguous()
    o_pair = attend_pair(q, k, v, gates, bits, starts, ends, scale, cfg.window)[0]
    return o_pair + gates[..., :1].to(o_cmp.dtype) * o_cmp


class Permute(torch.autograd.Function):
    """Rows of x in another order; unlike indexing, the gradient needs no atomic adds."""

    @staticmethod
    def forward(ctx, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse, order)
        return x[order]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        inverse, _ = ctx.saved_tensors
        return grad[inverse], None, None


def experts(x: Tensor, ids: Tensor, weights: Tensor, gate: Tensor, up: Tensor,
            down: Tensor) -> tuple[Tensor, Tensor]:
    """Routed experts of x (tokens, hidden): tokens sorted by expert, three grouped products. Returns sum and load."""
    tokens, k = ids.shape
    n_experts = gate.shape[0]
    flat = ids.flatten()
    order = torch.sort(flat.to(torch.uint8), stable=True).indices
    inverse = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=x.device))
    counts = (flat[:, None] == torch.arange(n_experts, device=x.device)).sum(0)
    offsets = counts.cumsum(0).int()
    repeated = x.to(torch.bfloat16)[:, None].expand(tokens, k, x.shape[1]).reshape(tokens * k, x.shape[1])
    rows = Permute.apply(repeated, order, inverse)
    both = torch.cat((gate, up), 1).to(torch.bfloat16)
    h = torch._grouped_mm(rows, both.transpose(-2, -1), offs=offsets)
    left, right = h.chunk(2, -1)
    y = torch._grouped_mm(F.silu(left) * right, down.to(torch.bfloat16).transpose(-2, -1), offs=offsets)
    y = Permute.apply(y, inverse, order).view(tokens, k, -1)
    return (y * weights[..., None].to(y.dtype)).sum(1).to(x.dtype), counts.float()
