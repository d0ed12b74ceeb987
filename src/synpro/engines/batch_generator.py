"""A generator that completes whole chunks of chats, in the engine of the config, wherever `parallel_map` opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synpro.engines.base import Engine, EngineSpec, Sampling
from synpro.records import Chat, Generator

Chunk = tuple[list[Chat], Sampling]
"""Chats, and how they are completed."""


@dataclass(frozen=True)
class BatchGeneratorFactory:
    """Opens a BatchGenerator; plain data, so that it can be sent to a worker."""

    generator: Generator
    engine: EngineSpec
    scratch: Path | None = None
    """Folder of the step for a server's log and merged weights; None = a temporary folder."""
    slot: str = "synthesize"
    """Table of the config whose `engine` this is, for messages."""

    def open(self, progress: Callable[[float], None]) -> BatchGenerator:
        """Raises as `EngineSpec.open` does."""
        report = lambda done, total: progress(done)  # noqa: E731
        engine = self.engine.open(self.generator, slot=self.slot, role="generator", scratch=self.scratch, progress=report)
        return BatchGenerator(engine)


class BatchGenerator:
    """Completes chunks: `sampling.n` completions of each chat, one after the other, as plain data."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, chunk: Chunk, /) -> list[dict[str, Any]]:
        chats, sampling = chunk
        return [asdict(completion) for group in self.engine.generate(chats, sampling) for completion in group]

    def close(self) -> None:
        self.engine.close()
