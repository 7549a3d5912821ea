"""Held-out measurements: loss on packed rows, and infilling of single lines per language.

A line counts as exact when every token of it is the model's first choice and then the model ends or begins a new line:
that is what greedy decoding with the editor's single-line stop gives. Only the file itself is context.
"""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from model import Model
from samples import BOS, EOS, FIM_BEGIN, FIM_END, FIM_HOLE, Document, line_starts
from stream import Packer, encode_parts, load_tokenizer, sample_file, Mix


def held_out_rows(docs: list[Document], tokenizer_path: str, length: int, count: int, seed: int = 7) -> list[np.ndarray]:
    """Fixed packed rows (tokens, starts, ends, weights), each (count, length)."""
    rng = random.Random(seed)
    tokenizer = load_tokenizer(tokenizer_path)
    packer, rows = Packer(length), []
    order = sorted(docs, key=lambda d: rng.random())
    for doc in order:
        parts = list(sample_file(doc, [doc], Mix(length=length, context_share=0), rng))
        for tokens, weights in encode_parts(tokenizer, parts, length):
            rows.extend(packer.add(tokens, weights))
        if len(rows) >= count:
            break
    return [np.stack(x) for x in zip(*rows[:count])]


def line_cases(docs: list[Document], per_language: int, seed: int = 11) -> list[tuple[Document, int, int, str]]:
    """(file, start, end, kind) of held-out lines; kind "line" is a whole line behind its indentation, "rest" a tail."""
    rng = random.Random(seed)
    by_lang: dict[str, list[Document]] = defaultdict(list)
    for doc in docs:
        by_lang[doc.lang].append(doc)
    out = []
    for lang in sorted(by_lang):
        for i in range(per_language):
            doc = rng.choice(by_lang[lang])
            starts = line_starts(doc.text)
            for _ in range(50):
                begin = starts[rng.randrange(len(starts))]
                end = doc.text.find("\n", begin)
                end = len(doc.text) if end == -1 else end
                body = doc.text[begin:end]
                first = begin + len(body) - len(body.lstrip())
                if len(body.strip()) >= 8 and any(c.isalpha() for c in body):
                    if i % 2:
                        out.append((doc, rng.randint(first + 1, max(first + 1, first + (end - first) * 2 // 3)), end, "rest"))
                    else:
                        out.append((doc, first, end, "line"))
                    break
    return out


def case_tokens(tokenizer, case: tuple[Document, int, int, str], prefix_chars: int = 4500,
                suffix_chars: int = 2000) -> tuple[list[int], list[int]]:
    """Prompt ids and the ids of the line."""
    doc, begin, end, _ = case
    start = max(begin - prefix_chars, 0)
    if start:
        start = doc.text.find("\n", start, begin) + 1 or start
    texts = [doc.text[end : end + suffix_chars], f"#{doc.path}\n", doc.text[start:begin], doc.text[begin:end]]
    suffix, header, prefix, middle = (e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False))
    return [BOS, FIM_BEGIN, FIM_HOLE] + suffix + [FIM_END] + header + prefix, middle


@torch.no_grad()
def exact_lines(model: Model, docs: list[Document], tokenizer_path: str, per_language: int, length: int,
                device: str) -> dict[str, float]:
    """Share of exact lines for every language and kind, `lang/kind`, and over all."""
    tokenizer = load_tokenizer(tokenizer_path)
    newlines = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.bool, device=device)
    newlines[[i for i in range(len(newlines)) if tokenizer.decode([i], skip_special_tokens=False)[:1] in ("\n", "\r")]] = True
    newlines[EOS] = True
    cases = line_cases(docs, per_language)
    encoded = [case_tokens(tokenizer, c) for c in cases]
    usable = [(c, e) for c, e in zip(cases, encoded) if len(e[0]) + len(e[1]) < length]
    hits: dict[str, list[float]] = defaultdict(list)
    for at in range(0, len(usable), 24):
        part = usable[at : at + 24]
        tokens = torch.full((len(part), length), EOS, dtype=torch.long)
        for row, (_, (prompt, middle)) in enumerate(part):
            tokens[row, : len(prompt) + len(middle)] = torch.tensor(prompt + middle)
        tokens = tokens.to(device)
        best = greedy_choice(model, tokens)
        for row, (case, (prompt, middle)) in enumerate(part):
            first = len(prompt) - 1
            right = (best[row, first : first + len(middle)] == tokens[row, first + 1 : first + 1 + len(middle)]).all()
            exact = float(right and newlines[best[row, first + len(middle)]])
            for key in (f"{case[0].lang}/{case[3]}", f"all/{case[3]}"):
                hits[key].append(exact)
    return {k: sum(v) / len(v) for k, v in sorted(hits.items())}


def greedy_choice(model: Model, tokens: Tensor) -> Tensor:
    """First choice at every position of lone sequences, (batch, length)."""
    starts, ends = torch.zeros_like(tokens), torch.full_like(tokens, tokens.shape[1])
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=tokens.is_cuda):
        return model.logits(model.norm(model(tokens, starts, ends))).argmax(-1)


