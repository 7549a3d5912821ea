"""Several GPUs of one machine: a process for each (run.sh starts them), with the same weights and other rows.

Gradients are averaged by hand in one piece: 42 M values take a millisecond over NVLink, next to a step of 80.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor


def join() -> tuple[int, int]:
    """Meets the other processes. Returns this one's number and how many there are; (0, 1) without RANK and WORLD_SIZE."""
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if count > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(rank)
            dist.init_process_group("cpu:gloo,cuda:nccl")
        else:
            dist.init_process_group("gloo")
    return rank, count


def average(tensors: list[Tensor]) -> None:
    """Gives every tensor its mean over the processes."""
    if not dist.is_initialized() or not tensors:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    pieces = flat.split([t.numel() for t in tensors])
    torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(pieces, tensors)])


def share(tensors: list[Tensor]) -> None:
    """Gives every process the first one's values."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def agree(value: float) -> float:
    """The first process's value, which does not wait for any GPU."""
    if not dist.is_initialized():
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return box.item()
