"""The shape of a model, its size and its cost: OLMo-2 as in method.md, from 1M to 2B parameters.

Decoder blocks with reordered norm (RMSNorm after attention and after the feed-forward, inside the residual), QK norm, RoPE,
SwiGLU and an untied head; the same blocks export to `Olmo2ForCausalLM` without a difference in the logits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from olmo_core.nn.transformer import TransformerConfig


@dataclass(frozen=True)
class ModelConfig:
    """Widths and depths. The defaults are the published 400M model; 1.1B has `d_model=2048, hidden_size=8192`."""

    n_layers: int = 16
    """Blocks (both published models: 16)."""
    d_model: int = 1024
    """Width of the residual stream (400M: 1024; 1.1B: 2048)."""
    n_heads: int = 16
    """Attention heads, each `d_model / n_heads` wide (both published models: 16)."""
    hidden_size: int = 4096
    """Inner width of the SwiGLU feed-forward (400M: 4096; 1.1B: 8192)."""
    rope_theta: int = 500_000
    """Base of the rotary position embedding."""
    norm_eps: float = 1e-6
    """Epsilon of every RMSNorm."""
    qk_norm: bool = True
    """Normalise queries and keys before the rotation, as OLMo-2 does."""
    vocab_multiple: int = 128
    """Embedding rows are padded to a multiple of this (100,278 ids become 100,352 rows)."""

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_heads", "hidden_size", "rope_theta", "vocab_multiple"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a size; give a whole number of at least 1")
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(f"n_heads: {self.n_heads} heads do not cut d_model {self.d_model} into even widths")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps: {self.norm_eps} must be above 0")
        if not self.qk_norm:
            raise ValueError("qk_norm: false has no Olmo2ForCausalLM to export to; leave it on")


def padded_vocab(config: ModelConfig, vocab_size: int) -> int:
    """Embedding rows for a tokenizer of `vocab_size` ids."""
    return -(-vocab_size // config.vocab_multiple) * config.vocab_multiple


def parameters(config: ModelConfig, vocab_size: int, *, embeddings: bool = True) -> int:
    """Parameters of the model, norms included; the input embeddings only when asked for, the head always."""
    width, norm = config.d_model, config.d_model
    attention = 4 * width * width + 2 * norm
    feed_forward = 3 * width * config.hidden_size
    blocks = config.n_layers * (attention + feed_forward + 2 * norm)
    table = padded_vocab(config, vocab_size) * width
    return blocks + norm + table + (table if embeddings else 0)


def flops_per_token(config: ModelConfig, vocab_size: int, sequence_length: int) -> int:
    """Floating-point operations to train on one token: forward and backward, head and causal attention included.

    `6 N` for the `N` parameters that multiply (all but the input embeddings), and `12 d` per layer for each of the
    `(sequence_length + 1) / 2` positions a token attends to on average (Kaplan et al. 2020, with the causal half).
    """
    attention = 12 * config.n_layers * config.d_model * (sequence_length + 1) // 2
    return 6 * parameters(config, vocab_size, embeddings=False) + attention


def transformer_config(config: ModelConfig, vocab_size: int, *, attention: str | None = None) -> TransformerConfig:
    """The same shape in OLMo-core's terms. `attention` names an OLMo-core backend (`torch`, `flash_2`, ...)."""
    from olmo_core.nn.attention import AttentionBackendName
    from olmo_core.nn.feed_forward import FeedForwardConfig
    from olmo_core.nn.transformer import TransformerBlockType, TransformerConfig

    return TransformerConfig.llama_like(
        d_model=config.d_model,
        vocab_size=padded_vocab(config, vocab_size),
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        feed_forward=FeedForwardConfig(hidden_size=config.hidden_size, bias=False),
        block_name=TransformerBlockType.reordered_norm,
        qk_norm=config.qk_norm,
        rope_theta=config.rope_theta,
        layer_norm_eps=config.norm_eps,
        attn_backend=None if attention is None else AttentionBackendName(attention),
    )


def exported_shape(folder: Path) -> tuple[ModelConfig, int]:
    """Shape and trained sequence length of a model in Hugging Face form, as `checkpoint.export` wrote it."""
    body = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = body.get("rope_parameters") or body
    shape = ModelConfig(
        n_layers=body["num_hidden_layers"],
        d_model=body["hidden_size"],
        n_heads=body["num_attention_heads"],
        hidden_size=body["intermediate_size"],
        rope_theta=int(rope["rope_theta"]),
        norm_eps=body["rms_norm_eps"],
        vocab_multiple=body["vocab_size"],
    )
    return shape, int(body["max_position_embeddings"])
