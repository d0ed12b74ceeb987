"""Sizes of language models before they are fetched: from a `config.json` on this machine, else from the model's name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from synpro.assets.weights import json_object


class ModelSizeError(ValueError):
    """A model whose size is not known; the message says why."""


@dataclass(frozen=True)
class ModelSize:
    """The shape of a transformer."""

    parameters: int
    """All of them; of an encoder, those without the embeddings, which it only looks up."""
    n_layers: int
    d_model: int
    hidden_size: int
    """Inner width of the feed-forward."""
    kv_cache: int
    """Values of the key/value cache per token."""


KNOWN = {
    "OLMo-2-0425-1B": ModelSize(1_484_916_736, 16, 2048, 8192, 65_536),
    "SmolLM2-135M": ModelSize(134_515_008, 30, 576, 1536, 11_520),
    "Qwen3-1.7B": ModelSize(1_720_574_976, 28, 2048, 6144, 57_344),
    "Qwen3-4B": ModelSize(4_022_468_096, 36, 2560, 9728, 73_728),
    "DataMan-1.5B": ModelSize(1_543_714_304, 28, 1536, 8960, 14_336),
    "all-minilm-l6": ModelSize(10_794_624, 6, 384, 1536, 0),
    "deberta-large": ModelSize(353_000_000, 24, 1024, 4096, 0),
}
"""Sizes by a part of the name, from the published configs."""


def model_size(reference: str) -> ModelSize:
    """The size of the model that a reference names. Raises ModelSizeError."""
    for name, size in KNOWN.items():
        if name in reference:
            return size
    try:
        c = json_object(Path(reference) / "config.json")
        width, layers, vocab, hidden = c["hidden_size"], c["num_hidden_layers"], c["vocab_size"], c["intermediate_size"]
        heads, kv = c["num_attention_heads"], c.get("num_key_value_heads", c["num_attention_heads"])
    except (OSError, KeyError, ValueError) as problem:
        raise ModelSizeError(
            f"the size of {reference!r} is not known ({problem}); give a folder with its config.json"
        ) from problem
    block = 2 * width * width + 2 * width * width * kv // heads + 3 * width * hidden
    tables = vocab * width * (1 if c.get("tie_word_embeddings") else 2)
    return ModelSize(tables + layers * block, layers, width, hidden, 2 * layers * width * kv // heads)


def lora_parameters(size: ModelSize, rank: int, modules: Collection[str] = ()) -> int:
    """Weights of LoRA adapters on all linear layers of a model with Llama's names, or on some of them. A layer of another name
    counts as the widest."""
    d, wide = size.d_model, size.d_model + size.hidden_size
    kv = d + size.kv_cache // (2 * size.n_layers)
    ends = {"q_proj": 2 * d, "k_proj": kv, "v_proj": kv, "o_proj": 2 * d, "gate_proj": wide, "up_proj": wide, "down_proj": wide}
    return rank * size.n_layers * sum(ends.get(name.rpartition(".")[2], wide) for name in modules or ends)
