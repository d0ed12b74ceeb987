"""`type = "server"`: an OpenAI-compatible server that the step starts on the model, asks, and ends.

Any server that opens a Hugging Face folder will do: vLLM (the default command), SGLang, `transformers serve`.
"""

from __future__ import annotations

import shutil
import string
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from synpro.engines.base import Model, Use
from synpro.engines.openai import RequestConfig, ServerModel
from synpro.engines.server_process import ServerProcess
from synpro.records import Generator
from synpro.schema import setting

PLACEHOLDERS = ("model", "name", "port", "dtype")
LORA_PLACEHOLDERS = ("adapter", "adapter_name", "rank")


@dataclass(frozen=True, kw_only=True)
class ServerConfig(RequestConfig):
    """How a server is started, and how it is asked. In `command`, `{model}` is the folder with the weights, `{port}` the port,
    `{dtype}` the dtype, `{name}` what the server is to call its model."""

    type: Literal["server"] = "server"
    dtype: Literal["float32", "bfloat16"] = setting("bfloat16")
    """Dtype of the weights."""
    command: tuple[str, ...] = (
        *("vllm", "serve", "{model}", "--served-model-name", "{name}", "--host", "127.0.0.1", "--port", "{port}"),
        *("--dtype", "{dtype}", "--generation-config", "vllm"),
    )
    """One word per entry. Speculative decoding, parallelism and the like are the server's own options."""
    lora_arguments: tuple[str, ...] = (
        *("--enable-lora", "--max-lora-rank", "{rank}", "--lora-modules", "{adapter_name}={adapter}"),
    )
    """Words added for a generator that is a LoRA adapter: `{adapter}` is its folder, `{rank}` a `max_lora_rank` of vLLM that
    holds it, `{adapter_name}` what requests call it. Empty for a server without LoRA: the adapter is merged into the weights,
    which in 16 bits loses part of it."""
    served_model_name: str = setting("generator", execution=True)
    """What requests call the model; `{model}` for a server that goes by the folder (`transformers serve`)."""
    health_path: str = setting("/health", execution=True)
    """Path that answers 200 once the model is loaded."""
    start_seconds: float = setting(600.0, above=0, below=86_400, unit="seconds", execution=True)
    """For the model to be loaded (and compiled, on a GPU)."""
    environment: dict[str, str] = setting(default_factory=dict, execution=True)
    """Variables the server sees beside those of the step. Keys (secrets) do not belong here: they would be stored in files."""

    RENAMED: ClassVar[Mapping[str, str]] = {"adapter": "lora_arguments", "name": "served_model_name", "health": "health_path"}

    def __post_init__(self) -> None:
        if not self.command:
            raise ValueError("command: names no program")
        check_placeholders("command", self.command, PLACEHOLDERS)
        check_placeholders("served_model_name", (self.served_model_name,), PLACEHOLDERS)
        check_placeholders("lora_arguments", self.lora_arguments, (*PLACEHOLDERS, *LORA_PLACEHOLDERS))
        if not any("{model}" in word for word in self.command) or not any("{port}" in word for word in self.command):
            raise ValueError("command: has to contain {model} and {port}")
        if not self.health_path.startswith("/"):
            raise ValueError(f"health_path: {self.health_path!r} is no path; it begins with /")

    def open_model(self, model: Generator | str, use: Use) -> Model:
        """Raises EngineError for a server that cannot be started, ends, or is not healthy in time."""
        return ServerEngine(self, model, use)

    def missing(self, slot: str) -> list[str]:
        """As in engines/base.py."""
        if shutil.which(self.command[0]) is not None:
            return []
        return [f"{slot}.engine.command: there is no program {self.command[0]!r}; install the server (docs/engines.md)"]


def check_placeholders(key: str, words: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raise ValueError for a word with braces around something that is not known."""
    for word in words:
        try:
            unknown = {name for _, name, _, _ in string.Formatter().parse(word) if name is not None} - {*known}
        except ValueError as problem:
            raise ValueError(f"{key}: {word!r}: {problem}; write {{{{ for a brace") from None
        if unknown:
            names = ", ".join(map(repr, sorted(unknown)))
            raise ValueError(f"{key}: {word!r} contains {names}; known: {', '.join(known)}; write {{{{ for a literal brace")


class ServerEngine(ServerModel):
    """A model behind a server that lives as long as this engine."""

    def __init__(self, cfg: ServerConfig, model: Generator | str, use: Use) -> None:
        """Start the server on the weights. Raises EngineError, AssetError."""
        from synpro.engines.export import export_merged, locate
        from synpro.engines.vllm import max_lora_rank

        slot, scratch = use.slot, use.scratch
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="server-", dir=scratch)
        self._process: ServerProcess | None = None
        try:
            base, adapter = locate(model, slot)
            live = adapter if cfg.lora_arguments else None
            weights = export_merged(base, None if live else adapter, cfg.dtype, Path(self._folder.name) / "model")
            values = {"model": str(weights), "dtype": cfg.dtype}
            values["name"] = name = cfg.served_model_name.format(**values, name="", port="")
            words = cfg.command
            if live is not None:
                name = f"{name}-adapter"
                values |= {"adapter": str(live), "rank": str(max_lora_rank(live)), "adapter_name": name}
                words += cfg.lora_arguments
            self._process = ServerProcess(
                lambda port: [word.format(**values, port=port) for word in words],
                slot=f"{slot}.engine",
                log=(scratch or Path(self._folder.name)) / f"{slot.rpartition('.')[2]}-server.log",
                health_path=cfg.health_path,
                start_seconds=cfg.start_seconds,
                environment=cfg.environment,
            )
            # No fingerprint is stored: the step itself has started the server on these weights.
            super().__init__(self._process.address, name, slot=slot, cfg=cfg, role=use.role, progress=use.progress)
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Drop the connections and end the server. Safe to call twice."""
        super().close()
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.close()
        self._folder.cleanup()
