"""Read the packs back, check every row and print what they hold."""

from __future__ import annotations

import json
import lzma
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

MAX_PACK = 55 * 1024 * 1024
SAMPLES = 15
FIELDS = {"lang": str, "pkg": str, "path": str, "text": str, "heldout": bool}


def rows(pack: Path) -> Iterator[dict]:
    """Yield the checked rows of one compressed pack."""
    with lzma.open(pack, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            row = json.loads(line)
            if {key: type(value) for key, value in row.items()} != FIELDS:
                raise ValueError(f"bad row in {pack.name}")
            yield row


def verify(data: Path) -> None:
    """Print a table of every pack and write random files of each language aside."""
    grand: Counter[tuple[str, bool]] = Counter()
    samples: dict[str, list[dict]] = defaultdict(list)
    rng = random.Random(7)
    seen: Counter[str] = Counter()
    for pack in sorted(data.glob("pack-*.jsonl.xz")):
        size: Counter[tuple[str, bool]] = Counter()
        files: Counter[tuple[str, bool]] = Counter()
        packages: dict[tuple[str, bool], set[str]] = defaultdict(set)
        for row in rows(pack):
            key = row["lang"], row["heldout"]
            size[key] += len(row["text"].encode())
            files[key] += 1
            packages[key].add(row["pkg"])
            seen[row["lang"]] += 1
            bag = samples[row["lang"]]
            if len(bag) < SAMPLES:
                bag.append(row)
            elif rng.random() < SAMPLES / seen[row["lang"]]:
                bag[rng.randrange(SAMPLES)] = row
        print(f"{pack.name}: {pack.stat().st_size / 2**20:.1f} MiB, {sum(size.values()) / 1e6:.1f} MB raw")
        for key in sorted(size):
            print(f"  {key[0]:11s} {'heldout' if key[1] else 'train  '} {size[key] / 1e6:8.2f} MB "
                  f"{files[key]:7d} files {len(packages[key]):5d} packages")
        grand.update(size)
        if pack.stat().st_size > MAX_PACK:
            print("  TOO LARGE")
    for lang in sorted({key[0] for key in grand}):
        print(f"{lang:11s} {grand[lang, False] / 1e6:8.2f} MB train {grand[lang, True] / 1e6:8.2f} MB heldout")
    with (data / "samples.txt").open("w", encoding="utf-8") as out:
        for bag in samples.values():
            for row in bag:
                out.write(f"\n===== {row['lang']} {row['pkg']} {row['path']}\n{row['text']}\n")
