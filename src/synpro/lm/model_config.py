"""The shape of a model, its parameters and its FLOPs: OLMo-2 as published, from 1M to 2B parameters, or an imported model.

Decoder blocks with reordered norm (RMSNorm after attention and after the feed-forward, inside the residual), QK norm, RoPE,
SwiGLU and an untied head; the same blocks export to `Olmo2ForCausalLM` with equal logits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from synpro.assets.models import ImportRefused
from synpro.schema import setting

if TYPE_CHECKING:
    from olmo_core.nn.transformer import TransformerConfig

NORM_EPS = 1e-6
"""Epsilon of every RMSNorm (published)."""
VOCAB_MULTIPLE = 128
"""Embedding rows are padded to a multiple of this (published)."""


@dataclass(frozen=True)
class ModelConfig:
    """Widths and depths. The defaults are the published 400M model; 1.1B has `d_model=2048, hidden_size=8192`."""

    RENAMED: ClassVar[Mapping[str, str]] = {"qk_norm": "", "norm_eps": "", "vocab_multiple": ""}
    FIXED: ClassVar[Mapping[str, float]] = {"qk_norm": True, "norm_eps": NORM_EPS, "vocab_multiple": VOCAB_MULTIPLE}

    n_layers: int = setting(16, source="published", min=1)
    """Blocks (both published models: 16)."""
    d_model: int = setting(1024, source="published", min=1)
    """Width of the residual stream (400M: 1024; 1.1B: 2048)."""
    n_heads: int = setting(16, source="published", min=1)
    """Attention heads, each `d_model / n_heads` wide (both published models: 16)."""
    hidden_size: int = setting(4096, source="published", min=1)
    """Inner width of the SwiGLU feed-forward (400M: 4096; 1.1B: 8192)."""
    rope_theta: int = setting(500_000, source="published", min=1)
    """Base of the rotary position embedding."""

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads or (self.d_model // self.n_heads) % 2:
            raise ValueError(
                f"n_heads: {self.n_heads} heads do not divide d_model {self.d_model} into even widths; use a number that does"
            )


@dataclass(frozen=True)
class ImportedModel(ModelConfig):
    """The shape of a model that was made elsewhere, from its files; `lm/imported.py` makes a model of it."""

    folder: Path = Path()
    """Its Hugging Face folder."""
    vocab_size: int = 0
    """Rows of its embeddings."""
    context: int = 0
    """Its longest input, in tokens."""
    parameters: int = 0
    """All of them; a head that shares the embeddings counts once."""
    tied: bool = False
    """The head is the embeddings."""

    def __post_init__(self) -> None:
        """Nothing is checked: the model exists."""


def imported_model(folder: Path) -> ImportedModel:
    """The shape of a Hugging Face folder, from `config.json` and the headers of its weights.

    Raises ImportRefused for a `config.json` that is not of a causal language model in the usual terms, DamagedModel.
    """
    from synpro.assets.weights import json_object, read_shapes

    body = json_object(folder / "config.json")
    try:
        shapes, tied = read_shapes(folder), _is_tied(folder, body)
        copy = "lm_head.weight" if tied and "model.embed_tokens.weight" in shapes else ""
        return ImportedModel(
            n_layers=body["num_hidden_layers"],
            d_model=body["hidden_size"],
            n_heads=body["num_attention_heads"],
            hidden_size=body["intermediate_size"],
            folder=folder,
            vocab_size=body["vocab_size"],
            context=body["max_position_embeddings"],
            parameters=sum(math.prod(shape) for name, shape in shapes.items() if name != copy),
            tied=tied,
        )
    except KeyError as problem:
        raise ImportRefused(
            f"pretrain.start: {folder / 'config.json'} is of a model of type {body.get('model_type')!r}, without {problem}; "
            "use a causal language model that OLMo-core imports (docs/continue.md), such as Llama, Qwen3 or OLMo-2"
        ) from None


def _is_tied(folder: Path, body: Mapping[str, Any]) -> bool:
    """Whether a model's head is its embeddings; where `config.json` does not say, by the default of its type."""
    if "tie_word_embeddings" in body:
        return bool(body["tie_word_embeddings"])
    if "model_type" not in body:
        raise KeyError("model_type")
    from transformers import AutoConfig

    return bool(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).tie_word_embeddings)


def padded_vocab_size(vocab_size: int) -> int:
    """Embedding rows for a tokenizer of `vocab_size` ids (100,278 ids become 100,352 rows)."""
    return -(-vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


def num_parameters(config: ModelConfig, vocab_size: int, *, embeddings: bool = True) -> int:
    """Parameters of the model, norms and head included; `embeddings`: whether the input embeddings count too."""
    if isinstance(config, ImportedModel):
        return config.parameters - (0 if embeddings or config.tied else config.vocab_size * config.d_model)
    width, norm = config.d_model, config.d_model
    attention = 4 * width * width + 2 * norm
    feed_forward = 3 * width * config.hidden_size
    blocks = config.n_layers * (attention + feed_forward + 2 * norm)
    table = padded_vocab_size(vocab_size) * width
    return blocks + norm + table + (table if embeddings else 0)


def flops_per_token(config: ModelConfig, vocab_size: int, sequence_length: int) -> int:
    """Floating-point operations to train on one token: forward and backward, head and causal attention included.

    `6 N` for the `N` parameters that multiply (all but the input embeddings), and `12 d` per layer for each of the
    `(sequence_length + 1) / 2` positions a token attends to on average (Kaplan et al. 2020, with the causal half).
    """
    attention = 12 * config.n_layers * config.d_model * (sequence_length + 1) // 2
    return 6 * num_parameters(config, vocab_size, embeddings=False) + attention


def transformer_config(config: ModelConfig, vocab_size: int, *, attention: str | None = None) -> TransformerConfig:
    """The same shape as OLMo-core's config. `attention` names an OLMo-core backend (`torch`, `flash_2`, ...)."""
    if isinstance(config, ImportedModel):
        from synpro.lm.imported import olmo_config

        return olmo_config(config.folder, attention=attention)
    from olmo_core.nn.attention import AttentionBackendName
    from olmo_core.nn.feed_forward import FeedForwardConfig
    from olmo_core.nn.transformer import TransformerBlockType, TransformerConfig

    return TransformerConfig.llama_like(
        d_model=config.d_model,
        vocab_size=padded_vocab_size(vocab_size),
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        feed_forward=FeedForwardConfig(hidden_size=config.hidden_size, bias=False),
        block_name=TransformerBlockType.reordered_norm,
        qk_norm=True,
        rope_theta=config.rope_theta,
        layer_norm_eps=NORM_EPS,
        attn_backend=None if attention is None else AttentionBackendName(attention),
    )


def exported_model_config(folder: Path) -> tuple[ModelConfig, int]:
    """Shape and trained sequence length of a Hugging Face folder that `pretrain` wrote."""
    state = folder.parent / "trainer" / "state.json"
    training = json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {}
    if "imported" in training:
        return imported_model(folder), int(training["imported"]["sequence_length"])
    body = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = body.get("rope_parameters") or body
    shape = ModelConfig(
        n_layers=body["num_hidden_layers"],
        d_model=body["hidden_size"],
        n_heads=body["num_attention_heads"],
        hidden_size=body["intermediate_size"],
        rope_theta=int(rope["rope_theta"]),
    )
    return shape, int(body["max_position_embeddings"])
