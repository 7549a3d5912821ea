"""`python3 -m unittest test_stream`: rows hold the samples, in their layout, within their limits."""

from __future__ import annotations

import random
import unittest

from samples import BOS, EOS, FIM_BEGIN, FIM_END, FIM_HOLE, PAD, Parts
from stream import ALIGN, MIDDLE_WEIGHT, Packer, assemble


class AssembleTest(unittest.TestCase):
    def test_layout_is_suffix_first_and_ends_with_the_middle(self):
        ids = [[20, 21], [30], [40], [50, 51], [60, 61]]
        tokens, weights = assemble(Parts("c", "s", "h", "p", "m"), ids, 100)
        self.assertEqual(tokens, [BOS, 20, 21, FIM_BEGIN, FIM_HOLE, 30, FIM_END, 40, 50, 51, 60, 61, EOS])
        self.assertEqual(weights[-4:], [MIDDLE_WEIGHT] * 3 + [0])
        self.assertEqual(weights[2:4], [0, 0])

    def test_never_exceeds_the_limit_and_keeps_the_prefix_end(self):
        rng = random.Random(0)
        for _ in range(500):
            ids = [[i] * rng.randint(0, 300) for i in (20, 30, 40, 50, 60)]
            ids[2] = ids[2][:10]
            middle = rng.choice(("m", None))
            tokens, weights = assemble(Parts("", "", "", "", middle), ids, 256)
            self.assertLessEqual(len(tokens), 256)
            self.assertEqual(len(tokens), len(weights))
            if middle is not None and len(ids[4]) < 128:
                self.assertEqual(tokens[-1], EOS)
            elif middle is not None:
                self.assertEqual(tokens[-1], 60)  # a middle that was cut does not end


class PackerTest(unittest.TestCase):
    def test_every_sample_comes_out_once_at_an_aligned_place(self):
        rng = random.Random(1)
        packer = Packer(1024, open_rows=4)
        rows, sent = [], 0
        for i in range(200):
            size = rng.randint(1, 700)
            rows += packer.add([8 + i % 100] * size, [1] * size)
            sent += size
        rows += [packer.render(samples) for _, samples in packer.rows]
        self.assertEqual(sum(int((row[0] != PAD).sum()) for row in rows), sent)
        for tokens, starts, ends, weights in rows:
            self.assertTrue((starts % ALIGN == 0).all() and (ends % ALIGN == 0).all() and ends[-1] == 1024)
            self.assertTrue((weights[tokens == PAD] == 0).all())
            for t in range(1, 1024):
                if starts[t] == starts[t - 1]:
                    self.assertTrue(tokens[t] in (tokens[t - 1], PAD))


if __name__ == "__main__":
    unittest.main()
