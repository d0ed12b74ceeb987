"""A generator that answers whole chunks of chats, in the engine that the config names, wherever `spread.py` opens it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from synpro.engines.base import Engine, Sampling
from synpro.engines.openai import ServerConfig
from synpro.engines.spawn import ServeConfig
from synpro.engines.vllm import VLLMConfig
from synpro.records import Chat, Completion, Generator

EngineName = Literal["transformers", "vllm", "server"]
Asked = tuple[list[Chat], Sampling]
"""A chunk: its chats, and how they are answered."""


@dataclass(frozen=True)
class Writing:
    """Opens a generator, which answers chunks."""

    generator: Generator
    dtype: str
    device: str | None = None
    batch_size: int = 64
    engine: EngineName = "transformers"
    vllm: VLLMConfig = field(default_factory=VLLMConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    scratch: Path | None = None
    """Where a server's log and merged weights go; None = a temporary folder."""

    def open(self, progress: Callable[[float], None]) -> Author:
        """Raises what the engine raises when it cannot be had (EngineError, AssetError)."""
        if self.engine == "vllm":
            from synpro.engines.vllm import VLLMModel

            return Author(VLLMModel.write_with(self.generator, self.dtype, self.vllm))
        if self.engine == "server":
            return Author(Served(self, progress))
        from synpro.engines.hf import HFEngine

        return Author(HFEngine.load(self.generator, self.dtype, self.device, self.batch_size, lambda done, _: progress(done)))


class Author:
    """Answers chunks: one answer per chat, as plain data."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, asked: Asked, /) -> list[dict[str, Any]]:
        chats, sampling = asked
        return [asdict(group[0]) for group in self.engine.generate(chats, sampling)]

    def close(self) -> None:
        self.engine.close()


class Served:
    """A generator behind a server that lives as long as this engine."""

    def __init__(self, writing: Writing, progress: Callable[[float], None]) -> None:
        """Start the server on the generator's weights. Raises EngineError, AssetError."""
        from synpro.engines.openai import ServerModel
        from synpro.engines.spawn import Spawned

        if writing.scratch is not None:
            writing.scratch.mkdir(parents=True, exist_ok=True)
        self._own = tempfile.TemporaryDirectory(prefix="generator-", dir=writing.scratch)
        self._server: Spawned | None = None
        try:
            folder = one_folder(writing.generator, writing.dtype, Path(self._own.name) / "model")
            log = (writing.scratch or Path(self._own.name)) / "server.log"
            self._server = Spawned(writing.serve, folder, writing.dtype, slot="synthesize.serve", log=log)
            self._model = ServerModel(
                self._server.address,
                self._server.name,
                slot="synthesize.server",
                cfg=writing.server,
                silence=True,
                progress=lambda done, _: progress(done),
            )
        except BaseException:
            self.close()
            raise

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """As in engines/base.py. Raises ServerError."""
        return self._model.generate(chats, sampling)

    def close(self) -> None:
        """End the server. Safe to call twice."""
        if self._server is not None:
            self._server.close()
        self._own.cleanup()


def one_folder(generator: Generator, dtype: str, into: Path) -> Path:
    """A generator as one Hugging Face folder, which any server opens: its own weights, or its base with the adapter merged in.

    The merge is done in 32 bits and rounded once to `dtype`; in 16 bits, part of what few small steps learned rounds away
    (docs/engines.md has a measurement).
    """
    from synpro.assets import model_folder

    base = generator.weights or model_folder(generator.base, slot="train_generator.base")
    if generator.adapter is None:
        return base
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged: Any = PeftModel.from_pretrained(model, str(generator.adapter)).merge_and_unload()
    merged.to(getattr(torch, dtype)).save_pretrained(into)
    AutoTokenizer.from_pretrained(base).save_pretrained(into)
    return into
