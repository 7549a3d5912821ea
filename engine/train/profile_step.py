"""Time of one training step on random tokens, and the kernels it goes to: `python3 profile_step.py [--dense] [--rounded]`."""

from __future__ import annotations

import argparse
import time

import torch

import train
from batches import random_batch, to_gpu
from config import ModelConfig
from model import Model
from quant import rounded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--rounded", action="store_true")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=4096)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    model = Model(ModelConfig(attention="dense" if args.dense else "nsa")).cuda().train()
    matrices, device = model.matrices(), torch.device("cuda")
    muon, adam = train.optimizers(model, 0.02, 3e-3)
    head = train.compile_blocks(model)

    def step(seed: int) -> None:
        batch = to_gpu(random_batch(args.rows, args.length, seed), device)
        with rounded(matrices, args.rounded):
            with torch.autocast("cuda", torch.bfloat16):
                main_loss, ahead = train.losses(model, head, *batch)
            (main_loss + ahead).backward()
        for optimizer in (muon, adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    began = time.time()
    step(0)
    torch.cuda.synchronize()
    print(f"first step {time.time() - began:.1f} s")
    for i in range(4):
        step(i)
    torch.cuda.synchronize()
    began = time.time()
    for i in range(10):
        step(i)
    torch.cuda.synchronize()
    ms = (time.time() - began) * 100
    print(f"{ms:.1f} ms a step, {args.rows * args.length / ms:.0f} K tok/s, {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for i in range(3):
            step(i)
        torch.cuda.synchronize()
    rows = sorted(profile.key_averages(), key=lambda e: -e.self_device_time_total)[:28]
    for row in rows:
        print(f"{row.self_device_time_total / 3000:8.2f} ms {row.count / 3:6.0f} x  {row.key[:100]}")


if __name__ == "__main__":
    main()
