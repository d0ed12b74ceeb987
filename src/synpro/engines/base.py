"""Engines: text, or a choice between options, from chats. The caller does not know whether the model runs here, on a GPU or
behind a server."""

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


class EngineError(RuntimeError):
    """A model that cannot be had or did not answer; the message says which, what happened and what to do."""


class Engine(Protocol):
    """Anything that answers chats."""

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> list[list[Completion]]:
        """`sampling.n` completions for each chat, in the order of `chats`. Raises when the model cannot answer: never
        returns an invented text."""
        ...

    def close(self) -> None:
        """Give memory and connections back. Safe to call twice."""
        ...


class Chooser(Protocol):
    """Anything that says how likely each of a few answers is."""

    def choose(self, chats: Sequence[Chat], options: Sequence[str]) -> list[list[float]]:
        """For each chat, the probability that the answer begins with each option, normalised over the options (sums to 1).

        `options` are two or more short texts that differ in their first token ("Yes" and "No", "A", "B" and "C"); a space
        before an option is the same option. A chat's probabilities do not depend on the chats beside it (to 1e-6 on a CPU).
        Raises ValueError for options that cannot be told apart, and whatever the model's failure is: never returns an
        invented number.
        """
        ...


class Model(Engine, Chooser, Protocol):
    """A model that answers freely and by choice; what `engines/table.py` opens."""

    waits: bool
    """Whether asking it is waiting for another process: it may then be asked from several threads at once."""

    def count(self, text: str) -> int:
        """Tokens of a text; an estimate where the tokenizer is not at hand."""
        ...
