"""A generator that answers whole chunks of chats, in the engine that the config names, wherever `spread.py` opens it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from synpro.engines.base import Engine, EngineError, Sampling
from synpro.engines.openai import ServerConfig, ServerModel
from synpro.engines.spawn import ServeConfig, Spawned
from synpro.engines.vllm import VLLMConfig, VLLMModel, room_for
from synpro.records import Chat, Completion, Generator

EngineName = Literal["transformers", "vllm", "server"]
GENERATION = "generation_config.json"
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
        if writing.scratch is not None:
            writing.scratch.mkdir(parents=True, exist_ok=True)
        self._own = tempfile.TemporaryDirectory(prefix="generator-", dir=writing.scratch)
        self._server: Spawned | None = None
        self._model: ServerModel | None = None
        self._checked = False
        try:
            generator, adapter = writing.generator, None
            if generator.adapter is not None and writing.serve.adapter:
                adapter = generator.adapter, room_for(generator.adapter)
                generator = replace(generator, adapter=None)
            folder = one_folder(generator, writing.dtype, Path(self._own.name) / "model")
            log = (writing.scratch or Path(self._own.name)) / "server.log"
            self._server = Spawned(writing.serve, folder, writing.dtype, slot="synthesize.serve", log=log, adapter=adapter)
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
        """As in engines/base.py. Raises ServerError, EngineError for a server that does not sample, ValueError when closed."""
        if self._model is None:
            raise ValueError("the engine is closed")
        if chats and sampling.temperature > 0 and not self._checked:
            self._check(self._model, chats[0], sampling)
        return self._model.generate(chats, sampling)

    def _check(self, model: ServerModel, chat: Chat, sampling: Sampling) -> None:
        """A server may read temperature and seed and do nothing about them; then every passage gets its greedy text."""
        hot = replace(sampling, temperature=max(1.5, sampling.temperature), max_new_tokens=min(48, sampling.max_new_tokens))
        texts = {model.generate([chat], replace(hot, n=1, seed=seed))[0][0].text for seed in (1, 2, 3)}
        if len(texts) == 1:
            raise EngineError(
                f"synthesize.serve: the server writes the same text with three seeds at temperature {hot.temperature}, so it "
                f"does not sample: {texts.pop()[:80]!r}. Look for an option of it that turns sampling on, or use another server"
            )
        self._checked = True

    def close(self) -> None:
        """Drop the connections and end the server. Safe to call twice."""
        model, self._model = self._model, None
        if model is not None:
            model.close()
        if self._server is not None:
            self._server.close()
        self._own.cleanup()


def one_folder(generator: Generator, dtype: str, into: Path) -> Path:
    """A generator as one Hugging Face folder, which any server opens: links to its own weights, or its base with the adapter
    merged in. Sampling defaults that the model ships (top-k, penalties) are left out, so that requests alone say how to sample.

    Rounded to 16 bits, part of what few small steps learned is gone (docs/engines.md has a measurement): use float32. `into` is
    made. Raises AssetError when the base cannot be had, FileExistsError when `into` is there.
    """
    from synpro.assets import model_folder

    base = generator.weights or model_folder(generator.base, slot="train_generator.base")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    into.mkdir(parents=True)
    if generator.adapter is None:
        for file in base.iterdir():
            (into / file.name).symlink_to(file.resolve())
    else:
        import torch
        from peft import PeftModel

        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        merged: Any = PeftModel.from_pretrained(model, str(generator.adapter)).merge_and_unload()
        merged.to(getattr(torch, dtype)).save_pretrained(into)
        AutoTokenizer.from_pretrained(base).save_pretrained(into)
    shipped = GenerationConfig.from_pretrained(base) if (base / GENERATION).exists() else GenerationConfig()
    ends = {name: getattr(shipped, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (into / GENERATION).unlink(missing_ok=True)
    GenerationConfig(**ends, do_sample=True, top_k=0).save_pretrained(into)  # without do_sample `transformers serve` is greedy
    return into
