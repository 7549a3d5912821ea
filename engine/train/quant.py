"""Q4_0 and Q8_0 of GGUF: rounding as in the file, training through it, and the packed bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

GROUP = 32


def round_q4_0(w: Tensor) -> Tensor:
    """Values that Q4_0 would store for w (..., columns); columns a multiple of 32. Scales are rounded to f16."""
    x = w.float().unflatten(-1, (-1, GROUP))
    extreme = x.gather(-1, x.abs().argmax(-1, keepdim=True))
    d = extreme / -8
    inverse = torch.where(d == 0, torch.zeros_like(d), 1 / torch.where(d == 0, torch.ones_like(d), d))
    q = torch.clamp(torch.floor(x * inverse + 8.5), 0, 15) - 8
    return (q * d.half().float()).flatten(-2).to(w.dtype)


@contextlib.contextmanager
def rounded(matrices: list[Tensor], on: bool = True) -> Iterator[None]:
    """Inside, the matrices hold what Q4_0 would store of them; afterwards their own values again.

    A forward and a backward pass inside give straight-through gradients. Nothing of it is seen by compiled layers,
    where rounding once lost its gradient, and a step rounds once instead of in both passes.
    """
    if not on:
        yield
        return
    with torch.no_grad():
        own = torch.cat([m.reshape(-1) for m in matrices])
        _assign(matrices, round_q4_0(own))
    try:
        yield
    finally:
        with torch.no_grad():
            _assign(matrices, own)


def _assign(matrices: list[Tensor], flat: Tensor) -> None:
    pieces = flat.split([m.numel() for m in matrices])
    torch._foreach_copy_(matrices, [p.view_as(m) for p, m in zip(pieces, matrices)])


def pack_q4_0(w: np.ndarray) -> bytes:
    """Bytes of f32 w (..., columns): per 32 values an f16 scale and 16 bytes, low nibbles first half."""
    x = np.ascontiguousarray(w, dtype=np.float32).reshape(-1, GROUP)
    extreme = np.take_along_axis(x, np.abs(x).argmax(1)[:, None], 1)
    d = extreme / np.float32(-8)
    with np.errstate(divide="ignore"):
        inverse = np.where(d == 0, np.float32(0), np.float32(1) / d)
    q = np.clip(np.floor(x * inverse + np.float32(8.5)), 0, 15).astype(np.uint8)
    out = np.empty((x.shape[0], 18), np.uint8)
    out[:, :2] = d.astype(np.float16).view(np.uint8)
    out[:, 2:] = q[:, :16] | (q[:, 16:] << 4)
    return out.tobytes()


def unpack_q4_0(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `pack_q4_0`: f32 array of `shape`."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, 18)
    d = raw[:, :2].copy().view(np.float16).astype(np.float32)
    q = np.concatenate([raw[:, 2:] & 15, raw[:, 2:] >> 4], 1).astype(np.float32) - 8
    return (q * d).reshape(shape)
