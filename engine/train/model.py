"""tidepool-mini in PyTorch: MLA with native sparse attention, DeepSeekMoE, one MTP module (docs/model.md).

Plain and right on any device; on a GPU the two hot spots (attention, experts) go through `fast.py`, which is tested
against this file. Parameters are f32; under autocast the products run in bf16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import pool_rows, reference_attention, rotate
from config import ModelConfig

try:
    import fast
except ImportError:  # no Triton: only the reference paths exist
    fast = None


class Matrix(nn.Module):
    """y = W x with W (rows, columns), or a stack of such. These are what the model file holds in Q4_0."""

    def __init__(self, *shape: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape) * std)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class RmsNorm(nn.Module):
    """x / rms(x) * weight, in f32. Source: docs/model.md."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


class Attention(nn.Module):
    """Multi-head latent attention with the three gated branches of NSA. x (batch, length, hidden) -> same."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        std = cfg.hidden**-0.5
        self.q = Matrix(cfg.heads * cfg.qk, cfg.hidden, std=std)
        self.kv_a = Matrix(cfg.latent + cfg.rope, cfg.hidden, std=std)
        self.kv_a_norm = RmsNorm(cfg.latent, cfg.eps)
        self.kv_b = Matrix(cfg.heads * (cfg.nope + cfg.value), cfg.latent, std=cfg.latent**-0.5)
        self.out = Matrix(cfg.hidden, cfg.heads * cfg.value, std=0.02 / (2 * cfg.layers) ** 0.5)
        self.gate = nn.Linear(cfg.hidden, cfg.heads * 3)
        nn.init.zeros_(self.gate.weight)
        with torch.no_grad():  # window first: the other branches come in as they learn
            self.gate.bias.copy_(torch.tensor([-2.0, -2.0, 2.0]).repeat(cfg.heads))
        self.cmp_k = nn.Parameter(torch.full((cfg.cmp_len, cfg.latent + cfg.rope), 1.0 / cfg.cmp_len))
        self.cmp_v = nn.Parameter(torch.full((cfg.cmp_len, cfg.latent), 1.0 / cfg.cmp_len))

    def keys_values(self, c: Tensor, k_rot: Tensor, c_v: Tensor) -> tuple[Tensor, Tensor]:
        """Per-head keys and values of latent rows. c, c_v (batch, n, latent), k_rot (batch, n, rope)."""
        cfg = self.cfg
        batch, n, _ = c.shape
        w = self.kv_b.weight.view(cfg.heads, cfg.nope + cfg.value, cfg.latent)
        w_k, w_v = w[:, : cfg.nope].flatten(0, 1), w[:, cfg.nope :].flatten(0, 1)
        k_nope = F.linear(c, w_k).view(batch, n, cfg.heads, cfg.nope)
        v = F.linear(c_v, w_v).view(batch, n, cfg.heads, cfg.value)
        k = torch.cat((k_nope, k_rot[:, :, None].expand(batch, n, cfg.heads, cfg.rope).to(k_nope.dtype)), -1)
        return k, v

    def forward(self, x: Tensor, doc_start: Tensor, doc_end: Tensor, inv_freq: Tensor) -> Tensor:
        cfg = self.cfg
        batch, length, _ = x.shape
        position = torch.arange(length, device=x.device)
        q = self.q(x).view(batch, length, cfg.heads, cfg.qk)
        q = torch.cat((q[..., : cfg.nope], rotate(q[..., cfg.nope :], position, inv_freq)), -1)
        latent, k_raw = self.kv_a(x).split((cfg.latent, cfg.rope), -1)
        c = self.kv_a_norm(latent)
        k, v = self.keys_values(c, rotate(k_raw, position, inv_freq), c)
        gates = torch.sigmoid(self.gate(x).float()).view(batch, length, cfg.heads, 3).to(v.dtype)
        kc = vc = None
        if cfg.attention == "nsa":
            pooled = pool_rows(torch.cat((c, k_raw), -1), self.cmp_k, cfg.cmp_stride)
            pooled_v = pool_rows(c, self.cmp_v, cfg.cmp_stride)
            start = torch.arange(length // cfg.cmp_stride, device=x.device) * cfg.cmp_stride
            kc, vc = self.keys_values(
                pooled[..., : cfg.latent], rotate(pooled[..., cfg.latent :], start, inv_freq), pooled_v
            )
        if fast is not None and x.is_cuda:
            o = fast.attention(cfg, q, k, v, kc, vc, gates, doc_start, doc_end)
        else:
            o = reference_attention(cfg, q, k, v, kc, vc, gates, doc_start)
        return self.out(o.reshape(batch, length, cfg.heads * cfg.value))


class SwiGlu(nn.Module):
    """down(silu(gate x) * up x)."""

    def __init__(self, cfg: ModelConfig, width: int) -> None:
        super().__init__()
        self.gate = Matrix(width, cfg.hidden, std=cfg.hidden**-0.5)
        self.up = Matrix(width, cfg.hidden, std=cfg.hidden**-0.5)
        self.down = Matrix(cfg.hidden, width, std=0.02 / (2 * cfg.layers) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class MixtureOfExperts(nn.Module):
    """Sigmoid routing with a bias that only chooses (auxiliary-loss-free balancing), plus shared experts."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        std = cfg.hidden**-0.5
        self.router = nn.Parameter(torch.randn(cfg.experts, cfg.hidden) * std)
        self.register_buffer("bias", torch.zeros(cfg.experts))
        self.register_buffer("load", torch.zeros(cfg.experts))  # tokens per expert since the last balancing step
        self.gate = Matrix(cfg.experts, cfg.expert_ff, cfg.hidden, std=std)
        self.up = Matrix(cfg.experts, cfg.expert_ff, cfg.hidden, std=std)
        self.down = Matrix(cfg.experts, cfg.hidden, cfg.expert_ff, std=0.02 / (2 * cfg.layers) ** 0.5)
        self.shared = SwiGlu(cfg, cfg.expert_ff * cfg.shared)

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Expert ids and weights, each (tokens, top_k), of x (tokens, hidden); ties go to the lowest index."""
        with torch.autocast(x.device.type, enabled=False):
            score = torch.sigmoid(x.float() @ self.router.t())
        rest = (score + self.bias).detach()
        chosen = []
        for _ in range(self.cfg.top_k):
            best = rest.argmax(-1, keepdim=True)
            chosen.append(best)
            rest = rest.scatter(-1, best, float("-inf"))
        ids = torch.cat(chosen, -1)
        weights = score.gather(-1, ids)
        return ids, weights / weights.sum(-1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        ids, weights = self.route(flat)
        if fast is not None and x.is_cuda:
            routed, counts = fast.experts(flat, ids, weights, self.gate.weight, self.up.weight, self.down.weight)
        else:
            routed, counts = self.routed_reference(flat, ids, weights)
        if self.training:
            self.load += counts
        return routed.view(x.shape) + self.shared(x)

    def routed_reference(self, x: Tensor, ids: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Loop over experts; x (tokens, hidden). Returns the sum and the tokens per expert."""
        gate, up, down = self.gate.weight, self.up.weight, self.down.weight
        out = torch.zeros_like(x)
        for e in range(self.cfg.experts):
            token, slot = (ids == e).nonzero(as_tuple=True)
            h = F.silu(F.linear(x[token], gate[e])) * F.linear(x[token], up[e])
            out = out.index_add(0, token, F.linear(h, down[e]) * weights[token, slot, None].to(x.dtype))
        return out, torch.bincount(ids.flatten(), minlength=self.cfg.experts).float()


class Block(nn.Module):
    """One pre-norm layer."""

    def __init__(self, cfg: ModelConfig, feed_forward: nn.Module) -> None:
        super().__init__()
        self.attn_norm = RmsNorm(cfg.hidden, cfg.eps)
        self.attn = Attention(cfg)
        self.ffn_norm = RmsNorm(cfg.hidden, cfg.eps)
        self.ffn = feed_forward

    def forward(self, x: Tensor, doc_start: Tensor, doc_end: Tensor, inv_freq: Tensor) -> Tensor:
        x = x + self.attn(self.attn_norm(x), doc_start, doc_end, inv_freq)
        return x + self.ffn(self.ffn_norm(x))


class Mtp(nn.Module):
    """Multi-token prediction (DeepSeek-V3 §2.2): hidden state of t and embedding of t+1 predict token t+2."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.enorm = RmsNorm(cfg.hidden, cfg.eps)
        self.hnorm = RmsNorm(cfg.hidden, cfg.eps)
        self.eh_proj = Matrix(cfg.hidden, 2 * cfg.hidden, std=(2 * cfg.hidden) ** -0.5)
        self.block = Block(cfg, SwiGlu(cfg, cfg.mtp_ff))
        self.norm = RmsNorm(cfg.hidden, cfg.eps)


class Model(nn.Module):
    """tokens (batch, length) int64 -> hidden states before the final norm (batch, length, hidden)."""

    def __init__(self, cfg: ModelConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed = Matrix(cfg.vocab, cfg.hidden, std=0.02)
        self.blocks = nn.ModuleList(Block(cfg, self.feed_forward(i)) for i in range(cfg.layers))
        self.norm = RmsNorm(cfg.hidden, cfg.eps)
        self.mtp = Mtp(cfg)
        self.register_buffer("inv_freq", torch.tensor(cfg.inv_freq(), dtype=torch.float32), persistent=False)

    def feed_forward(self, layer: int) -> nn.Module:
        cfg = self.cfg
        if layer < cfg.dense_layers:
            return SwiGlu(cfg, cfg.dense_ff)
        return MixtureOfExperts(cfg) if cfg.ffn == "moe" else SwiGlu(cfg, cfg.active_ff)

    def forward(self, tokens: Tensor, doc_start: Tensor, doc_end: Tensor) -> Tensor:
        x = F.embedding(tokens, self.embed.weight)
        for block in self.blocks:
            x = block(x, doc_start, doc_end, self.inv_freq)
        return x

    def mtp_hidden(self, hidden: Tensor, tokens: Tensor, doc_start: Tensor, doc_end: Tensor) -> Tensor:
        """Normalised states that predict token t+2; the last position of the row sees token 0 and has no target."""
        following = F.pad(tokens[:, 1:], (0, 1))
        joined = torch.cat((self.mtp.enorm(F.embedding(following, self.embed.weight)), self.mtp.hnorm(hidden)), -1)
        x = self.mtp.block(self.mtp.eh_proj(joined.to(hidden.dtype)), doc_start, doc_end, self.inv_freq)
        return self.mtp.norm(x)

    def logits(self, normed: Tensor) -> Tensor:
        """Scores over the vocabulary of normalised hidden states."""
        return self.embed(normed)

    def next_token_logits(self, tokens: Tensor) -> Tensor:
        """Logits of a whole sequence without documents: tokens (batch, length), length a multiple of 64."""
        start = torch.zeros_like(tokens)
        end = torch.full_like(tokens, tokens.shape[1])
        return self.logits(self.norm(self(tokens, start, end)))

    def balance(self, step: float) -> Tensor:
        """Moves every router bias against its load; returns the largest load over the mean, per mixture layer."""
        peaks = []
        for block in self.blocks:
            moe = block.ffn
            if isinstance(moe, MixtureOfExperts):
                mean = moe.load.mean().clamp(min=1)
                moe.bias += step * torch.sign(mean - moe.load)
                moe.bias -= moe.bias.mean()
                peaks.append(moe.load.max() / mean)
                moe.load.zero_()
        return torch.stack(peaks) if peaks else torch.zeros(1, device=self.embed.weight.device)

    def matrices(self) -> list[Tensor]:
        """Every weight that the model file holds in Q4_0."""
        return [m.weight for m in self.modules() if isinstance(m, Matrix)]
