"""Turn staged packages into the packs: order, budgets, duplicates, split."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

from caps import budget_of, trim
from dedup import Deduplicator
from filters import path_reason
from licences import is_permissive
from split import is_held_out, project_of

MIN_PACKAGE = 2_000


def load(stage: Path) -> list[dict]:
    """Load the staged packages: held-out ones first, then in a shuffled order."""
    packages = []
    for path in stage.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record and record["files"] and is_permissive(record["licence"]):
            record["heldout"] = is_held_out(record["pkg"])
            # Rules about paths may have become stricter since the files were staged.
            files = [item for item in record["files"] if not path_reason(item[1])]
            record["files"] = trim(record["pkg"], files, record["heldout"])
            packages.append(record)
    packages.sort(key=lambda r: (not r["heldout"], hashlib.md5(r["pkg"].encode()).digest(), r["version"]))
    return packages


def choose(packages: list[dict], scale: float) -> tuple[list[dict], Counter[str]]:
    """Drop repeats and keep each language within its budget of bytes.

    Held-out packages come first in `packages`, so a train file that repeats a
    held-out one is the one that goes.
    """
    index = Deduplicator()
    used: Counter[tuple[str, bool]] = Counter()
    dropped: Counter[str] = Counter()
    chosen = []
    for record in packages:
        kept = []
        for lang, path, text in record["files"]:
            size = len(text.encode())
            side = lang, record["heldout"]
            if used[side] + size > budget_of(*side) * scale:
                dropped["over the language's budget"] += 1
                continue
            reason = index.add(text)
            if reason:
                dropped[reason] += 1
                continue
            kept.append((lang, path, text))
            used[side] += size
        if sum(len(text) for _, _, text in kept) >= MIN_PACKAGE:
            chosen.append({**record, "files": kept})
    return chosen, dropped


def size_of(record: dict) -> int:
    """Return the UTF-8 bytes of a package's kept files."""
    return sum(len(text.encode()) for _, _, text in record["files"])


def main_language(record: dict) -> str:
    """Return the language that holds most of a package's bytes."""
    sizes: Counter[str] = Counter()
    for lang, _, text in record["files"]:
        sizes[lang] += len(text)
    return sizes.most_common(1)[0][0]


def assign(chosen: list[dict], count: int) -> list[list[dict]]:
    """Spread packages over so many packs, each language and split evenly."""
    packs: list[list[dict]] = [[] for _ in range(count)]
    weight: dict[tuple[str, bool], list[int]] = defaultdict(lambda: [0] * count)
    for record in sorted(chosen, key=lambda r: hashlib.md5(b"pack" + r["pkg"].encode()).digest()):
        load_of = weight[main_language(record), record["heldout"]]
        lightest = load_of.index(min(load_of))
        packs[lightest].append(record)
        load_of[lightest] += size_of(record)
    for pack in packs:
        pack.sort(key=lambda r: (main_language(r), project_of(r["pkg"]), r["pkg"]))
    return packs


def write_pack(pack: list[dict], target: Path) -> subprocess.Popen[bytes]:
    """Write the lines of a pack and start its compression."""
    with target.open("w", encoding="utf-8", newline="\n") as out:
        for record in pack:
            for lang, path, text in sorted(record["files"], key=lambda item: item[1]):
                row = {"lang": lang, "pkg": record["pkg"], "path": path, "text": text,
                       "heldout": record["heldout"]}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return subprocess.Popen(["xz", "--force", "--threads=1", "--lzma2=preset=9,dict=256MiB", str(target)])


def write_manifest(chosen: list[dict], target: Path) -> None:
    """Write one row a package, sorted by name."""
    rows = []
    for record in chosen:
        languages = ",".join(sorted({lang for lang, _, _ in record["files"]}))
        rows.append("\t".join(map(str, (
            record["pkg"], record["version"], record["source"], record["licence"], languages,
            len(record["files"]), size_of(record), "heldout" if record["heldout"] else "train"))))
    head = "package\tversion\tsource\tlicence\tlanguages\tfiles\tbytes\tsplit"
    target.write_text("\n".join([head, *sorted(rows)]) + "\n", encoding="utf-8")


def build(data: Path, manifest: Path, scale: float, packs: int) -> None:
    """Build the packs and the manifest from the staged packages."""
    chosen, dropped = choose(load(data / "stage"), scale)
    for reason, count in dropped.most_common():
        print(f"{count:9d} {reason}")
    write_manifest(chosen, manifest)
    waiting = [write_pack(pack, data / f"pack-{number:02d}.jsonl")
               for number, pack in enumerate(assign(chosen, packs))]
    for process in waiting:
        if process.wait() != 0:
            raise SystemExit("xz failed")
