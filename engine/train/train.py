"""One leg of training on one GPU.

    python3 train.py --data FOLDER --out FOLDER --seconds 540 --from 0 --to 0.45
    python3 train.py --data FOLDER --out FOLDER --seconds 540 --from 0.45 --to 1 --resume --qat-from 0.6

FOLDER is what prepare.py wrote. Progress goes from 0 to 1 over all legs and sets the learning rate (constant, then
linear to 3 % over the second half) and when the matrices begin to be rounded to Q4_0. A leg ends after its seconds and
leaves checkpoint.pt (weights, and the optimisers' state for a leg that follows at once) and log.jsonl in --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from config import ModelConfig
from evaluate import exact_lines, held_out_rows
from model import Matrix, Model
from muon import Muon
from stream import Batch, Mix, Stream

MTP_ROWS = 4  # the module sees a part of the batch: it costs a second pass over the head
MTP_WEIGHT = 0.2


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--seconds", type=float, required=True)
    p.add_argument("--from", dest="start", type=float, default=0.0)
    p.add_argument("--to", type=float, default=1.0)
    p.add_argument("--decay-from", type=float, default=0.5)
    p.add_argument("--qat-from", type=float, default=2.0)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--length", type=int, default=4096)
    p.add_argument("--rows", type=int, default=16)
    p.add_argument("--yarn", type=float, default=1.0)
    p.add_argument("--context-share", type=float, default=0.25)
    p.add_argument("--attention", default="nsa")
    p.add_argument("--ffn", default="moe")
    p.add_argument("--muon-lr", type=float, default=0.02)
    p.add_argument("--adam-lr", type=float, default=3e-3)
    p.add_argument("--warmup", type=int, default=150)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=14)
    p.add_argument("--lines", type=int, default=200, help="infilling cases per language at the end")
    return p.parse_args()


def optimizers(model: Model, args: argparse.Namespace) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the hidden matrices, AdamW for embedding, norms, router, gates and pooling weights."""
    hidden = [m.weight for n, m in model.named_modules() if isinstance(m, Matrix) and n != "embed"]
    ids = {id(p) for p in hidden}
    rest = [(n, p) for n, p in model.named_parameters() if id(p) not in ids]
    slow = [p for n, p in rest if "cmp_" in n or "gate.bias" in n]
    fast_ = [p for n, p in rest if not ("cmp_" in n or "gate.bias" in n)]
    adam = torch.optim.AdamW(
        [{"params": fast_, "lr": args.adam_lr, "scale": 1.0}, {"params": slow, "lr": args.adam_lr / 10, "scale": 0.1}],
        betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return Muon(hidden, lr=args.muon_lr, weight_decay=0.02), adam


def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean cross entropy over positions, by weight."""
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    w = weights.flatten().float()
    return (losses * w).sum() / w.sum().clamp(min=1)


def head_loss(embedding: Tensor, states: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Loss of normalised states (rows, length, hidden) through the tied head."""
    return weighted_loss(F.linear(states, embedding), targets, weights)


def losses(model: Model, head, tokens: Tensor, starts: Tensor, ends: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token loss, and the MTP module's on the first rows. head: `head_loss`, compiled or not."""
    hidden = model(tokens, starts, ends)
    following = F.pad(tokens[:, 1:], (0, 1))
    embedding = model.embed.value()
    main = head(embedding, model.norm(hidden), following, weights)
    n = MTP_ROWS
    second = F.pad(tokens[:n, 2:], (0, 2))
    both = weights[:n] * (F.pad(weights[:n, 1:], (0, 1)) > 0)
    ahead = model.mtp_hidden(hidden[:n], tokens[:n], starts[:n], ends[:n])
    return main, head(embedding, ahead, second, both)


def compile_blocks(model: Model):
    """Compiles every layer for itself, so that equal layers share one graph (seconds instead of minutes); returns the head."""
    for block in [*model.blocks, model.mtp.block]:
        block.compile(dynamic=False)
    return torch.compile(head_loss, dynamic=False)


def to_gpu(batch: Batch) -> tuple[Tensor, ...]:
    """Tensors of a batch on the GPU: tokens, starts, ends int64, weights f32."""
    arrays = (batch.tokens, batch.starts, batch.ends, batch.weights)
    tensors = [torch.from_numpy(a).pin_memory().cuda(non_blocking=True) for a in arrays]
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


@torch.no_grad()
def held_out_loss(model: Model, rows: list, count: int = 8) -> float:
    """Mean loss over held-out rows, unweighted over all predicted tokens."""
    model.eval()
    total = tokens_seen = 0.0
    for at in range(0, len(rows[0]), count):
        tokens, starts, ends, weights = to_gpu(Batch(*(r[at : at + count] for r in rows)))
        with torch.autocast("cuda", torch.bfloat16):
            logits = model.logits(model.norm(model(tokens, starts, ends)))
        w = (weights > 0).float()
        following = F.pad(tokens[:, 1:], (0, 1))
        total += (weighted_loss(logits, following, w) * w.sum()).item()
        tokens_seen += w.sum().item()
    model.train()
    return total / tokens_seen


def rate(progress: float, step: int, args: argparse.Namespace) -> float:
    """Factor on the learning rates."""
    warm = min(1.0, (step + 1) / args.warmup)
    if progress <= args.decay_from:
        return warm
    return warm * (1 - 0.97 * (progress - args.decay_from) / (1 - args.decay_from))


class Leg:
    """State of a running leg."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        torch.set_float32_matmul_precision("high")
        self.args = args
        cfg = ModelConfig(attention=args.attention, ffn=args.ffn, yarn_factor=args.yarn,
                          context=int(4096 * args.yarn))
        self.model = Model(cfg).cuda().train()
        self.model.set_qat(args.start >= args.qat_from)
        self.muon, self.adam = optimizers(self.model, args)
        self.tokens_before = 0
        if args.resume:
            self.load(args.out / "checkpoint.pt")
        self.head = compile_blocks(self.model)
        self.warm_up()
        self.log = (args.out / "log.jsonl").open("a")
        self.tokenizer = str(args.data / "tokenizer.json")
        self.open_data()

    def warm_up(self) -> None:
        """Compiles by a pass over random tokens; no weight changes. Data may still be in preparation meanwhile."""
        began = time.time()
        for seed in range(3):
            main, ahead = self.forward(random_batch(self.args.rows, self.args.length, seed))
            (main + ahead).backward()
        self.muon.zero_grad(set_to_none=True)
        self.adam.zero_grad(set_to_none=True)
        self.model.balance(0.0)
        torch.cuda.synchronize()
        print(f"compiled in {time.time() - began:.0f} s", flush=True)

    def open_data(self) -> None:
        """Waits for prepare.py's documents and starts the workers."""
        args, began = self.args, time.time()
        while not (args.data / "docs.pkl").exists():
            time.sleep(0.5)
            if time.time() - began > 300:
                raise SystemExit(f"{args.data / 'docs.pkl'}: expected the output of prepare.py, found nothing")
        train, self.held = pickle.loads((args.data / "docs.pkl").read_bytes())
        sizes = {l: sum(len(d.text) for d in train if d.lang == l) for l in {d.lang for d in train}}
        shares = {l: min(1.0, 150e6 / s) if s > 150e6 else min(2.0, (150e6 / s) ** 0.5) for l, s in sizes.items()}
        top = args.length
        mix = Mix(length=top, context_share=args.context_share)
        if top > 4096:
            mix = Mix(top, ((1000, 0.1), (3000, 0.25), (8000, 0.35), (top, 0.3)), args.context_share)
        self.stream = Stream(train, self.tokenizer, mix, shares, args.rows, args.seed, args.workers)
        self.rows = held_out_rows(self.held, self.tokenizer, top, 64 * 4096 // top)
        print(f"data open after {time.time() - began:.0f} s", flush=True)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location="cuda", weights_only=False)
        self.model.load_state_dict(state["model"])
        self.tokens_before = state["tokens"]
        if "muon" in state:
            self.muon.load_state_dict(state["muon"])
            self.adam.load_state_dict(state["adam"])
            self.args.warmup = 1

    def save(self, tokens: int) -> None:
        torch.save({"model": self.model.state_dict(), "tokens": tokens, "config": dataclasses.asdict(self.model.cfg),
                    "muon": self.muon.state_dict(), "adam": self.adam.state_dict()}, self.args.out / "checkpoint.pt")

    def report(self, row: dict) -> None:
        print(json.dumps(row), flush=True)
        self.log.write(json.dumps(row) + "\n")
        self.log.flush()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both losses of a batch."""
        with torch.autocast("cuda", torch.bfloat16):
            return losses(self.model, self.head, *to_gpu(batch))

    def step(self, batch: Batch, factor: float) -> tuple[Tensor, Tensor]:
        """One optimiser step at `factor` of the learning rates."""
        for group in self.muon.param_groups:
            group["lr"] = self.args.muon_lr * factor
        for group in self.adam.param_groups:
            group["lr"] = self.args.adam_lr * factor * group["scale"]
        main, ahead = self.forward(batch)
        (main + MTP_WEIGHT * ahead).backward()
        self.muon.step()
        self.adam.step()
        self.muon.zero_grad(set_to_none=True)
        self.adam.zero_grad(set_to_none=True)
        return main.detach(), ahead.detach()

    @staticmethod
    def balance_step(tokens: int, progress: float) -> float:
        """Change of a router bias: large at first, so that no expert starves, small at the end."""
        return 0.02 if tokens < 40_000_000 else 0.005 if progress < 0.7 else 0.001

    def run(self, began: float) -> None:
        """Steps until the time is over, with a line in the log every 100 steps."""
        args = self.args
        per_step = args.rows * args.length
        deadline = began + args.seconds
        mark = start = time.time()  # of the schedule: compiling comes before the first step
        tokens, step, peak, shown = self.tokens_before, 0, torch.zeros(1), 0
        for batch in self.stream:
            progress = args.start + (args.to - args.start) * min(1.0, (time.time() - start) / (deadline - start))
            if progress >= args.qat_from and not self.model.embed.qat:
                self.model.set_qat(True)
            main, ahead = self.step(batch, rate(progress, step, args))
            if step % 2 == 1:
                peak = torch.maximum(peak.to(main.device), self.model.balance(self.balance_step(tokens, progress)))
            step, tokens = step + 1, tokens + per_step
            if step == 1:
                mark = start = time.time()
            if step % 100 == 0 or step == 20:
                loss = round(main.item(), 4)
                self.report({"step": step, "tokens": tokens, "progress": round(progress, 4), "loss": loss,
                             "mtp": round(ahead.item(), 4), "peak_load": [round(x, 2) for x in peak.tolist()],
                             "tok_s": round((step - shown) * per_step / (time.time() - mark)),
                             "waiting": self.stream.queue.qsize(), "seconds": round(time.time() - began)})
                mark, shown, peak = time.time(), step, torch.zeros(1)
                if not loss < 100:
                    raise SystemExit(f"loss is {loss}")
            if time.time() > deadline:
                break
        self.stream.close()
        self.save(tokens)
        self.finish(tokens)

    def finish(self, tokens: int) -> None:
        """Held-out loss, and exact lines per language."""
        with torch.compiler.set_stance("force_eager"):  # other shapes than in training: not worth compiling
            row = {"tokens": tokens, "held_out_loss": round(held_out_loss(self.model, self.rows), 4)}
            if self.args.lines:
                self.model.eval()
                row["exact"] = {k: round(v, 4) for k, v in exact_lines(
                    self.model, self.held, self.tokenizer, self.args.lines, 4096, "cuda").items()}
        self.report(row)


if __name__ == "__main__":
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    launched = time.time()
    Leg(options).run(launched)
