"""Muon for matrices (Jordan et al., 2024): momentum whose steps are orthogonalised by Newton-Schulz iterations."""

from __future__ import annotations

import torch
from torch import Tensor


def orthogonalize(g: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrices of a stack g (n, rows, columns), approximately, in bf16."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Parameters are (rows, columns) or stacks of such; those of one shape are stepped together."""

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(tuple(p.shape[-2:]), []).append(p)
            for (rows, columns), params in by_shape.items():
                stacks = [p.grad.reshape(-1, rows, columns) for p in params]
                counts = [s.shape[0] for s in stacks]
                grad = torch.cat(stacks)
                state = self.state[params[0]]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(grad)
                buffer = state["momentum"]
                buffer.lerp_(grad, 1 - group["momentum"])
                update = orthogonalize(grad.lerp(buffer, group["momentum"]))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for p, piece in zip(params, update.split(counts)):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(piece.reshape(p.shape).to(p.dtype), alpha=-scale)
