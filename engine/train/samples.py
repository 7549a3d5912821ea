"""Infilling samples from source files: what the model sees, in its prompt layout (docs/model.md, "Prompts").

A sample is built of text parts that are tokenised separately, as the engine does. Splits are random, so every epoch
shows new ones. The weights of the loss: 1 for everything that is read, MIDDLE for what follows a cursor.
"""

from __future__ import annotations

import dataclasses
import random

BOS, EOS, FIM_BEGIN, FIM_HOLE, FIM_END, PAD = 0, 1, 2, 3, 4, 7
SPECIALS = [
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>",
    "<｜User｜>", "<｜Assistant｜>", "<｜pad｜>",
] + [f"<｜reserved▁{i}｜>" for i in range(8)]
BYTES_PER_TOKEN = 3.3


@dataclasses.dataclass(frozen=True)
class Document:
    """One source file."""

    lang: str
    package: str
    path: str
    text: str


@dataclasses.dataclass(frozen=True)
class Parts:
    """Texts of one sample. `middle` is None for plain left-to-right text, which stands in `prefix`."""

    context: str
    suffix: str
    header: str
    prefix: str
    middle: str | None


def line_starts(text: str) -> list[int]:
    """Offsets at which lines begin."""
    out, at = [0], text.find("\n")
    while at != -1:
        out.append(at + 1)
        at = text.find("\n", at + 1)
    return out[:-1] if len(out) > 1 and out[-1] == len(text) else out


def windows(text: str, size: int, rng: random.Random) -> list[str]:
    """Cuts a file into pieces of about `size` characters at line starts; the first piece has a random length."""
    if len(text) <= size * 1.3:
        return [text]
    out, at = [], 0
    limit = int(size * rng.uniform(0.4, 1.0))
    while at < len(text):
        end = at + limit
        cut = text.find("\n", end) + 1 if end < len(text) else len(text)
        cut = cut if cut > at else len(text)
        if len(text) - cut < size * 0.2:
            cut = len(text)
        out.append(text[at:cut])
        at, limit = cut, size
    return out


def block_end(text: str, starts: list[int], line: int) -> int:
    """Offset behind the lines that are indented deeper than `line` (its body)."""

    def indent(i: int) -> int | None:
        end = starts[i + 1] if i + 1 < len(starts) else len(text)
        body = text[starts[i] : end]
        return len(body) - len(body.lstrip()) if body.strip() else None

    own, last = indent(line), line
    for i in range(line + 1, len(starts)):
        deep = indent(i)
        if deep is not None and (own is None or deep <= own):
            break
        if deep is not None:
            last = i
    return starts[last + 1] if last + 1 < len(starts) else len(text)


def choose_span(text: str, rng: random.Random) -> tuple[int, int]:
    """Start and end offset of a hole. Kinds: rest of a line, whole line, several lines, a body, any characters."""
    starts = line_starts(text)
    line = rng.randrange(len(starts))
    begin = starts[line]
    end_of_line = text.find("\n", begin)
    end_of_line = len(text) if end_of_line == -1 else end_of_line
    body = text[begin:end_of_line]
    indent = begin + len(body) - len(body.lstrip())
    kind = rng.random()
    if kind < 0.30:
        return (rng.randint(indent, end_of_line) if end_of_line > indent else begin), end_of_line
    if kind < 0.55:
        return indent, end_of_line
    if kind < 0.70:
        last = min(line + rng.randint(1, 8), len(starts) - 1)
        stop = starts[last] - 1 if last > line else end_of_line
        return indent, max(stop, end_of_line)
    if kind < 0.82:
        stop = block_end(text, starts, line)
        stop = min(stop, begin + 1500)
        return rng.choice((indent, end_of_line)), max(stop - 1, end_of_line)
    first = rng.randrange(len(text))
    return first, min(len(text), first + 1 + int(rng.expovariate(1 / 80)))


def make_parts(doc: Document, piece: str, context: str, rng: random.Random) -> Parts:
    """One sample of a piece of a file."""
    header = "" if rng.random() < 0.05 else f"#{doc.path}\n"
    if rng.random() < 0.12 or len(piece) < 40:
        return Parts(context, "", header, piece, None)
    begin, end = choose_span(piece, rng)
    suffix = piece[end:]
    cap = rng.choice((400, 1500, 3500, 6000))  # clients cap the suffix: short ones must be known too
    if len(suffix) > cap:
        cut = suffix.find("\n", cap)
        suffix = suffix[: cut + 1] if cut != -1 else suffix[:cap]
    if rng.random() < 0.07:
        suffix = ""
    return Parts(context, suffix, header, piece[:begin], piece[begin:end])


def context_of(doc: Document, siblings: list[Document], size: int, rng: random.Random) -> str:
    """Other files of the same package under `#path` headers, about `size` characters; the most related come last."""
    if len(siblings) < 2:
        return ""
    folder = doc.path.rsplit("/", 1)[0]
    picked = rng.sample(siblings, min(12, len(siblings)))
    scored = []
    for other in picked:
        if other.path != doc.path:
            stem = other.path.rsplit("/", 1)[-1].split(".")[0]
            score = (stem in doc.text) * 2 + (other.path.rsplit("/", 1)[0] == folder) + rng.random()
            scored.append((score, other))
    scored.sort(key=lambda pair: -pair[0])
    out: list[str] = []
    left = size
    for _, other in scored:
        text = other.text
        room = min(left, rng.choice((800, 2000, 5000)))
        if len(text) > room:
            text = text[: max(text.rfind("\n", 0, room), 0)]
        if text:
            out.append(f"#{other.path}\n{text.rstrip()}\n\n")
            left -= len(out[-1])
        if left < 300:
            break
    return "".join(reversed(out))
