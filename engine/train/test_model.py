"""Reference tests that need no GPU: `python3 -m unittest test_model` in this folder."""

from __future__ import annotations

import math
import unittest

import numpy as np
import torch

from attention import block_scores, reference_attention, select_blocks
from config import tiny
from model import Model
from quant import pack_q4_0, round_q4_0, rounded, unpack_q4_0


def naive_attention(cfg, q, k, v, kc, vc, gates, start):
    """NSA of one packed row by loops over positions and heads, written from docs/model.md. Lists of f64."""
    heads, length, _ = q.shape
    out = np.zeros((heads, length, v.shape[-1]))
    scale = cfg.softmax_scale()

    def soft(scores):
        e = np.exp(scores - scores.max())
        return e / e.sum()

    for t in range(length):
        s0 = int(start[t])
        seen = [i for i in range(kc.shape[1]) if 16 * i >= s0 and 16 * i + 31 <= t]
        p = {(h, i): 0.0 for h in range(heads) for i in seen}
        for h in range(heads):
            if seen:
                weights = soft(np.array([q[h, t] @ kc[h, i] * scale for i in seen]))
                for i, w in zip(seen, weights):
                    p[h, i] = w
                out[h, t] += gates[t, h, 0] * sum(w * vc[h, i] for i, w in zip(seen, weights))
        first, own = s0 // 64, t // 64
        total = {}
        for j in range(first, own + 1):
            near = ((4 * j - 1, 1), (4 * j, 2), (4 * j + 1, 2), (4 * j + 2, 2), (4 * j + 3, 1))
            total[j] = sum(c * p.get((h, i), 0.0) for h in range(heads) for i, c in near)
        forced = {first, own, max(own - 1, first)}
        rest = sorted((j for j in total if j not in forced), key=lambda j: (-total[j], j))
        chosen = forced | set(rest[: cfg.select_n - len(forced)])
        tokens = [u for u in range(s0, t + 1) if u // 64 in chosen]
        window = list(range(max(s0, t - cfg.window + 1), t + 1))
        for h in range(heads):
            for branch, keys in ((1, tokens), (2, window)):
                weights = soft(np.array([q[h, t] @ k[h, u] * scale for u in keys]))
                out[h, t] += gates[t, h, branch] * sum(w * v[h, u] for u, w in zip(keys, weights))
    return out


class AttentionTest(unittest.TestCase):
    def compare(self, cfg, length, starts):
        rng = torch.Generator().manual_seed(length)
        shape = (1, cfg.heads, length, 8)
        q, k, v = (torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(3))
        kc, vc = (torch.randn(1, cfg.heads, length // 16, 8, generator=rng, dtype=torch.float64) for _ in range(2))
        gates = torch.rand(1, length, cfg.heads, 3, generator=rng, dtype=torch.float64)
        flipped = (x.transpose(1, 2) for x in (q, k, v, kc, vc))
        got = reference_attention(cfg, *flipped, gates, torch.tensor(starts)[None])[0].transpose(0, 1)
        want = naive_attention(cfg, *(x[0].numpy() for x in (q, k, v, kc, vc, gates)), starts)
        worst = np.abs(got.numpy() - want).max()
        self.assertTrue(worst <= 1e-5, f"largest difference {worst}")

    def test_equals_the_naive_loop_on_packed_documents(self):
        self.compare(tiny(), 256, [0] * 64 + [64] * 128 + [192] * 64)

    def test_equals_the_naive_loop_when_blocks_compete(self):
        self.compare(tiny(select_n=5, window=96), 768, [0] * 128 + [128] * 640)

    def test_ties_go_to_the_lowest_block(self):
        cfg = tiny(select_n=4)
        chosen = select_blocks(cfg, torch.zeros(1, 640, 10), torch.zeros(1, 640, dtype=torch.long))
        self.assertEqual(chosen[0, 639].nonzero().flatten().tolist(), [0, 1, 8, 9])

    def test_scores_weigh_pooled_rows_by_overlap(self):
        p = torch.arange(1, 9, dtype=torch.float32).view(1, 1, 1, 8)
        self.assertEqual(block_scores(tiny(), p)[0, 0].tolist(), [2 * (1 + 2 + 3) + 4, 4 + 2 * (5 + 6 + 7) + 8])


class ModelTest(unittest.TestCase):
    def test_a_document_does_not_see_its_neighbour(self):
        torch.manual_seed(0)
        model = Model(tiny()).eval()
        tokens = torch.randint(0, 512, (1, 256))
        start = torch.tensor([[0] * 128 + [128] * 128])
        end = torch.tensor([[128] * 128 + [256] * 128])
        both = model(tokens, start, end)[:, 128:]
        alone = model(tokens[:, 128:], start[:, :128], end[:, :128])
        self.assertTrue(torch.allclose(both, alone, atol=1e-4))

    def test_the_future_does_not_change_the_past(self):
        torch.manual_seed(1)
        model = Model(tiny(select_n=4)).eval()
        tokens = torch.randint(0, 512, (1, 512))
        a = model.next_token_logits(tokens)
        tokens[0, 300:] = 7
        b = model.next_token_logits(tokens)
        self.assertTrue(torch.allclose(a[:, :300], b[:, :300], atol=1e-4))

    def test_balancing_moves_the_bias_against_the_load(self):
        model = Model(tiny())
        moe = model.blocks[1].ffn
        moe.load.copy_(torch.arange(8.0))
        model.balance(0.01)
        self.assertGreater(moe.bias[0].item(), moe.bias[7].item())

    def test_gradients_reach_every_parameter(self):
        self.check_gradients(rounding=False)

    def test_gradients_reach_every_parameter_through_rounding(self):
        self.check_gradients(rounding=True)

    def check_gradients(self, rounding):
        torch.manual_seed(2)
        model = Model(tiny()).train()
        before = [m.detach().clone() for m in model.matrices()]
        tokens = torch.randint(0, 512, (1, 256))
        zero, end = torch.zeros_like(tokens), torch.full_like(tokens, 256)
        with rounded(model.matrices(), rounding):
            self.assertNotEqual(rounding, all(torch.equal(a, b) for a, b in zip(before, model.matrices())))
            hidden = model(tokens, zero, end)
            loss = model.logits(model.norm(hidden)).logsumexp(-1).mean()
            loss = loss + model.logits(model.mtp_hidden(hidden, tokens, zero, end)).logsumexp(-1).mean()
            loss.backward()
        self.assertTrue(all(torch.equal(a, b) for a, b in zip(before, model.matrices())))
        for name, p in model.named_parameters():
            size = p.grad.abs().sum().item()
            self.assertTrue(math.isfinite(size) and (size > 0 or name.endswith("gate.weight")), name)


class QuantTest(unittest.TestCase):
    def test_packed_bytes_hold_the_rounded_values(self):
        w = np.random.default_rng(0).normal(size=(7, 96)).astype(np.float32)
        w[3] = 0
        back = unpack_q4_0(pack_q4_0(w), w.shape)
        self.assertTrue(np.array_equal(back, round_q4_0(torch.from_numpy(w)).numpy()))
        self.assertTrue(np.isfinite(back).all() and np.abs(back - w).max() < 0.5)


if __name__ == "__main__":
    unittest.main()
