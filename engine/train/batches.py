"""Batches on their way to the GPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stream import Batch


def to_gpu(batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
    """Tensors of a batch on the device: tokens, starts, ends int64, weights f32."""
    tensors = [torch.from_numpy(a) for a in (batch.tokens, batch.starts, batch.ends, batch.weights)]
    if device.type == "cuda":
        tensors = [t.pin_memory().to(device, non_blocking=True) for t in tensors]
    return (*(t.long() for t in tensors[:3]), tensors[3].float())


def random_batch(rows: int, length: int, seed: int) -> Batch:
    """Random tokens in documents of 300 to 4000 tokens: for warming up and for timing."""
    rng = np.random.default_rng(seed)
    out = Batch(*(np.zeros((rows, length), np.int32) for _ in range(4)))
    out.tokens[:] = rng.integers(8, 16384, (rows, length))
    out.weights[:] = 1
    for r in range(rows):
        at = 0
        while at < length:
            end = min(at + 64 * int(np.exp(rng.uniform(np.log(5), np.log(63)))), length)
            out.starts[r, at:end], out.ends[r, at:end] = at, end
            at = end
    return out
