"""Which engine a model reference asks for.

| reference | engine |
|---|---|
| `hf:ORG/NAME[@REVISION]`, `wheel:...`, a folder, a .gguf file | in this process, through transformers (`local.py`) |
| `http://HOST:PORT/v1#MODEL` | an OpenAI-compatible server (`openai.py`) |
| `vllm:` and one of the first row | vLLM in this process (`vllm.py`) |
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from synpro.engines.base import Model
from synpro.engines.openai import ServerConfig

VLLM = "vllm:"


def is_server(reference: str) -> bool:
    """Whether a reference names a model behind a server."""
    return reference.startswith(("http://", "https://"))


def asset_of(reference: str) -> str | None:
    """The asset reference a model is opened from; None behind a server."""
    return None if is_server(reference) else reference.removeprefix(VLLM)


def check_reference(reference: str) -> None:
    """Raises ValueError, without opening anything, for a reference that names no model."""
    if not reference.removeprefix(VLLM).strip():
        raise ValueError(f"{reference!r} names no model; write hf:ORG/NAME, a folder, or http://HOST:PORT/v1#MODEL")
    if not is_server(reference):
        return
    parts = urlsplit(reference)
    if not parts.hostname or not parts.fragment:
        missing = "host" if not parts.hostname else "model"
        raise ValueError(f"{reference!r} names no {missing}; write http://HOST:PORT/v1#MODEL")
    if parts.username or parts.password or parts.query:
        raise ValueError(f"{parts.hostname!r} comes with a key or a query; put the key into the environment (OPENAI_API_KEY)")


def open_model(
    reference: str,
    *,
    slot: str,
    server: ServerConfig | None = None,
    dtype: str = "bfloat16",
    batch_size: int = 16,
    memory: Path | None = None,
) -> Model:
    """Open a model that can `generate` and `choose`, to be given back with `close`.

    `slot` is the config key it fills, for messages; `memory` the folder in which a step remembers which weights a server had
    (one file per slot), None to remember them in this process alone. Raises ValueError for a reference that names no model,
    AssetError for one that cannot be had, EngineError for an engine that does not open (ServerError for a server).
    """
    check_reference(reference)
    if is_server(reference):
        from synpro.engines.openai import ServerModel

        address, _, model = reference.partition("#")
        return ServerModel(address, model, slot=slot, cfg=server, memory=memory)
    if reference.startswith(VLLM):
        from synpro.engines.vllm import VLLMModel

        return VLLMModel.load(reference.removeprefix(VLLM), slot=slot, dtype=dtype)
    from synpro.engines.local import LocalModel

    return LocalModel.load(reference, dtype, batch_size=batch_size, slot=slot)
