"""From a checkpoint to the model file, and back to a checkpoint that a further training goes on from.

    python3 export.py pack CHECKPOINT.pt TOKENIZER.json MODEL.gguf
    python3 export.py unpack MODEL.gguf CHECKPOINT.pt
    python3 export.py tokenizer MODEL.gguf TOKENIZER.json
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor

import gguf
from config import ModelConfig
from model import Model
from prepare import PRE_TOKENIZER
from samples import SPECIALS

ATTENTION = {
    "attn.q.weight": "attn_q.weight", "attn.kv_a.weight": "attn_kv_a_mqa.weight",
    "attn.kv_a_norm.weight": "attn_kv_a_norm.weight", "attn.kv_b.weight": "attn_kv_b.weight",
    "attn.out.weight": "attn_output.weight", "attn.gate.weight": "attn_gate.weight",
    "attn.gate.bias": "attn_gate.bias", "attn.cmp_k": "attn_cmp_k.weight", "attn.cmp_v": "attn_cmp_v.weight",
    "attn_norm.weight": "attn_norm.weight", "ffn_norm.weight": "ffn_norm.weight",
}
DENSE = {f"ffn.{part}.weight": f"ffn_{part}.weight" for part in ("gate", "up", "down")}
MIXTURE = {
    "ffn.router": "ffn_gate_inp.weight", "ffn.bias": "exp_probs_b.bias",
    **{f"ffn.{part}.weight": f"ffn_{part}_exps.weight" for part in ("gate", "up", "down")},
    **{f"ffn.shared.{part}.weight": f"ffn_{part}_shexp.weight" for part in ("gate", "up", "down")},
}
MTP = {"mtp.enorm.weight": "nextn.enorm.weight", "mtp.hnorm.weight": "nextn.hnorm.weight",
       "mtp.norm.weight": "nextn.shared_head_norm.weight", "mtp.eh_proj.weight": "nextn.eh_proj.weight"}
FULL_PRECISION = ("attn.gate.", "cmp_", "router", "bias", "norm")


def names(cfg: ModelConfig) -> dict[str, str]:
    """Parameter name in model.py -> tensor name in the file."""
    out = {"embed.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    for i in range(cfg.layers):
        own = ATTENTION | (DENSE if i < cfg.dense_layers or cfg.ffn == "dense" else MIXTURE)
        out |= {f"blocks.{i}.{k}": f"blk.{i}.{v}" for k, v in own.items()}
    n = cfg.layers
    out |= {f"mtp.block.{k}": f"blk.{n}.{v}" for k, v in (ATTENTION | DENSE).items()}
    return out | {k: f"blk.{n}.{v}" for k, v in MTP.items()}


def vocabulary_metadata(tokens: list[str], merges: list[str]) -> dict[str, gguf.Value]:
    """GGUF's keys of a byte-level vocabulary whose first entries are SPECIALS; merges as "left right"."""
    special = set(SPECIALS)
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "tidepool", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if t in special else 1 for t in tokens], "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.padding_token_id": 7,
        "tokenizer.ggml.fim_pre_token_id": 2, "tokenizer.ggml.fim_suf_token_id": 3,
        "tokenizer.ggml.fim_mid_token_id": 4,
    }


def tokenizer_metadata(path: Path) -> dict[str, gguf.Value]:
    """Vocabulary and merges of a tokenizer.json in GGUF's keys."""
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    tokens = [t for t, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return vocabulary_metadata(tokens, merges)


def tokenizer_json(metadata: dict[str, gguf.Value]) -> dict:
    """The inverse of `tokenizer_metadata`: what `tokenizers` reads as tokenizer.json."""
    tokens, merges = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.merges"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": PRE_TOKENIZER}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": i, "content": t, **flags} for i, t in enumerate(tokens) if t in SPECIALS],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "decoder": byte_level | {"use_regex": True, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "vocab": {t: i for i, t in enumerate(tokens)},
                  "merges": merges},
    }


def write_model(cfg: ModelConfig, state: dict[str, Tensor], tokens: dict[str, gguf.Value], path: Path,
                matrices: int = gguf.Q4_0) -> None:
    """The model file; matrices in Q4_0, or F32 for exact tests."""
    tensors = {}
    for own, name in names(cfg).items():
        kind = gguf.F32 if any(part in own for part in FULL_PRECISION) else matrices
        tensors[name] = (state[own].detach().float().cpu().numpy(), kind)
    about = {"general.name": "tidepool-mini", "general.license": "apache-2.0"}
    gguf.write(path, cfg.metadata() | about | tokens, tensors)


def read_model(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Configuration and weights, dequantised, of a model file."""
    meta, tensors = gguf.read(path)
    key = lambda k: meta["tidepool." + k]  # noqa: E731
    rope = key("rope.dimension_count")
    cfg = ModelConfig(
        vocab=len(meta["tokenizer.ggml.tokens"]), hidden=key("embedding_length"), layers=key("block_count"),
        dense_layers=key("leading_dense_block_count"), heads=key("attention.head_count"), rope=rope,
        nope=key("attention.key_length") - rope, value=key("attention.value_length"), latent=key("attention.kv_lora_rank"),
        dense_ff=key("feed_forward_length"), experts=key("expert_count"), top_k=key("expert_used_count"),
        shared=key("expert_shared_count"), expert_ff=key("expert_feed_forward_length"),
        rope_base=key("rope.freq_base"), context=key("context_length"), window=key("nsa.window"),
        yarn_factor=meta.get("tidepool.rope.scaling.factor", 1.0), select_n=key("nsa.select_n"),
        yarn_original=meta.get("tidepool.rope.scaling.original_context_length", 4096),
        mtp_ff=tensors[f"blk.{key('block_count')}.ffn_gate.weight"].shape[0],
    )
    return cfg, {own: torch.from_numpy(tensors[name].copy()) for own, name in names(cfg).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("direction", choices=("pack", "unpack", "tokenizer"))
    parser.add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    if args.direction == "tokenizer":
        source, target = args.files
        target.write_text(json.dumps(tokenizer_json(gguf.read(source)[0]), ensure_ascii=False), encoding="utf-8")
        return
    if args.direction == "unpack":
        source, target = args.files
        cfg, state = read_model(source)
        model = Model(cfg)
        model.load_state_dict(state, strict=False)  # the file has no loads of experts
        torch.save({"model": model.state_dict(), "tokens": 0, "config": dataclasses.asdict(cfg)}, target)
        return
    source, tokenizer, target = args.files
    saved = torch.load(source, map_location="cpu", weights_only=False)
    write_model(ModelConfig(**saved["config"]), saved["model"], tokenizer_metadata(tokenizer), target)
    print(f"{target}: {target.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
