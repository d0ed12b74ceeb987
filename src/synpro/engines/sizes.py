"""How large a language model is, before it is fetched: from its `config.json` on this machine, else from its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


class SizeError(ValueError):
    """A model whose size cannot be told; the message says why."""


@dataclass(frozen=True)
class Size:
    """The shape of a language model with SwiGLU blocks."""

    parameters: int
    layers: int
    width: int
    hidden: int
    cache: int
    """Values of the key/value cache per token."""


KNOWN = {
    "OLMo-2-0425-1B": Size(1_484_916_736, 16, 2048, 8192, 65_536),
    "SmolLM2-135M": Size(134_515_008, 30, 576, 1536, 11_520),
    "Qwen3-1.7B": Size(1_720_574_976, 28, 2048, 6144, 57_344),
    "Qwen3-4B": Size(4_022_468_096, 36, 2560, 9728, 73_728),
    "DataMan-1.5B": Size(1_543_714_304, 28, 1536, 8960, 14_336),
}
"""By a part of the name; the published configs say the same."""


def size_of(reference: str) -> Size:
    """The size of the model that a reference names. Raises SizeError."""
    for name, size in KNOWN.items():
        if name in reference:
            return size
    try:
        c = json.loads((Path(reference) / "config.json").read_text(encoding="utf-8"))
        width, layers, vocab, hidden = c["hidden_size"], c["num_hidden_layers"], c["vocab_size"], c["intermediate_size"]
        heads, kv = c["num_attention_heads"], c.get("num_key_value_heads", c["num_attention_heads"])
    except (OSError, KeyError, json.JSONDecodeError) as problem:
        raise SizeError(f"the size of {reference!r} is not known ({problem})") from problem
    block = 2 * width * width + 2 * width * width * kv // heads + 3 * width * hidden
    tables = vocab * width * (1 if c.get("tie_word_embeddings") else 2)
    return Size(tables + layers * block, layers, width, hidden, 2 * layers * width * kv // heads)
