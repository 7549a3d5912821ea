"""One leg of training, on one GPU or several (ranks.py).

    python3 train.py --data FOLDER --out FOLDER --name plain --seconds 540 --to 0.9 --round-from 0.6
    python3 train.py --data FOLDER --out FOLDER --name long --seconds 60 --from 0.9 --resume FOLDER/plain.pt --length 16384

FOLDER is what prepare.py wrote. Progress goes from 0 to 1 over all legs and sets the learning rate (constant, then
linear to 3 %) and when the matrices begin to be rounded to Q4_0. A leg ends when its time is over and leaves in --out,
under its name: .pt (weights, and the optimisers' state for a leg that follows), .gguf (the model file), .jsonl (its log).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pickle
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import ranks
from batches import random_batch, to_gpu
from config import ModelConfig
from evaluate import exact_lines, held_out_rows
from export import tokenizer_metadata, write_model
from model import Matrix, MixtureOfExperts, Model
from muon import Muon
from quant import rounded
from stream import Batch, Mix, Stream

MTP_SHARE = 8  # the module sees one row in so many: it costs a second pass over the head
MTP_WEIGHT = 0.2
LONGEST_WAIT = 900  # seconds, for what another process prepares


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--name", default="leg")
    p.add_argument("--seconds", type=float, default=0.0, help="of training, compiling not counted")
    p.add_argument("--tokens", type=float, default=0.0, help="millions of this leg instead of a time: for twins")
    p.add_argument("--deadline", type=Path, help="file with the Unix time at which all legs end; waited for")
    p.add_argument("--spare", type=float, default=0.0, help="end so many seconds before the deadline")
    p.add_argument("--from", dest="start", type=float, default=0.0)
    p.add_argument("--to", type=float, default=1.0)
    p.add_argument("--decay-from", type=float, default=0.5)
    p.add_argument("--round-from", type=float, default=2.0)
    p.add_argument("--resume", type=Path, help="checkpoint of the leg before; waited for")
    p.add_argument("--length", type=int, default=4096)
    p.add_argument("--rows", type=int, default=16, help="of each GPU")
    p.add_argument("--yarn", type=float, default=1.0)
    p.add_argument("--context-share", type=float, default=0.25)
    p.add_argument("--attention", default="nsa")
    p.add_argument("--ffn", default="moe")
    p.add_argument("--muon-lr", type=float, default=0.02)
    p.add_argument("--adam-lr", type=float, default=3e-3)
    p.add_argument("--warmup", type=int, default=150)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--workers", type=int, default=12)
    p.add_argument("--lines", type=int, default=0, help="infilling cases per language at the end")
    return p.parse_args()


def optimizers(model: Model, muon_lr: float, adam_lr: float) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the hidden matrices, AdamW for embedding, norms, router, gates and pooling weights."""
    hidden = [m.weight for n, m in model.named_modules() if isinstance(m, Matrix) and n != "embed"]
    ids = {id(p) for p in hidden}
    rest = [(n, p) for n, p in model.named_parameters() if id(p) not in ids]
    slow = [p for n, p in rest if "cmp_" in n or "gate.bias" in n]
    fast_ = [p for n, p in rest if not ("cmp_" in n or "gate.bias" in n)]
    adam = torch.optim.AdamW(
        [{"params": fast_, "lr": adam_lr, "scale": 1.0}, {"params": slow, "lr": adam_lr / 10, "scale": 0.1}],
        betas=(0.9, 0.95), weight_decay=0.0, fused=torch.cuda.is_available())
    return Muon(hidden, lr=muon_lr, weight_decay=0.02), adam


def head_loss(embedding: Tensor, states: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean cross entropy by weight, of normalised states (rows, length, hidden) through the tied head."""
    logits = F.linear(states, embedding)
    every = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    w = weights.flatten().float()
    return (every * w).sum() / w.sum().clamp(min=1)


def losses(model: Model, head, tokens: Tensor, starts: Tensor, ends: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Next-token loss, and the MTP module's on the first rows. head: `head_loss`, compiled or not."""
    hidden = model(tokens, starts, ends)
    following = F.pad(tokens[:, 1:], (0, 1))
    main = head(model.embed.weight, model.norm(hidden), following, weights)
    n = max(1, tokens.shape[0] // MTP_SHARE)
    second = F.pad(tokens[:n, 2:], (0, 2))
    both = weights[:n] * (F.pad(weights[:n, 1:], (0, 1)) > 0)
    ahead = model.mtp_hidden(hidden[:n], tokens[:n], starts[:n], ends[:n])
    return main, head(model.embed.weight, ahead, second, both)


def compile_blocks(model: Model):
    """Compiles every layer for itself, so that equal layers share one graph (seconds instead of minutes); returns the head."""
    for block in [*model.blocks, model.mtp.block]:
        block.compile(dynamic=False)
    return torch.compile(head_loss, dynamic=False)


def wait_for(path: Path) -> None:
    """Returns when the file is there; it appears whole, by a rename."""
    began = time.time()
    while not path.exists():
        if time.time() - began > LONGEST_WAIT:
            raise SystemExit(f"{path}: expected within {LONGEST_WAIT} s, found nothing")
        time.sleep(0.2)


def rate(progress: float, step: int, args: argparse.Namespace) -> float:
    """Factor on the learning rates."""
    warm = min(1.0, (step + 1) / args.warmup)
    if progress <= args.decay_from:
        return warm
    return warm * (1 - 0.97 * (progress - args.decay_from) / (1 - args.decay_from))


def balance_step(tokens: int, progress: float) -> float:
    """Change of a router bias: large at first, so that no expert starves, small at the end.

    A leg that resumes from a model file counts its tokens from 0, but its biases are settled: progress tells.
    """
    return 0.02 if tokens < 40_000_000 and progress < 0.3 else 0.005 if progress < 0.7 else 0.001


class Leg:
    """State of a running leg."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rank, self.count = ranks.join()
        torch.manual_seed(args.seed)
        torch.set_float32_matmul_precision("high")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        cfg = ModelConfig(attention=args.attention, ffn=args.ffn, yarn_factor=args.yarn, context=int(4096 * args.yarn))
        self.model = Model(cfg).to(device).train()
        self.mixtures = [b.ffn for b in self.model.blocks if isinstance(b.ffn, MixtureOfExperts)]
        self.matrices = self.model.matrices()
        self.muon, self.adam = optimizers(self.model, args.muon_lr, args.adam_lr)
        self.rounds = False
        self.tokens_before = 0
        self.head = compile_blocks(self.model)
        self.warm_up()
        self.open_data()
        if args.resume:
            wait_for(args.resume)
            self.load(args.resume)
        ranks.share([*self.model.parameters(), *self.model.buffers()])

    def warm_up(self) -> None:
        """Compiles by a pass over random tokens; no weight changes. Data may still be in preparation meanwhile."""
        began = time.time()
        for seed in range(3):
            main, ahead = self.forward(random_batch(self.args.rows, self.args.length, seed))
            (main + ahead).backward()
        self.clear_gradients()
        self.clear_loads()
        print(f"rank {self.rank}: loss {main.item():.2f} on random tokens, compiled in {time.time() - began:.0f} s", flush=True)

    def open_data(self) -> None:
        """Waits for prepare.py's documents and starts the workers."""
        args, began = self.args, time.time()
        wait_for(args.data / "docs.pkl")
        train, self.held = pickle.loads((args.data / "docs.pkl").read_bytes())
        sizes = {l: sum(len(d.text) for d in train if d.lang == l) for l in {d.lang for d in train}}
        shares = {l: min(1.0, 150e6 / s) if s > 150e6 else min(2.0, (150e6 / s) ** 0.5) for l, s in sizes.items()}
        top = args.length
        mix = Mix(length=top, context_share=args.context_share)
        if top > 4096:
            mix = Mix(top, ((1000, 0.1), (3000, 0.25), (8000, 0.35), (top, 0.3)), args.context_share)
        self.tokenizer = str(args.data / "tokenizer.json")
        self.stream = Stream(train, self.tokenizer, mix, shares, args.rows, args.seed, args.workers,
                             (self.rank, self.count))
        if self.rank == 0:
            self.rows = held_out_rows(self.held, self.tokenizer, top, 64 * 4096 // top)
            self.rows[3] = (self.rows[3] > 0).astype("int32")  # every token counts once
        print(f"rank {self.rank}: data open after {time.time() - began:.0f} s", flush=True)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=next(self.model.parameters()).device, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.tokens_before = state["tokens"]
        if "muon" in state:
            self.muon.load_state_dict(state["muon"])
            self.adam.load_state_dict(state["adam"])
            self.args.warmup = 1

    def save(self, tokens: int) -> None:
        """The checkpoint first: the next leg waits for it."""
        cfg, path = self.model.cfg, self.args.out / self.args.name
        state = {k: v.detach().cpu() for k, v in self.model.state_dict().items()}
        part = path.with_suffix(".part")
        torch.save({"model": state, "tokens": tokens, "config": dataclasses.asdict(cfg),
                    "muon": self.muon.state_dict(), "adam": self.adam.state_dict()}, part)
        part.rename(path.with_suffix(".pt"))
        write_model(cfg, state, tokenizer_metadata(Path(self.tokenizer)), part)
        part.rename(path.with_suffix(".gguf"))

    def report(self, row: dict) -> None:
        print(json.dumps(row), flush=True)
        with (self.args.out / f"{self.args.name}.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both losses of a batch."""
        device = next(self.model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16):
            return losses(self.model, self.head, *to_gpu(batch, device))

    def step(self, batch: Batch, factor: float) -> tuple[Tensor, Tensor]:
        """One optimiser step at `factor` of the learning rates."""
        for group in self.muon.param_groups:
            group["lr"] = self.args.muon_lr * factor
        for group in self.adam.param_groups:
            group["lr"] = self.args.adam_lr * factor * group["scale"]
        with rounded(self.matrices, self.rounds):
            main, ahead = self.forward(batch)
            (main + MTP_WEIGHT * ahead).backward()
        ranks.average([p.grad for p in self.model.parameters() if p.grad is not None])
        self.muon.step()
        self.adam.step()
        self.clear_gradients()
        return main.detach(), ahead.detach()

    def clear_gradients(self) -> None:
        self.muon.zero_grad(set_to_none=True)
        self.adam.zero_grad(set_to_none=True)

    def clear_loads(self) -> None:
        for mixture in self.mixtures:
            mixture.load.zero_()

    def held_out(self) -> float:
        """Mean loss over the tokens of held-out rows, by the graphs that train, so that nothing is compiled again."""
        total = seen = 0.0
        with rounded(self.matrices, self.rounds):
            for at in range(0, len(self.rows[0]), self.args.rows):
                batch = Batch(*(r[at : at + self.args.rows] for r in self.rows))
                count = int(batch.weights.sum())
                total += self.forward(batch)[0].item() * count
                seen += count
        self.clear_loads()
        return total / seen

    def deadline(self) -> float:
        """Unix time at which this leg ends."""
        if self.args.deadline is None:
            return time.time() + self.args.seconds
        wait_for(self.args.deadline)
        return float(self.args.deadline.read_text()) - self.args.spare

    def run(self) -> None:
        """Steps until the time or the tokens are used up, with a line in the log every 100 steps and a held-out loss every 300."""
        args, per_step = self.args, self.args.rows * self.args.length * self.count
        end = 0.0 if args.tokens else self.deadline()
        mark = start = time.time()
        tokens, step, shown, peak = self.tokens_before, 0, 0, torch.zeros(1)
        for batch in self.stream:
            used = (tokens - self.tokens_before) / (args.tokens * 1e6) if args.tokens else (time.time() - start) / (end - start)
            passed = ranks.agree(used)
            if passed > 1:
                break
            progress = args.start + (args.to - args.start) * passed
            self.rounds = progress >= args.round_from
            main, ahead = self.step(batch, rate(progress, step, args))
            step, tokens = step + 1, tokens + per_step
            if step % 2 == 0:
                ranks.average([m.load for m in self.mixtures])
                peak = torch.maximum(peak.to(main.device), self.model.balance(balance_step(tokens, progress)))
            if self.rank == 0 and (step % 100 == 0 or step == 20):
                row = {"step": step, "tokens": tokens, "progress": round(progress, 4), "loss": round(main.item(), 4),
                       "mtp": round(ahead.item(), 4), "peak_load": [round(x, 2) for x in peak.tolist()],
                       "tok_s": round((step - shown) * per_step / (time.time() - mark)),
                       "waiting": self.stream.queue.qsize(), "time": round(time.time())}
                if step % 300 == 0:
                    row["held_out"] = round(self.held_out(), 4)
                self.report(row)
                mark, shown, peak = time.time(), step, torch.zeros(1)
                if not row["loss"] < 100:
                    raise SystemExit(f"loss is {row['loss']}")
        self.stream.close()
        if self.rank == 0:
            self.finish(tokens)

    def finish(self, tokens: int) -> None:
        """Files, held-out loss, and exact lines per language."""
        self.save(tokens)
        row = {"tokens": tokens, "rounded": self.rounds, "held_out": round(self.held_out(), 4)}
        self.report(row)
        if self.args.lines:
            self.model.eval()
            with torch.compiler.set_stance("force_eager"), rounded(self.matrices, self.rounds):
                exact = exact_lines(self.model, self.held, self.tokenizer, self.args.lines, 4096, "cuda")
            self.report({"exact": {k: round(v, 4) for k, v in exact.items()}})


if __name__ == "__main__":
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    Leg(options).run()
