"""Native sparse attention on latent rows, in plain PyTorch: the reference that everything else is compared with.

Rows are packed: several documents share one row of the batch, each starting at a multiple of the selection block,
`doc_start` (batch, length) holds for every position where its document begins, `doc_end` where it ends (exclusive).
"""

from __future__ import annotations

import torch
from torch import Tensor

from config import ModelConfig


def rotate(x: Tensor, position: Tensor, inv_freq: Tensor) -> Tensor:
    """Rotary embedding of interleaved pairs. x (batch, length, [heads,] rope), position (length) -> same shape as x."""
    angle = position.to(torch.float32)[:, None] * inv_freq  # (length, rope / 2)
    if x.dim() == 4:
        angle = angle[:, None]
    cos, sin = angle.cos(), angle.sin()
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def pool_rows(rows: Tensor, weight: Tensor, stride: int) -> Tensor:
    """φ: weighted sum of `cmp_len` rows at every stride. rows (batch, length, width), weight (cmp_len, width).

    Returns (batch, length / stride, width); the last pooled row has no complete block and is zero.
    """
    batch, length, width = rows.shape
    parts = rows.float().view(batch, length // stride, stride, width)
    n_parts = weight.shape[0] // stride
    n_blocks = length // stride - n_parts + 1
    out = parts.new_zeros(batch, length // stride, width)
    for part in range(n_parts):
        piece = (parts * weight[part * stride : (part + 1) * stride]).sum(2)
        out = out + torch.nn.functional.pad(piece[:, part : part + n_blocks], (0, 0, 0, n_parts - 1))
    return out.to(rows.dtype)


def visible_pooled(cfg: ModelConfig, doc_start: Tensor) -> Tensor:
    """Which pooled rows a position may see: inside its document and complete. (batch, length, length / stride)."""
    length = doc_start.shape[1]
    t = torch.arange(length, device=doc_start.device)
    first = torch.arange(length // cfg.cmp_stride, device=doc_start.device) * cfg.cmp_stride
    return (first + cfg.cmp_len - 1 <= t[:, None]) & (first >= doc_start[..., None])


def block_scores(cfg: ModelConfig, p: Tensor) -> Tensor:
    """Eq. 9 and 10 of NSA: p (batch, heads, length, n_pooled) -> (batch, length, n_blocks), overlap-weighted sums."""
    per = cfg.select_block // cfg.cmp_stride
    overlap = cfg.cmp_len // cfg.cmp_stride
    summed = p.float().sum(1)
    batch, length, n_pooled = summed.shape
    out = summed.new_zeros(batch, length, n_pooled // per)
    for m in range(per):
        for n in range(overlap):
            shift = m - n  # pooled row per * j + shift overlaps block j by one stride
            padded = torch.nn.functional.pad(summed, (overlap, per))
            out = out + padded[..., overlap + shift :: per][..., : n_pooled // per]
    return out


def select_blocks(cfg: ModelConfig, scores: Tensor, doc_start: Tensor) -> Tensor:
    """Chosen selection blocks: forced first and local ones, then the best, ties to the lowest index.

    scores (batch, length, n_blocks) -> bool of the same shape.
    """
    batch, length, n_blocks = scores.shape
    own = torch.arange(length, device=scores.device)[:, None] // cfg.select_block
    first = (doc_start // cfg.select_block)[..., None]
    block = torch.arange(n_blocks, device=scores.device)
    allowed = (block <= own) & (block >= first)
    forced = allowed & ((block < first + cfg.init_blocks) | (block > own - cfg.local_blocks))
    ranked = scores.masked_fill(forced, float("inf")).masked_fill(~allowed, float("-inf"))
    order = torch.sort(ranked, dim=-1, descending=True, stable=True).indices
    chosen = torch.zeros_like(allowed)
    chosen.scatter_(-1, order[..., : cfg.select_n], True)
    return chosen & allowed


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Softmax attention; a query that may see nothing gets zeros. mask (batch, length, n_keys).

    q (batch, heads, length, qk), k, v (batch, heads, n_keys, *). Returns output and probabilities.
    """
    s = (q @ k.transpose(-1, -2)).float() * scale
    s = s.masked_fill(~mask[:, None], float("-inf"))
    top = s.amax(-1, keepdim=True).clamp(min=-1e30)
    e = (s - top).exp()
    p = e / e.sum(-1, keepdim=True).clamp(min=1e-30)
    return p.to(v.dtype) @ v, p


def reference_attention(
    cfg: ModelConfig, q: Tensor, k: Tensor, v: Tensor, kc: Tensor | None, vc: Tensor | None, gates: Tensor, doc_start: Tensor
) -> Tensor:
    """Gated sum of the branches, (batch, length, heads, v). gates (batch, length, heads, 3) after the sigmoid.

    q, k, v (batch, length, heads, *); kc, vc (batch, n_pooled, heads, *).
    """
    q, k, v, kc, vc = (x if x is None else x.transpose(1, 2) for x in (q, k, v, kc, vc))
    length = q.shape[2]
    t = torch.arange(length, device=q.device)
    causal = (t <= t[:, None]) & (t >= doc_start[..., None])
    scale = cfg.softmax_scale()
    if cfg.attention == "dense":
        return masked_attention(q, k, v, causal, scale)[0].transpose(1, 2)
    g = gates.permute(3, 0, 2, 1)[..., None]
    o_cmp, p = masked_attention(q, kc, vc, visible_pooled(cfg, doc_start), scale)
    chosen = select_blocks(cfg, block_scores(cfg, p.detach()), doc_start)
    o_slc, _ = masked_attention(q, k, v, causal & chosen.repeat_interleave(cfg.select_block, -1), scale)
    o_win, _ = masked_attention(q, k, v, causal & (t > t[:, None] - cfg.window), scale)
    return (g[0] * o_cmp + g[1] * o_slc + g[2] * o_win).transpose(1, 2)
