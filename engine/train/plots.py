"""Pictures for the model card, with matplotlib.

    python3 plots.py curves OUT.svg LEG.jsonl…       # legs in their order; train.py wrote them
    python3 plots.py experts OUT.svg EXPERTS.json    # experts.py wrote it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

plt.rcParams.update({"svg.hashsalt": "tidepool", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def save(figure: plt.Figure, target: Path, title: str) -> None:
    """An SVG with a title, for those who cannot see it."""
    figure.savefig(target, metadata={"Date": None, "Title": title}, bbox_inches="tight")


def curves(target: Path, logs: list[Path]) -> None:
    """Loss of the batches and of held-out rows over the tokens of all legs."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    before = 0.0
    for number, log in enumerate(logs):
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        first = rows[0]["tokens"]  # of the first line, which a resumed leg counts from where the last one ended
        offset = 0.0 if first > before * 1e9 else before - first / 1e9
        steps = [r for r in rows if "loss" in r]
        held = [r for r in rows if "held_out" in r]
        label = {"label": "batches (middles count twice)"} if number == 0 else {}
        axes.plot([r["tokens"] / 1e9 + offset for r in steps], [r["loss"] for r in steps], color="#9bb7d4", lw=0.8, **label)
        label = {"label": "held-out packages"} if number == 0 else {}
        axes.plot([r["tokens"] / 1e9 + offset for r in held], [r["held_out"] for r in held], color="#b4430f", lw=1.6, **label)
        before = rows[-1]["tokens"] / 1e9 + offset
        axes.axvline(before, color="#cccccc", lw=0.6, zorder=0)
    axes.set(xlabel="tokens (10⁹); grey lines end a leg", ylabel="loss (nats per token)", ylim=(0.7, 3.2))
    axes.legend(frameon=False)
    save(figure, target, "Loss of batches and of held-out packages over the tokens of training")


def experts(target: Path, table: Path) -> None:
    """Heat map: rows are languages, columns the experts of every mixture layer; 1 is an even share."""
    shares: dict[str, list[list[float]]] = json.loads(table.read_text(encoding="utf-8"))
    languages = list(shares)
    width = len(shares[languages[0]][0])
    grid = [[x * width for layer in shares[lang] for x in layer] for lang in languages]
    figure, axes = plt.subplots(figsize=(9, 2.6))
    image = axes.imshow(grid, aspect="auto", cmap="viridis", vmin=0, vmax=3, interpolation="nearest")
    axes.set_yticks(range(len(languages)), languages)
    layers = len(shares[languages[0]])
    axes.set_xticks([width * i + width / 2 - 0.5 for i in range(layers)], [str(i + 1) for i in range(layers)])
    for i in range(1, layers):
        axes.axvline(width * i - 0.5, color="white", lw=0.8)
    axes.set_xlabel(f"layer, {width} experts each")
    figure.colorbar(image, label="share ÷ even share")
    save(figure, target, "Share of each expert of each layer in the tokens of each language")


if __name__ == "__main__":
    kind, out, *files = sys.argv[1:]
    {"curves": curves, "experts": lambda o, f: experts(o, f[0])}[kind](Path(out), [Path(f) for f in files])
