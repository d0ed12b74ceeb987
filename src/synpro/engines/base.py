"""Engines: text from chats. The caller does not know whether the model runs here, on a GPU or behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from synpro.records import Chat, Completion


@dataclass(frozen=True)
class Sampling:
    """How to sample. The paper generates at temperature 1.0, top-p 0.9, at most 2,048 new tokens."""

    temperature: float = 1.0
    """0 means greedy."""
    top_p: float = 0.9
    max_new_tokens: int = 2048
    n: int = 1
    """Completions per chat."""
    seed: int = 0
    """The same chats in the same call with the same seed give the same text on the same machine."""


class Engine(Protocol):
    """Anything that answers chats."""

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each chat, in the order of `chats`. Raises when the model cannot answer: never
        returns an invented text."""
        ...

    def close(self) -> None:
        """Give memory and connections back. Safe to call twice."""
        ...
