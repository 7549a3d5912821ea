"""Shape of the model and the keys under which a model file carries it (docs/model.md)."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes of one model; the defaults are tidepool-mini's. Lengths and positions are in tokens."""

    vocab: int = 16384
    hidden: int = 384
    layers: int = 12
    dense_layers: int = 1
    heads: int = 6
    nope: int = 32
    rope: int = 32
    value: int = 64
    latent: int = 128
    dense_ff: int = 1024
    experts: int = 16
    top_k: int = 3
    shared: int = 1
    expert_ff: int = 128
    eps: float = 1e-6
    rope_base: float = 10000.0
    yarn_factor: float = 1.0
    yarn_original: int = 4096
    yarn_log_multiplier: float = 0.1
    context: int = 4096
    cmp_len: int = 32
    cmp_stride: int = 16
    select_block: int = 64
    select_n: int = 16
    window: int = 512
    init_blocks: int = 1
    local_blocks: int = 2
    mtp_ff: int = 512
    attention: str = "nsa"  # "dense" for the twin
    ffn: str = "moe"  # "dense" for the twin: one feed-forward of the active size

    @property
    def qk(self) -> int:
        """Width of a query or key head."""
        return self.nope + self.rope

    @property
    def active_ff(self) -> int:
        """Feed-forward width that one token passes through in a mixture layer."""
        return self.expert_ff * (self.top_k + self.shared)

    def inv_freq(self) -> list[float]:
        """Angle per position of each interleaved pair, (rope / 2), YaRN included."""
        half = self.rope // 2
        plain = [self.rope_base ** (-2.0 * i / self.rope) for i in range(half)]
        if self.yarn_factor == 1.0:
            return plain

        def correction(beta: float) -> float:
            return self.rope * math.log(self.yarn_original / (beta * 2 * math.pi)) / (2 * math.log(self.rope_base))

        low = min(max(math.floor(correction(32)), 0), half - 1)
        high = min(max(math.ceil(correction(1)), 0), half - 1)
        out = []
        for i, f in enumerate(plain):
            ramp = 1 - min(max((i - low) / max(high - low, 0.001), 0.0), 1.0)
            out.append(f / self.yarn_factor * (1 - ramp) + f * ramp)
        return out

    def softmax_scale(self) -> float:
        """Factor on query-key products, with YaRN's temperature."""
        m = 1.0
        if self.yarn_factor != 1.0:
            m = self.yarn_log_multiplier * math.log(self.yarn_factor) + 1.0
        return self.qk**-0.5 * m * m

    def metadata(self) -> dict[str, int | float | str]:
        """Key-value pairs of the model file, without the tokenizer's."""
        out: dict[str, int | float | str] = {
            "general.architecture": "tidepool",
            "tidepool.context_length": self.context,
            "tidepool.embedding_length": self.hidden,
            "tidepool.block_count": self.layers,
            "tidepool.leading_dense_block_count": self.dense_layers,
            "tidepool.feed_forward_length": self.dense_ff,
            "tidepool.attention.head_count": self.heads,
            "tidepool.attention.key_length": self.qk,
            "tidepool.attention.value_length": self.value,
            "tidepool.attention.kv_lora_rank": self.latent,
            "tidepool.attention.layer_norm_rms_epsilon": self.eps,
            "tidepool.rope.dimension_count": self.rope,
            "tidepool.rope.freq_base": self.rope_base,
            "tidepool.expert_count": self.experts,
            "tidepool.expert_used_count": self.top_k,
            "tidepool.expert_shared_count": self.shared,
            "tidepool.expert_feed_forward_length": self.expert_ff,
            "tidepool.expert_gating_func": 2,
            "tidepool.expert_weights_norm": True,
            "tidepool.expert_weights_scale": 1.0,
            "tidepool.nsa.block_len": self.cmp_len,
            "tidepool.nsa.stride": self.cmp_stride,
            "tidepool.nsa.select_block": self.select_block,
            "tidepool.nsa.select_n": self.select_n,
            "tidepool.nsa.window": self.window,
            "tidepool.nsa.init_blocks": self.init_blocks,
            "tidepool.nsa.local_blocks": self.local_blocks,
            "tidepool.nsa.phi": "position_weighted_mean",
            "tidepool.nsa.gate": "sigmoid_linear",
            "tidepool.nextn_predict_layers": 1,
        }
        if self.yarn_factor != 1.0:
            out["tidepool.rope.scaling.type"] = "yarn"
            out["tidepool.rope.scaling.factor"] = self.yarn_factor
            out["tidepool.rope.scaling.original_context_length"] = self.yarn_original
            out["tidepool.rope.scaling.yarn_log_multiplier"] = self.yarn_log_multiplier
        return out


def tiny(**changes: object) -> ModelConfig:
    """A model small enough for tests, with every mechanism of the real one."""
    base = ModelConfig(
        vocab=512, hidden=64, layers=3, heads=2, nope=16, rope=16, value=32, latent=32, dense_ff=96, experts=8,
        expert_ff=32, mtp_ff=32, context=16384,
    )
    return dataclasses.replace(base, **changes)
