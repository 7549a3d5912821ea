"""GPU paths against the references: `python3 test_gpu.py` on a machine with a CUDA GPU and Triton. Prints each error."""

from __future__ import annotations

import dataclasses
import sys
import time

import torch

import fast
from attention import block_scores, masked_attention, reference_attention, select_blocks, visible_pooled
from config import ModelConfig
from model import MixtureOfExperts, Model

FAILED = []


def check(name: str, got: torch.Tensor, want: torch.Tensor, limit: float) -> None:
    """Relative error ||got - want|| / ||want||, which NaN never passes."""
    error = ((got.double() - want.double()).norm() / want.double().norm().clamp(min=1e-30)).item()
    good = error <= limit
    print(f"{'ok  ' if good else 'FAIL'} {name}: {error:.2e} (limit {limit:.0e})", flush=True)
    if not good:
        FAILED.append(name)


def documents(batch: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random packed rows: start and end of each position's document, starts at multiples of 64."""
    rng = torch.Generator().manual_seed(seed)
    starts, ends = torch.zeros(batch, length, dtype=torch.long), torch.zeros(batch, length, dtype=torch.long)
    for b in range(batch):
        at = 0
        while at < length:
            size = min(64 * int(torch.randint(1, length // 64 + 1, (1,), generator=rng)), length - at)
            starts[b, at : at + size], ends[b, at : at + size] = at, at + size
            at += size
    return starts.cuda(), ends.cuda()


def branch_inputs(cfg: ModelConfig, length: int, seed: int) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    sizes = [length] * 3 + [length // 16] * 2
    return [torch.randn(2, n, cfg.heads, 64, device="cuda").bfloat16() for n in sizes]


def test_attention(length: int) -> None:
    cfg = dataclasses.replace(ModelConfig(), window=200 if length == 2048 else 512)
    starts, ends = documents(2, length, length)
    inputs = branch_inputs(cfg, length, length)
    gates = torch.rand(2, length, cfg.heads, 3, device="cuda")
    grad = torch.randn_like(inputs[0])
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        gates = gates.detach().requires_grad_()
        if dtype == torch.bfloat16:
            out = fast.attention(cfg, *leaves, gates, starts, ends)
        else:
            out = with_fast_choice(cfg, leaves, gates, starts, ends)
        out.backward(grad.to(dtype))
        results.append([out, gates.grad] + [x.grad for x in leaves])
    for name, a, b in zip(("out", "dgates", "dq", "dk", "dv", "dkc", "dvc"), *results):
        check(f"attention {length} {name}", a, b, 1.5e-2)


def with_fast_choice(cfg, leaves, gates, starts, ends):
    """The reference with the fast path's choice of blocks, so that near-ties do not blur the comparison."""
    half = [x.detach().bfloat16() for x in leaves]
    scale, length = cfg.softmax_scale(), leaves[0].shape[1]
    lse = fast.attend(half[0], half[3], half[4], starts.int(), ends.int(), scale, True)[1]
    bits = fast.select(half[0], half[3], lse, starts.int(), scale, cfg.select_n, cfg.init_blocks, cfg.local_blocks)
    q, k, v, kc, vc = (x.transpose(1, 2) for x in leaves)
    o_cmp, p = masked_attention(q, kc, vc, visible_pooled(cfg, starts), scale)
    block = torch.arange(length // 64, device="cuda")
    chosen = ((bits[..., block // 32] >> (block % 32)) & 1).bool()
    want = select_blocks(cfg, block_scores(cfg, p.detach()), starts)
    check(f"selection {length}: share of differing choices", 1 + (chosen != want).float().mean(), torch.ones(()).cuda(), 2e-3)
    check(f"selection {length}: blocks per query", chosen.sum(-1).float(), want.sum(-1).float(), 0)
    t = torch.arange(length, device="cuda")
    causal = (t <= t[:, None]) & (t >= starts[..., None])
    o_slc, _ = masked_attention(q, k, v, causal & chosen.repeat_interleave(64, -1), scale)
    o_win, _ = masked_attention(q, k, v, causal & (t > t[:, None] - cfg.window), scale)
    g = gates.permute(3, 0, 2, 1)[..., None]
    return (g[0] * o_cmp + g[1] * o_slc + g[2] * o_win).transpose(1, 2)


def test_dense() -> None:
    cfg = dataclasses.replace(ModelConfig(), attention="dense")
    starts, ends = documents(2, 2048, 3)
    q, k, v, kc, vc = branch_inputs(cfg, 2048, 3)
    got = fast.attention(cfg, q, k, v, None, None, torch.empty(0), starts, ends)
    check("dense", got, reference_attention(cfg, *(x.float() for x in (q, k, v, kc, vc)), torch.empty(0), starts), 1e-2)


def test_experts() -> None:
    torch.manual_seed(0)
    moe = MixtureOfExperts(ModelConfig()).cuda()
    with torch.no_grad():
        moe.down.weight.mul_(20)
    x = torch.randn(3001, 384, device="cuda")
    ids, weights = moe.route(x)
    grads = []
    for path in (0, 1):
        moe.zero_grad()
        leaf = x.clone().requires_grad_()
        args = (moe.gate.weight, moe.up.weight, moe.down.weight)
        out, load = fast.experts(leaf, ids, weights.detach(), *args) if path else moe.routed_reference(leaf, ids, weights.detach())
        out.square().mean().backward()
        grads.append([out, load, leaf.grad] + [p.grad.clone() for p in args])
    for name, b, a in zip(("out", "load", "dx", "dgate", "dup", "ddown"), *grads):
        check(f"experts {name}", a, b, 2e-2)


def test_compiled_layer() -> None:
    """A compiled layer, as it trains, against the plain one: output, and the gradient of every parameter."""
    torch.manual_seed(1)
    cfg = ModelConfig()
    layer = Model(dataclasses.replace(cfg, layers=2)).cuda().train().blocks[1]
    with torch.no_grad():
        layer.attn.out.weight.mul_(10)
        layer.ffn.down.weight.mul_(10)
    x = torch.randn(2, 2048, cfg.hidden, device="cuda")
    starts, ends = documents(2, 2048, 5)
    inv_freq = torch.tensor(cfg.inv_freq(), device="cuda")
    results = []
    for run in (torch.compile(layer, dynamic=False), layer):
        layer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            out = run(x, starts, ends, inv_freq)
        out.float().square().mean().backward()
        results.append({"out": out} | {n: p.grad.clone() for n, p in layer.named_parameters()})
    for name in results[0]:
        if results[1][name].norm() == 0:
            FAILED.append(name)
        check(f"compiled layer {name}", results[0][name], results[1][name], 3e-2)


if __name__ == "__main__":
    began = time.time()
    for n in (2048, 4096):
        test_attention(n)
    test_dense()
    test_experts()
    test_compiled_layer()
    print(f"{'FAILED ' + ', '.join(FAILED) if FAILED else 'all equal'} in {time.time() - began:.1f} s")
    sys.exit(1 if FAILED else 0)
