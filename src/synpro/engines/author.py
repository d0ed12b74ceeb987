"""A generator that answers whole chunks of chats, wherever `spread.py` opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from synpro.engines.base import Engine, Sampling
from synpro.records import Chat, Generator

Asked = tuple[list[Chat], Sampling]
"""A chunk: its chats, and how they are answered."""


@dataclass(frozen=True)
class Writing:
    """Opens a generator, which answers chunks."""

    generator: Generator
    dtype: str
    device: str | None
    batch_size: int

    def open(self, progress: Callable[[float], None]) -> Author:
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
