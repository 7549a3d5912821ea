"""Logits of the PyTorch reference that the engine must reproduce (test/fixtures/vectors/).

    python3 vectors.py tiny OUT          # writes OUT/tiny-f32.gguf (random weights, YaRN) and OUT/tiny-f32.json
    python3 vectors.py model FILE OUT    # writes OUT/tidepool-mini.json for a model file, from its dequantised weights

A vector file holds one token sequence, prompt lengths, the vocabulary ids that are compared, and for every length the
logits of its last token. One pass over the longest prompt gives all: the model is causal.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import torch

import gguf
from config import tiny
from export import read_model, vocabulary_metadata, write_model
from model import Model
from samples import SPECIALS

LENGTHS = [1, 31, 32, 33, 64, 65, 511, 513, 2048, 8192]


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the bytes 0 to 255."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(spare)) for b in range(256)]


def small_tokenizer(size: int) -> dict[str, gguf.Value]:
    """A byte-level BPE vocabulary of `size` tokens, learned from a text that does not change: the licence."""
    alphabet = byte_alphabet()
    text = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    words = Counter("".join(alphabet[b] for b in (" " + w).encode()) for w in text.split())
    pieces = {w: list(w) for w in words}
    tokens, merges = SPECIALS + alphabet, []
    while len(tokens) < size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in zip(pieces[word], pieces[word][1:]):
                pairs[pair] += count
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(" ".join(best))
        if "".join(best) not in tokens:
            tokens.append("".join(best))
        for word, parts in pieces.items():
            at = 0
            while at + 1 < len(parts):
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = ["".join(best)]
                at += 1
    return vocabulary_metadata(tokens, merges)


def random_model() -> Model:
    """Random weights in which every mechanism matters: gates, pooling, routing and all branches."""
    torch.manual_seed(20)
    model = Model(tiny(yarn_factor=4.0)).eval()
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("out.weight", "down.weight")):
                value.mul_(10)
            elif "norm" in name:
                value.uniform_(0.5, 1.5)
            elif name.endswith((".gate.bias", "ffn.bias")):
                value.uniform_(-0.3, 0.3)
            elif name.endswith("attn.gate.weight"):
                value.normal_(0, 0.1)
            elif "cmp_" in name:
                value.add_(torch.randn_like(value) * 0.02)
            elif name == "embed.weight":
                value.normal_(0, 0.3)
    return model


@torch.no_grad()
def write_vectors(model: Model, tokens: list[int], lengths: list[int], ids: list[int], path: Path) -> None:
    """Runs the model once and keeps the logits of `ids` at the end of every length."""
    rows = torch.tensor([tokens + [7] * (-len(tokens) % 64)])
    hidden = model.norm(model(rows, torch.zeros_like(rows), torch.full_like(rows, rows.shape[1])))
    logits = model.logits(hidden[0, [n - 1 for n in lengths]])
    best = logits.argmax(-1).tolist()
    values = [[round(x, 6) for x in row[ids].tolist()] for row in logits]
    path.write_text(json.dumps({"tokens": tokens, "lengths": lengths, "ids": ids, "argmax": best, "logits": values}))
    print(f"{path}: {len(lengths)} lengths, {len(ids)} ids, largest logit {logits.max():.3f}")


def main() -> None:
    kind, *rest = sys.argv[1:]
    out = Path(rest[-1])
    out.mkdir(parents=True, exist_ok=True)
    if kind == "tiny":
        model = random_model()
        write_model(model.cfg, model.state_dict(), small_tokenizer(model.cfg.vocab), out / "tiny-f32.gguf", gguf.F32)
        tokens = torch.randint(16, model.cfg.vocab, (LENGTHS[-1],), generator=torch.Generator().manual_seed(3)).tolist()
        write_vectors(model, tokens, LENGTHS, list(range(model.cfg.vocab)), out / "tiny-f32.json")
        return
    cfg, state = read_model(Path(rest[0]))
    model = Model(cfg).eval()
    model.load_state_dict(state, strict=False)
    lengths = [n for n in LENGTHS if n <= cfg.context]
    tokens = torch.randint(16, cfg.vocab, (lengths[-1],), generator=torch.Generator().manual_seed(4)).tolist()
    write_vectors(model, tokens, lengths, list(range(5, cfg.vocab, 127)), out / "tidepool-mini.json")


if __name__ == "__main__":
    main()
