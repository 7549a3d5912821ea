"""`python3 -m unittest test_samples`: samples put back together are the file they came from."""

from __future__ import annotations

import random
import unittest

from samples import Document, block_end, choose_span, context_of, line_starts, make_parts, windows

TEXT = "def f(x):\n    if x:\n        return 1\n\n    return 2\n\nclass A:\n    pass\n"


class SamplesTest(unittest.TestCase):
    def test_windows_cover_the_text_once_and_begin_at_lines(self):
        text = TEXT * 300
        for seed in range(20):
            pieces = windows(text, 3000, random.Random(seed))
            self.assertEqual("".join(pieces), text)
            self.assertTrue(all(p.endswith("\n") for p in pieces))

    def test_prefix_middle_suffix_are_the_piece_unless_the_suffix_was_cut(self):
        doc = Document("python", "p", "a/b.py", TEXT)
        rng = random.Random(1)
        seen = 0
        for _ in range(500):
            parts = make_parts(doc, TEXT, "", rng)
            whole = parts.prefix + (parts.middle or "") + parts.suffix
            self.assertTrue(TEXT.startswith(whole) and (whole == TEXT or parts.suffix == ""))
            seen += parts.middle is not None
        self.assertGreater(seen, 350)

    def test_spans_are_in_range_and_not_reversed(self):
        rng = random.Random(2)
        for _ in range(2000):
            begin, end = choose_span(TEXT, rng)
            self.assertTrue(0 <= begin <= end <= len(TEXT))

    def test_a_body_ends_at_the_dedent(self):
        starts = line_starts(TEXT)
        self.assertEqual(TEXT[block_end(TEXT, starts, 0) :].strip(), "class A:\n    pass")
        self.assertEqual(TEXT[: block_end(TEXT, starts, 1)].splitlines()[-1], "        return 1")

    def test_context_names_other_files_only(self):
        docs = [Document("go", "p", f"x/{i}.go", f"package x // {i}\n" * 30) for i in range(5)]
        text = context_of(docs[0], docs, 4000, random.Random(3))
        self.assertIn("#x/1.go\n", text)
        self.assertNotIn("#x/0.go\n", text)


if __name__ == "__main__":
    unittest.main()
