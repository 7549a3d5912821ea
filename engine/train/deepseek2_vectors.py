"""A small random DeepSeek-V2, and the logits that the engine must reproduce from its file (test/fixtures/vectors/).

    python3 deepseek2_vectors.py OUT    # writes deepseek2-lite.gguf, deepseek2-groups.gguf and a .json beside each

The forward pass follows the paper (arXiv 2405.04434, sections 2.1 and 2.2) and DeepSeek's published modeling file, in
double precision, one token pair at a time where that is clearer than fast. `lite` has the features of
DeepSeek-Coder-V2-Lite: queries in one projection, softmax routing from all experts, W_UK and W_UV in one tensor.
`groups` has those of the large models and of newer converters: queries through a latent row, experts from the best
groups, a tied head, W_UK and W_UV apart.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import gguf
from vectors import small_tokenizer

LENGTHS = [1, 31, 32, 33, 64, 65, 130, 511]
IDS = list(range(0, 320, 5))
Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """Sizes in DeepSeek's terms; `query_latent` 0: queries in one projection."""

    name: str
    query_latent: int
    groups: int
    top_groups: int
    normalize: bool
    scale: float
    split: bool  # W_UK and W_UV in tensors of their own, and the head tied to the embedding
    vocab: int = 320
    hidden: int = 64
    layers: int = 3
    heads: int = 4
    nope: int = 16
    rope: int = 8
    value: int = 16
    latent: int = 32
    dense_ff: int = 96
    expert_ff: int = 24
    experts: int = 8
    top_k: int = 3
    shared: int = 2
    eps: float = 1e-6
    base: float = 10000.0
    factor: float = 4.0
    original: int = 64
    mscale: float = 0.0707


SHAPES = [
    Shape("lite", query_latent=0, groups=1, top_groups=1, normalize=False, scale=1.0, split=False),
    Shape("groups", query_latent=24, groups=4, top_groups=2, normalize=True, scale=2.5, split=True),
]


def random_weights(s: Shape, seed: int) -> Weights:
    """Weights by the engine's tensor names, (out, in) as PyTorch keeps them, in f32."""
    rng = np.random.default_rng(seed)
    out: Weights = {}

    def matrix(name: str, *dims: int) -> None:
        out[name] = (rng.standard_normal(dims) / math.sqrt(dims[-1])).astype(np.float32)

    def vector(name: str, n: int) -> None:
        out[name] = rng.uniform(0.5, 1.5, n).astype(np.float32)

    matrix("token_embd.weight", s.vocab, s.hidden)
    vector("output_norm.weight", s.hidden)
    if not s.split:
        matrix("output.weight", s.vocab, s.hidden)
    for i in range(s.layers):
        at = f"blk.{i}."
        vector(at + "attn_norm.weight", s.hidden)
        vector(at + "attn_kv_a_norm.weight", s.latent)
        vector(at + "ffn_norm.weight", s.hidden)
        if s.query_latent:
            matrix(at + "attn_q_a.weight", s.query_latent, s.hidden)
            vector(at + "attn_q_a_norm.weight", s.query_latent)
            matrix(at + "attn_q_b.weight", s.heads * (s.nope + s.rope), s.query_latent)
        else:
            matrix(at + "attn_q.weight", s.heads * (s.nope + s.rope), s.hidden)
        matrix(at + "attn_kv_a_mqa.weight", s.latent + s.rope, s.hidden)
        matrix(at + "attn_kv_b.weight", s.heads * (s.nope + s.value), s.latent)
        matrix(at + "attn_output.weight", s.hidden, s.heads * s.value)
        if i == 0:
            for part in ("gate", "up"):
                matrix(f"{at}ffn_{part}.weight", s.dense_ff, s.hidden)
            matrix(at + "ffn_down.weight", s.hidden, s.dense_ff)
            continue
        matrix(at + "ffn_gate_inp.weight", s.experts, s.hidden)
        for part in ("gate", "up"):
            matrix(f"{at}ffn_{part}_exps.weight", s.experts, s.expert_ff, s.hidden)
            matrix(f"{at}ffn_{part}_shexp.weight", s.shared * s.expert_ff, s.hidden)
        matrix(at + "ffn_down_exps.weight", s.experts, s.hidden, s.expert_ff)
        matrix(at + "ffn_down_shexp.weight", s.hidden, s.shared * s.expert_ff)
    return out


def rms(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def frequencies(s: Shape) -> np.ndarray:
    """YaRN as in DeepSeek's modeling file: beta_fast 32, beta_slow 1."""
    half = np.arange(0, s.rope, 2) / s.rope
    extra = s.base**-half
    inter = extra / s.factor

    def dimension(turns: float) -> float:
        return s.rope * math.log(s.original / (turns * 2 * math.pi)) / (2 * math.log(s.base))

    low = max(math.floor(dimension(32)), 0)
    high = min(math.ceil(dimension(1)), s.rope // 2 - 1)
    ramp = np.clip((np.arange(s.rope // 2) - low) / max(high - low, 0.001), 0, 1)
    return inter * ramp + extra * (1 - ramp)


def rotate(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Pairs (2i, 2i + 1) of the last axis turned by angles (tokens, rope / 2); x (tokens, …, rope)."""
    a = angles.reshape(len(angles), *[1] * (x.ndim - 2), -1)
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = even * np.cos(a) - odd * np.sin(a)
    out[..., 1::2] = even * np.sin(a) + odd * np.cos(a)
    return out


def attention(s: Shape, w: Weights, at: str, x: np.ndarray) -> np.ndarray:
    """Multi-head latent attention of all tokens, nothing absorbed. x (tokens, hidden)."""
    n = len(x)
    if s.query_latent:
        q = rms(x @ w[at + "attn_q_a.weight"].T, w[at + "attn_q_a_norm.weight"], s.eps) @ w[at + "attn_q_b.weight"].T
    else:
        q = x @ w[at + "attn_q.weight"].T
    q = q.reshape(n, s.heads, s.nope + s.rope)
    kv_a = x @ w[at + "attn_kv_a_mqa.weight"].T
    c = rms(kv_a[:, : s.latent], w[at + "attn_kv_a_norm.weight"], s.eps)
    kv = (c @ w[at + "attn_kv_b.weight"].T).reshape(n, s.heads, s.nope + s.value)
    angles = np.arange(n)[:, None] * frequencies(s)[None, :]
    q_rope = rotate(q[..., s.nope :], angles)
    k_rope = rotate(kv_a[:, s.latent :], angles)
    temperature = (s.mscale * math.log(s.factor) + 1) ** 2 / math.sqrt(s.nope + s.rope)
    out = np.zeros((n, s.heads, s.value))
    for h in range(s.heads):
        scores = (q[:, h, : s.nope] @ kv[:, h, : s.nope].T + q_rope[:, h] @ k_rope.T) * temperature
        scores[np.triu_indices(n, 1)] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, h] = p / p.sum(-1, keepdims=True) @ kv[:, h, s.nope :]
    return out.reshape(n, -1) @ w[at + "attn_output.weight"].T


def experts(s: Shape, w: Weights, at: str, x: np.ndarray) -> np.ndarray:
    """Shared and routed experts of all tokens, a token at a time. x (tokens, hidden)."""
    hidden = silu(x @ w[at + "ffn_gate_shexp.weight"].T) * (x @ w[at + "ffn_up_shexp.weight"].T)
    out = hidden @ w[at + "ffn_down_shexp.weight"].T
    logits = x @ w[at + "ffn_gate_inp.weight"].T
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    for t, score in enumerate(scores):
        best_of_group = score.reshape(s.groups, -1).max(-1)
        kept = np.argsort(-best_of_group, kind="stable")[: s.top_groups]
        allowed = np.isin(np.arange(s.experts) // (s.experts // s.groups), kept)
        chosen = np.argsort(-np.where(allowed, score, -np.inf), kind="stable")[: s.top_k]
        total = score[chosen].sum() if s.normalize else 1.0
        for e in chosen:
            gated = silu(w[at + "ffn_gate_exps.weight"][e] @ x[t]) * (w[at + "ffn_up_exps.weight"][e] @ x[t])
            out[t] += score[e] / total * s.scale * (w[at + "ffn_down_exps.weight"][e] @ gated)
    return out


def logits_of(s: Shape, weights: Weights, tokens: list[int]) -> np.ndarray:
    """(tokens, vocab) in double precision."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    x = w["token_embd.weight"][tokens]
    for i in range(s.layers):
        at = f"blk.{i}."
        x = x + attention(s, w, at, rms(x, w[at + "attn_norm.weight"], s.eps))
        h = rms(x, w[at + "ffn_norm.weight"], s.eps)
        if i == 0:
            gated = silu(h @ w[at + "ffn_gate.weight"].T) * (h @ w[at + "ffn_up.weight"].T)
            x = x + gated @ w[at + "ffn_down.weight"].T
        else:
            x = x + experts(s, w, at, h)
    return rms(x, w["output_norm.weight"], s.eps) @ w.get("output.weight", w["token_embd.weight"]).T


def metadata(s: Shape) -> dict[str, gguf.Value]:
    """GGUF's keys, as the older converter writes them, or with `split` the newer one."""
    keys: dict[str, gguf.Value] = {
        "context_length": 512, "embedding_length": s.hidden, "block_count": s.layers, "leading_dense_block_count": 1,
        "feed_forward_length": s.dense_ff, "attention.head_count": s.heads, "attention.kv_lora_rank": s.latent,
        "attention.layer_norm_rms_epsilon": s.eps, "rope.dimension_count": s.rope, "rope.freq_base": s.base,
        "rope.scaling.type": "yarn", "rope.scaling.factor": s.factor,
        "rope.scaling.original_context_length": s.original, "rope.scaling.yarn_log_multiplier": s.mscale,
        "expert_count": s.experts, "expert_used_count": s.top_k, "expert_shared_count": s.shared,
        "expert_feed_forward_length": s.expert_ff, "expert_weights_scale": s.scale,
        "attention.key_length": s.latent + s.rope if s.split else s.nope + s.rope,
        "attention.value_length": s.latent if s.split else s.value,
    }
    if s.split:
        keys |= {"attention.key_length_mla": s.nope + s.rope, "attention.value_length_mla": s.value,
                 "attention.q_lora_rank": s.query_latent, "expert_gating_func": 1, "expert_weights_norm": s.normalize,
                 "expert_group_count": s.groups, "expert_group_used_count": s.top_groups}
    about = {"general.architecture": "deepseek2", "general.name": f"random {s.name}"}
    return about | {f"deepseek2.{k}": v for k, v in keys.items()} | small_tokenizer(s.vocab)


def tensors(s: Shape, weights: Weights) -> dict[str, tuple[np.ndarray, int]]:
    """What the file holds: with `split`, attn_k_b (heads, latent, nope) and attn_v_b (heads, value, latent)."""
    out = dict(weights)
    for i in range(s.layers if s.split else 0):
        kv_b = out.pop(f"blk.{i}.attn_kv_b.weight").reshape(s.heads, s.nope + s.value, s.latent)
        out[f"blk.{i}.attn_k_b.weight"] = kv_b[:, : s.nope].transpose(0, 2, 1)
        out[f"blk.{i}.attn_v_b.weight"] = kv_b[:, s.nope :]
    return {name: (value, gguf.F32) for name, value in out.items()}


def main() -> None:
    folder = Path(sys.argv[1])
    for seed, shape in enumerate(SHAPES):
        weights = random_weights(shape, seed)
        tokens = np.random.default_rng(9).integers(8, shape.vocab, max(LENGTHS)).tolist()
        logits = logits_of(shape, weights, tokens)
        rows = [logits[n - 1] for n in LENGTHS]
        gguf.write(folder / f"deepseek2-{shape.name}.gguf", metadata(shape), tensors(shape, weights))
        vectors = {"tokens": tokens, "lengths": LENGTHS, "ids": IDS, "argmax": [int(r.argmax()) for r in rows],
                   "logits": [[round(float(r[i]), 6) for i in IDS] for r in rows]}
        (folder / f"deepseek2-{shape.name}.json").write_text(json.dumps(vectors))
        print(f"deepseek2-{shape.name}: largest logit {logits.max():.3f}, smallest {logits.min():.3f}")


if __name__ == "__main__":
    main()
