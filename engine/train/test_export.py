"""`python3 -m unittest test_export`: model files give back what was written."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path

import torch

import gguf
from config import tiny
from export import read_model, tokenizer_json, tokenizer_metadata, write_model
from model import Model
from prepare import PRE_TOKENIZER
from quant import rounded
from samples import SPECIALS


class ExportTest(unittest.TestCase):
    def write(self, model: Model, kind: int) -> tuple[object, dict]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.gguf"
            tokens = {"tokenizer.ggml.tokens": [f"t{i}" for i in range(model.cfg.vocab)]}
            write_model(model.cfg, model.state_dict(), tokens, path, kind)
            return read_model(path)

    def test_tokenizer_comes_back_from_the_file(self):
        """Also what `tokenizers` needs beside the words: every special token, and text split as prepare.py splits."""
        tokens = [*SPECIALS, "a", "b", "ab", "Ġ"]
        model = {"model": {"vocab": {t: i for i, t in enumerate(tokens)}, "merges": [["a", "b"]]}}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokenizer.json"
            path.write_text(json.dumps(model), encoding="utf-8")
            metadata = tokenizer_metadata(path)
            back = tokenizer_json(metadata)
            path.write_text(json.dumps(back), encoding="utf-8")
            self.assertEqual(tokenizer_metadata(path), metadata)
        self.assertEqual([t["content"] for t in back["added_tokens"]], SPECIALS)
        self.assertEqual(back["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"], PRE_TOKENIZER)

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

    def test_four_bit_file_equals_the_rounded_model(self):
        torch.manual_seed(1)
        model = Model(tiny()).eval()
        cfg, state = self.write(model, gguf.Q4_0)
        again = Model(cfg).eval()
        again.load_state_dict(state, strict=False)
        tokens = torch.randint(0, 512, (1, 128))
        with rounded(model.matrices()):
            own = model.next_token_logits(tokens)
        self.assertTrue(torch.allclose(own, again.next_token_logits(tokens), atol=1e-6))


if __name__ == "__main__":
    unittest.main()
