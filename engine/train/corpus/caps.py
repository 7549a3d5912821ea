"""Limit what one package may give, so that no giant sets the tone of a language."""

from __future__ import annotations

import hashlib
from collections import Counter

MB = 1_000_000
FAMILIES = {"c": "c and c++", "cpp": "c and c++"}
# Each cap is a little over what fills the language's budget from all of its packages; the fewer
# packages there are, the more each gives.
CAPS = {"typescript": MB, "javascript": 700_000, "go": 600_000, "rust": 2 * MB, "java": 2_400_000, "c": MB,
        "cpp": MB, "python": 300_000, "php": 1_100_000, "ruby": 2_500_000, "csharp": 4 * MB, "bash": MB}
EXCEPTION_CAP = 2_500_000
EXCEPTIONS = frozenset("""
    boost1.74 chrome-devtools-frontend guava-libraries llvm-toolchain-14 node-typescript opencv openssl
    postgresql-15
""".split())
# Bytes wanted of each language, both sides together.
BUDGETS = {"typescript": 113 * MB, "javascript": 57 * MB, "go": 130 * MB, "rust": 130 * MB,
           "java": 120 * MB, "c": 65 * MB, "cpp": 65 * MB, "python": 40 * MB,
           "csharp": 8 * MB, "php": 8 * MB, "ruby": 7 * MB, "bash": 4 * MB}
HELD_OUT_SHARE = 0.031
# A held-out package may take at most this part of a language's held-out bytes.
HELD_OUT_PART = 1 / 9

File = tuple[str, str, str]  # language, path, text


def order_key(path: str) -> tuple[bytes, str]:
    """Sort key that shuffles folders but keeps a folder's files together."""
    folder = path.rpartition("/")[0]
    return hashlib.md5(folder.encode()).digest(), path


def budget_of(language: str, held_out: bool) -> float:
    """Return the bytes that one side of the split may hold of a language."""
    return BUDGETS[language] * (HELD_OUT_SHARE if held_out else 1 - HELD_OUT_SHARE)


def cap_of(package: str, language: str, held_out: bool) -> float:
    """Return the bytes that a package may give of a language (C and C++ count as one)."""
    if held_out:
        return budget_of(language, True) * HELD_OUT_PART
    return max(CAPS[language], EXCEPTION_CAP if package in EXCEPTIONS else 0)


def trim(package: str, files: list[File], held_out: bool) -> list[File]:
    """Keep whole files, folder by shuffled folder, up to the package's cap of each language."""
    used: Counter[str] = Counter()
    kept: list[File] = []
    for lang, path, text in sorted(files, key=lambda item: order_key(item[1])):
        family = FAMILIES.get(lang, lang)
        size = len(text.encode())
        if used[family] + size <= cap_of(package, lang, held_out):
            used[family] += size
            kept.append((lang, path, text))
    return sorted(kept, key=lambda item: item[1])
