"""Exact and near-duplicate removal over a whole corpus.

A file becomes the set of hashes of its line pairs (whitespace normalised).
MinHash signatures over that set, cut in bands, propose candidates; the exact
Jaccard similarity of the two sets decides. A file is compared only with files
that were kept, in the order given, so the caller puts held-out files first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from zlib import adler32, crc32

import numpy as np

PERMUTATIONS = 48
BANDS = 12
THRESHOLD = 0.8
MAX_CANDIDATES = 24

_RNG = np.random.Generator(np.random.PCG64(20240607))
_MULTIPLIERS = (_RNG.integers(1, 1 << 62, PERMUTATIONS, dtype=np.uint64) << np.uint64(1)) | np.uint64(1)
_OFFSETS = _RNG.integers(0, 1 << 62, PERMUTATIONS, dtype=np.uint64)


def exact_key(text: str) -> tuple[int, int, int]:
    """Return a key equal for texts that differ in whitespace only."""
    data = "".join(text.split()).encode("utf-8", "replace")
    return crc32(data), adler32(data), len(data)


def shingles(text: str) -> np.ndarray:
    """Return the sorted unique 32-bit hashes of the text's line pairs."""
    lines = [line.strip() for line in text.split("\n")]
    codes = [crc32(line.encode("utf-8", "replace")) for line in lines if len(line) > 3]
    if not codes:
        return np.zeros(1, dtype=np.uint32)
    row = np.array(codes, dtype=np.uint64)
    if row.size > 1:
        row = row[:-1] * np.uint64(0x9E3779B97F4A7C15) + row[1:]
    return np.unique((row >> np.uint64(7)).astype(np.uint32))


def signature(items: np.ndarray) -> np.ndarray:
    """Return the MinHash signature of a set of shingle hashes."""
    column = items.astype(np.uint64)
    mixed = _MULTIPLIERS[:, None] * column[None, :] + _OFFSETS[:, None]
    return (mixed >> np.uint64(32)).min(axis=1)


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Return the Jaccard similarity of two sorted unique arrays."""
    small, large = sorted((left.size, right.size))
    if small < THRESHOLD * large:
        return 0.0
    shared = np.intersect1d(left, right, assume_unique=True).size
    return shared / (left.size + right.size - shared)


class Deduplicator:
    """Remembers the kept files and recognises repeats of them."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._exact: set[tuple[int, int, int]] = set()
        self._sets: list[np.ndarray] = []
        self._buckets: list[dict[bytes, list[int]]] = [{} for _ in range(BANDS)]

    def add(self, text: str) -> str | None:
        """Keep the text and return None, or return why it is a repeat."""
        key = exact_key(text)
        if key in self._exact:
            return "exact duplicate"
        items = shingles(text)
        bands = signature(items).reshape(BANDS, -1)
        keys = [band.tobytes() for band in bands]
        seen: set[int] = set()
        for bucket, band_key in zip(self._buckets, keys):
            for other in bucket.get(band_key, ())[:MAX_CANDIDATES]:
                if other not in seen:
                    seen.add(other)
                    if jaccard(items, self._sets[other]) >= THRESHOLD:
                        return "near duplicate"
        self._exact.add(key)
        for bucket, band_key in zip(self._buckets, keys):
            bucket.setdefault(band_key, []).append(len(self._sets))
        self._sets.append(items)
        return None


def deduplicate(texts: Iterable[str]) -> Iterator[str | None]:
    """Yield, for each text in order, None when kept or the reason it is dropped."""
    index = Deduplicator()
    for text in texts:
        yield index.add(text)
