"""`python3 -m unittest test_export`: files and 8-bit weights give back what was written."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import torch

import gguf
from config import tiny
from export import pack_8bit, read_model, unpack_8bit, write_model
from model import Model


class ExportTest(unittest.TestCase):
    def write(self, model: Model, kind: int) -> tuple[object, dict]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.gguf"
            tokens = {"tokenizer.ggml.tokens": [f"t{i}" for i in range(model.cfg.vocab)]}
            write_model(model.cfg, model.state_dict(), tokens, path, kind)
            return read_model(path)

    def test_full_precision_file_is_the_model(self):
        torch.manual_seed(0)
        model = Model(tiny(yarn_factor=4.0)).eval()
        cfg, state = self.write(model, gguf.F32)
        self.assertEqual(cfg, model.cfg)
        again = Model(cfg).eval()
        missing = again.load_state_dict(state, strict=False)
        self.assertEqual([m for m in missing.missing_keys if not m.endswith("load")], [])
        tokens = torch.randint(0, 512, (1, 192))
        self.assertTrue(torch.equal(model.next_token_logits(tokens), again.next_token_logits(tokens)))

    def test_four_bit_file_equals_rounding_in_the_forward_pass(self):
        torch.manual_seed(1)
        model = Model(tiny()).eval()
        cfg, state = self.write(model, gguf.Q4_0)
        again = Model(cfg).eval()
        again.load_state_dict(state, strict=False)
        model.set_qat(True)
        tokens = torch.randint(0, 512, (1, 128))
        self.assertTrue(torch.allclose(model.next_token_logits(tokens), again.next_token_logits(tokens), atol=1e-6))

    def test_eight_bit_weights_are_close(self):
        state = {"a": torch.randn(256, 512), "b": torch.randn(7)}
        back = unpack_8bit(pack_8bit(state))
        self.assertTrue(torch.equal(back["b"], state["b"]))
        self.assertLess((back["a"] - state["a"]).abs().max().item(), 0.03)


if __name__ == "__main__":
    unittest.main()
