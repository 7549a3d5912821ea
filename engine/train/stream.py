"""Packed rows for training: background processes sample, tokenise and pack; the trainer only takes batches."""

from __future__ import annotations

import dataclasses
import multiprocessing as mp
import random
from collections.abc import Iterator

import numpy as np

from samples import (BOS, BYTES_PER_TOKEN, EOS, FIM_BEGIN, FIM_END, FIM_HOLE, PAD, Document, Parts, context_of,
                     make_parts, windows)

ALIGN = 64  # documents start at selection blocks, so packed rows have the blocks of lone documents
MIDDLE_WEIGHT = 2


@dataclasses.dataclass
class Batch:
    """tokens, starts, ends, weights: each (rows, length). weights: of predicting the NEXT token, 0 to ignore."""

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True)
class Mix:
    """How long samples are and how often other files come first. `sizes`: (tokens, probability)."""

    length: int = 4096
    sizes: tuple[tuple[int, float], ...] = ((500, 0.2), (1000, 0.3), (2000, 0.3), (4000, 0.2))
    context_share: float = 0.25


def assemble(parts: Parts, ids: list[list[int]], limit: int) -> tuple[list[int], list[int]]:
    """Token ids and loss weights of one sample, at most `limit` long: context is cut first, then prefix, then suffix.

    ids: tokens of context, suffix, header, prefix, middle.
    """
    context, suffix, header, prefix, middle = ids
    if parts.middle is None:
        body = header + prefix + [EOS]
        context = context[-max(limit - 1 - len(body), 0) :] if len(body) + 1 < limit else []
        tokens = ([BOS] + context + body)[:limit]
        return tokens, [1] * (len(tokens) - 1) + [0]
    middle = middle + [EOS] if len(middle) < limit // 2 else middle[: limit // 2]
    room = limit - 4 - len(header) - len(middle)
    suffix = suffix[: max(room // 2, room - len(prefix))]
    prefix = prefix[-(room - len(suffix)) :] if room > len(suffix) else []
    left = room - len(suffix) - len(prefix)
    context = context[-left:] if left > 0 else []
    head = [BOS] + context + [FIM_BEGIN, FIM_HOLE] + suffix + [FIM_END] + header + prefix
    tokens = head + middle
    weights = [1] * (len(head) - 1) + [MIDDLE_WEIGHT] * len(middle) + [0]
    for i in range(len(context), len(context) + 2):
        weights[i] = 0  # where a hole begins is not to be guessed
    return tokens, weights


class Packer:
    """Best fit of samples into rows; a row leaves when it is full or too many are open."""

    def __init__(self, length: int, open_rows: int = 48) -> None:
        self.length = length
        self.open_rows = open_rows
        self.rows: list[tuple[int, list[tuple[list[int], list[int]]]]] = []  # (used, samples)

    def add(self, tokens: list[int], weights: list[int]) -> list[tuple[np.ndarray, ...]]:
        """Takes a sample; returns the rows (tokens, starts, ends, weights) that are finished by it."""
        need = -(-len(tokens) // ALIGN) * ALIGN
        best = -1
        for i, (used, _) in enumerate(self.rows):
            if used + need <= self.length and (best < 0 or used > self.rows[best][0]):
                best = i
        if best < 0:
            self.rows.append((0, []))
            best = len(self.rows) - 1
        used, samples = self.rows[best]
        samples.append((tokens, weights))
        self.rows[best] = (used + need, samples)
        if used + need > self.length - ALIGN or len(self.rows) > self.open_rows:
            full = max(range(len(self.rows)), key=lambda i: self.rows[i][0])
            return [self.render(self.rows.pop(full)[1])]
        return []

    def render(self, samples: list[tuple[list[int], list[int]]]) -> tuple[np.ndarray, ...]:
        """One row from its samples; padding belongs to the document before it."""
        row = [np.full(self.length, PAD, np.int32)] + [np.zeros(self.length, np.int32) for _ in range(3)]
        at = 0
        for i, (tokens, weights) in enumerate(samples):
            size = -(-len(tokens) // ALIGN) * ALIGN if i + 1 < len(samples) else self.length - at
            row[0][at : at + len(tokens)] = tokens
            row[1][at : at + size] = at
            row[2][at : at + size] = at + size
            row[3][at : at + len(weights)] = weights
            at += size
        return tuple(row)


def load_tokenizer(path: str):
    """Tokenizer that treats special tokens in text as text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode_parts(tokenizer, batch: list[Parts], limit: int) -> list[tuple[list[int], list[int]]]:
    """Tokens and weights of many samples."""
    texts = [t for p in batch for t in (p.context, p.suffix, p.header, p.prefix, p.middle or "")]
    ids = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return [assemble(p, ids[5 * i : 5 * i + 5], limit) for i, p in enumerate(batch)]


def sample_file(doc: Document, siblings: list[Document], mix: Mix, rng: random.Random) -> Iterator[Parts]:
    """All samples of one pass over a file."""
    sizes, chances = zip(*mix.sizes)
    size = rng.choices(sizes, chances)[0] * BYTES_PER_TOKEN
    context_size = 0.0
    if size >= 1000 * BYTES_PER_TOKEN and rng.random() < mix.context_share * 1.25:
        context_size = size * rng.uniform(0.3, 0.7)
    for piece in windows(doc.text, int(size - context_size), rng):
        context = context_of(doc, siblings, int(context_size), rng) if context_size else ""
        yield make_parts(doc, piece, context, rng)


def epoch_order(docs: list[Document], shares: dict[str, float], rng: random.Random) -> list[int]:
    """Indices of one epoch, shuffled; a language with share 0.5 gives half of its files, 2 gives each twice."""
    out = []
    for i, doc in enumerate(docs):
        share = shares.get(doc.lang, 1.0)
        out.extend([i] * (int(share) + (rng.random() < share % 1)))
    rng.shuffle(out)
    return out


def produce(docs: list[Document], tokenizer_path: str, mix: Mix, shares: dict[str, float], rows: int, seed: int,
            worker: int, workers: int, queue: mp.Queue) -> None:
    """Body of a background process: batches of `rows` rows, for ever."""
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = load_tokenizer(tokenizer_path)
    siblings: dict[str, list[Document]] = {}
    for doc in docs:
        siblings.setdefault(doc.package, []).append(doc)
    packer = Packer(mix.length)
    done: list[tuple[np.ndarray, ...]] = []
    pending: list[Parts] = []
    epoch = 0
    while True:
        rng = random.Random(f"{seed}-{epoch}")  # the same order in every worker, each takes its share
        order = epoch_order(docs, shares, rng)[worker::workers]
        rng = random.Random(f"{seed}-{epoch}-{worker}")
        for i in order:
            pending.extend(sample_file(docs[i], siblings[docs[i].package], mix, rng))
            if len(pending) < 128:
                continue
            for tokens, weights in encode_parts(tokenizer, pending, mix.length):
                done.extend(packer.add(tokens, weights))
            pending = []
            while len(done) >= rows:
                queue.put(Batch(*(np.stack(x) for x in zip(*done[:rows]))))
                done = done[rows:]
        epoch += 1


class Stream:
    """Endless batches from background processes; `close` ends them. `part`: this is one of so many streams, from 0."""

    def __init__(self, docs: list[Document], tokenizer_path: str, mix: Mix, shares: dict[str, float], rows: int,
                 seed: int, workers: int, part: tuple[int, int] = (0, 1)) -> None:
        context = mp.get_context("fork")
        self.queue: mp.Queue = context.Queue(maxsize=4 * workers)
        args = (docs, tokenizer_path, mix, shares, rows, seed)
        first, total = part[0] * workers, part[1] * workers
        self.processes = [
            context.Process(target=produce, args=(*args, first + i, total, self.queue), daemon=True)
            for i in range(workers)
        ]
        for process in self.processes:
            process.start()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.queue.get(timeout=120)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
