"""Which experts serve which languages: shares of the routed tokens of held-out files, per mixture layer.

    python3 experts.py MODEL.gguf FOLDER OUT.json [--files 24]

FOLDER holds held-out files (corpus/collect.py heldout). OUT.json: language -> layers x experts, each row sums to 1.
Needs torch and `tokenizers`; runs on a GPU when there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import torch

import gguf
from export import read_model, tokenizer_json
from model import MixtureOfExperts, Model
from stream import load_tokenizer

sys.path.insert(0, str(Path(__file__).parent / "corpus"))
from filters import language_of  # noqa: E402

LENGTH = 1024  # tokens that are read of a file


def files_by_language(folder: Path, count: int) -> dict[str, list[Path]]:
    """`count` files of every language, the same at every run."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        language = language_of(path.name)
        if language:
            found[language].append(path)
    return {lang: random.Random(1).sample(paths, min(count, len(paths))) for lang, paths in sorted(found.items())}


@torch.no_grad()
def shares(model: Model, tokenizer, paths: list[Path]) -> list[list[float]]:
    """Layers x experts: which share of the files' routed tokens each expert took."""
    mixtures = [b.ffn for b in model.blocks if isinstance(b.ffn, MixtureOfExperts)]
    for mixture in mixtures:
        mixture.load.zero_()
    for path in paths:
        ids = tokenizer.encode(path.read_text(encoding="utf-8"), add_special_tokens=False).ids[:LENGTH]
        ids = ids[: len(ids) // 64 * 64]  # whole blocks only: a filler would be counted
        if ids:
            model.next_token_logits(torch.tensor([ids], device=model.embed.weight.device))
    return [(m.load / m.load.sum().clamp(min=1)).tolist() for m in mixtures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--files", type=int, default=24, help="of every language")
    args = parser.parse_args()
    cfg, state = read_model(args.model)
    model = Model(cfg)
    model.load_state_dict(state, strict=False)  # the file has no loads of experts
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").train()  # loads are counted in training only
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(tokenizer_json(gguf.read(args.model)[0]), file)
        file.flush()
        tokenizer = load_tokenizer(file.name)
    groups = files_by_language(args.folder, args.files)
    table = {lang: shares(model, tokenizer, paths) for lang, paths in groups.items()}
    args.out.write_text(json.dumps({k: [[round(x, 4) for x in row] for row in v] for k, v in table.items()}))


if __name__ == "__main__":
    main()
