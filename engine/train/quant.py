"""Q4_0 and Q8_0 of GGUF: rounding as in the file, straight-through gradients, and the packed bytes."""

from __future__ import annotations

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


def fake_q4_0(w: Tensor) -> Tensor:
    """Rounded in the forward pass, straight through in the backward pass.

    Written with `detach`: as an autograd.Function it silently lost its gradient inside compiled layers.
    """
    return w + (round_q4_0(w) - w).detach()


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
