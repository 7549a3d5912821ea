"""From packs and installed Python packages to documents and a tokenizer.

    python3 prepare.py --packs FOLDER --out FOLDER      # writes docs.pkl, tokenizer.json, python_manifest.tsv

`FOLDER/pack-*.jsonl.xz` come from corpus/collect.py. Python sources are those of the packages installed beside this
interpreter whose licence is permissive, filtered, deduplicated and split by the same code.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import lzma
import pickle
import random
import re
import sys
import sysconfig
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "corpus"))
from dedup import deduplicate  # noqa: E402
from filters import keep_file, normalise  # noqa: E402
from licences import is_permissive  # noqa: E402
from samples import SPECIALS, Document  # noqa: E402
from split import is_held_out  # noqa: E402

PRE_TOKENIZER = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|[\r\n]|[^\S\r\n]+(?!\S)|[^\S\r\n]+"
Kept = tuple[Document, bool]  # a document and whether it is held out


def read_pack(path: Path) -> list[Kept]:
    """Documents of one pack."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [(Document(r["lang"], r["pkg"], r["path"], r["text"]), r["heldout"]) for r in rows]


def licence_of(dist: metadata.Distribution) -> str:
    """Licence expression of an installed package: its SPDX field, else its classifiers, else a short free text."""
    meta = dist.metadata
    expression = meta.get("License-Expression")
    if expression:
        return expression
    found = [c.split("::")[-1].strip() for c in meta.get_all("Classifier") or [] if c.startswith("License ::")]
    found = [re.sub(r"^The ", "", re.sub(r" (Software )?License.*$", "", f)) for f in found if f != "OSI Approved"]
    if found:
        return " or ".join(found)
    text = (meta.get("License") or "").strip().splitlines()
    return text[0] if text and len(text[0]) < 60 else ""


def read_distribution(name: str) -> tuple[list[Kept], str]:
    """Sources and manifest row of one installed package; nothing if its licence is not permissive."""
    if not name:
        return [], ""
    dist = metadata.distribution(name)
    licence, held, size = licence_of(dist), is_held_out(name.lower()), 0
    docs: list[Kept] = []
    if is_permissive(licence):
        for file in dist.files or []:
            if file.suffix == ".py" and ".." not in file.parts and size < 25_000_000:
                document = read_source(name.lower(), file.as_posix(), Path(str(dist.locate_file(file))))
                if document is not None:
                    docs.append((document, held))
                    size += len(document.text)
    split = "heldout" if held else "train"
    row = f"{name.lower()}\t{dist.version}\tinstalled\t{licence}\tpython\t{len(docs)}\t{size}\t{split}"
    return docs, row if docs else ""


def installed_sources() -> tuple[list[Kept], list[str]]:
    """Permissively licensed Python sources of this interpreter, and their manifest rows."""
    with concurrent.futures.ProcessPoolExecutor(8) as pool:
        results = list(pool.map(read_distribution, sorted({d.metadata["Name"] or "" for d in metadata.distributions()})))
    docs = [doc for part, _ in results for doc in part]
    rows = [row for _, row in results if row]
    root = Path(sysconfig.get_paths()["stdlib"])
    library = [read_source("cpython", p.relative_to(root).as_posix(), p) for p in sorted(root.rglob("*.py"))
               if "site-packages" not in p.parts and "dist-packages" not in p.parts]
    library = [d for d in library if d is not None]
    docs += [(d, False) for d in library]
    rows.append(f"cpython\t{sys.version.split()[0]}\tinstalled\tPSF-2.0\tpython\t{len(library)}\t"
                f"{sum(len(d.text) for d in library)}\ttrain")
    return docs, rows


def read_source(package: str, relative: str, path: Path) -> Document | None:
    """One file, if it is worth keeping."""
    try:
        text = normalise(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return Document("python", package, relative, text) if keep_file(relative, text) is None else None


def train_tokenizer(docs: list[Document], size: int, path: Path) -> None:
    """Byte-level BPE over a sample with equal shares of the languages."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRE_TOKENIZER), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIALS, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    rng = random.Random(0)
    texts: list[str] = []
    for lang in sorted({d.lang for d in docs}):
        own = [d.text for d in docs if d.lang == lang]
        rng.shuffle(own)
        left = 9_000_000 if lang in ("python", "typescript") else 6_000_000
        for text in own:
            texts.append(text)
            left -= len(text)
            if left < 0:
                break
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=int, default=16384)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.time()
    packs = sorted(args.packs.glob("pack-*.jsonl.xz"))
    with concurrent.futures.ProcessPoolExecutor(8) as pool:
        packed = [doc for docs in pool.map(read_pack, packs) for doc in docs]
    installed, rows = installed_sources()
    # Packs are free of duplicates already: only Python can repeat itself or them.
    python = sorted((d for d in packed if d[0].lang == "python"), key=lambda d: not d[1])
    installed.sort(key=lambda d: not d[1])
    verdicts = list(deduplicate(d.text for d, _ in python + installed))[len(python) :]
    kept = packed + [d for d, reason in zip(installed, verdicts) if reason is None]
    train = [d for d, held in kept if not held]
    held = [d for d, held in kept if held]
    print(f"{len(train)} files to train on, {len(held)} held out, read in {time.time() - began:.0f} s")
    for name, part in (("train", train), ("heldout", held)):
        size: Counter[str] = Counter()
        for d in part:
            size[d.lang] += len(d.text)
        print(name, {k: f"{v / 1e6:.1f} MB" for k, v in size.most_common()})
    if not (args.out / "tokenizer.json").exists():
        train_tokenizer(train, args.vocab, args.out / "tokenizer.json")
    (args.out / "docs.part").write_bytes(pickle.dumps((train, held)))
    (args.out / "docs.part").rename(args.out / "docs.pkl")  # a waiting trainer must not see half a file
    (args.out / "python_manifest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"done in {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
