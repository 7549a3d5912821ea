"""Collect the training corpus from Debian and npm packages.

Launch lines, from the repository root (downloads first, then a rebuild):

    nice -n 10 /usr/bin/python3 engine/train/corpus/collect.py fetch --data .corpus
    nice -n 10 /usr/bin/python3 engine/train/corpus/collect.py extract --data .corpus
    nice -n 10 /usr/bin/python3 engine/train/corpus/collect.py build --data .corpus
    nice -n 10 /usr/bin/python3 engine/train/corpus/collect.py verify --data .corpus
    nice -n 10 /usr/bin/python3 engine/train/corpus/collect.py heldout --data .corpus

`fetch` uses apt-get, apt-cache and npm (a deb-src line must be configured for
source packages) and takes the versions that the manifest records while they
can be had. `extract` reads the archives, checks licences, filters the
files and writes one JSON file a package. `build` removes duplicates, applies
the caps of packages and languages, splits, and writes the packs and the manifest.
`verify` reads the packs back and prints tables. `heldout` writes the held-out
files as they were, to measure completions in.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import re
from collections import Counter
from pathlib import Path

from archives import Package, read_deb, read_npm, read_source
from build import build
from caps import order_key
from fetch import fetch
from filters import decode, is_test, keep_file, refine_language
from heldout import write_held_out
from verify import verify

HERE = Path(__file__).resolve().parent
STAGED_CAP = 6_000_000  # what is staged of a package; `build` takes less of it
TEST_SHARE = 0.25
DECLARATION_SHARE = 0.05


def select(package: Package, dropped: Counter[str]) -> list[tuple[str, str, str]]:
    """Filter a package's files down to its byte cap, as (language, path, text)."""
    groups: dict[str, list[tuple[str, bytes]]] = {"code": [], "test": [], "types": []}
    for path, raw in sorted(package.files, key=lambda item: order_key(item[0])):
        kind = "types" if re.search(r"\.d\.[mc]?ts$", path) else "test" if is_test(path) else "code"
        groups[kind].append((path, raw))
    limits = {"code": STAGED_CAP, "test": 0, "types": 0}
    chosen: list[tuple[str, str, str]] = []
    for kind in ("code", "test", "types"):
        used = 0
        for path, raw in groups[kind]:
            if used + len(raw) > limits[kind]:
                continue
            text = decode(raw)
            reason = "not UTF-8" if text is None else keep_file(path, text)
            if reason or text is None:
                dropped[reason or ""] += 1
                continue
            lang = refine_language(path, text)
            if lang is None:
                dropped["other language"] += 1
                continue
            chosen.append((lang, path, text))
            used += len(raw)
        if kind == "code":
            limits["test"] = min(int(used * TEST_SHARE / (1 - TEST_SHARE)), STAGED_CAP - used)
            limits["types"] = int(used * DECLARATION_SHARE)
    return sorted(chosen, key=lambda item: item[1])


def extract_one(job: tuple[str, str]) -> tuple[str, Counter[str]]:
    """Read one archive and stage its kept files; returns its name and the drops."""
    archive, stage = Path(job[0]), Path(job[1])
    dropped: Counter[str] = Counter()
    target = stage / f"{archive.name}.json"
    if target.exists():
        return archive.name, dropped
    reader = {".deb": read_deb, ".dsc": read_source, ".tgz": read_npm}[archive.suffix]
    try:
        package = reader(archive)
    except Exception as error:  # a broken archive must not stop the others
        return archive.name, Counter({f"unreadable: {type(error).__name__}": 1})
    record: dict[str, object] = {}
    if package is None:
        dropped["package licence"] += 1
    else:
        record = {"pkg": package.name, "version": package.version, "source": package.source,
                  "licence": " ".join(package.licence.split()), "files": select(package, dropped)}
    target.write_text(json.dumps(record), encoding="utf-8")
    return archive.name, dropped


def extract(data: Path, processes: int) -> None:
    """Stage every downloaded archive and print why files were dropped."""
    stage = data / "stage"
    stage.mkdir(parents=True, exist_ok=True)
    archives = [p for p in (data / "raw").rglob("*") if p.suffix in (".deb", ".dsc", ".tgz")]
    archives.sort(key=lambda p: hashlib.md5(p.name.encode()).digest())
    totals: Counter[str] = Counter()
    with multiprocessing.Pool(processes, maxtasksperchild=200) as pool:
        jobs = [(str(p), str(stage)) for p in archives]
        for _, dropped in pool.imap_unordered(extract_one, jobs, chunksize=4):
            totals.update(dropped)
    for reason, count in totals.most_common():
        print(f"{count:9d} {reason}")


def main() -> None:
    """Run one stage from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("fetch", "extract", "build", "verify", "heldout"))
    parser.add_argument("--data", type=Path, required=True, help="folder for downloads, staged files and packs")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", default=["deb", "src", "npm"], help="what `fetch` downloads")
    parser.add_argument("--scale", type=float, default=0.34, help="multiplies the size of every language; 0.34 makes 35 MiB")
    parser.add_argument("--packs", type=int, default=1, help="files that the corpus is spread over")
    options = parser.parse_args()
    if options.stage == "fetch":
        fetch(options.data, options.kinds)
    elif options.stage == "extract":
        extract(options.data, options.processes)
    elif options.stage == "build":
        build(options.data, HERE / "manifest.tsv", options.scale, options.packs)
    elif options.stage == "verify":
        verify(options.data)
    else:
        print(f"{write_held_out(options.data)} files in {options.data / 'heldout'}")


if __name__ == "__main__":
    main()
