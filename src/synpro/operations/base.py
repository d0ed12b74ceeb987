"""Operations: what a generator is asked to do with a passage. One operation = one file = prompt + parser.

`rewrite()` is the only door: training and synthesis both go through it, or through its two halves `prompt` and `read`, so the
prompt that was trained is the prompt that is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from synpro.engines.base import Engine, Sampling
from synpro.records import Chat, Completion, Passage, Rewrite


class Unparsable(ValueError):
    """An answer that does not have the form the operation asked for; the message says what is wrong with it."""


class Operation(Protocol):
    """A way of saying a passage again."""

    name: str

    def prompt(self, passage: Passage) -> Chat:
        """The chat that asks for it. The worked example and the instruction stand before the passage (a shared prefix is
        computed once); the passage is delimited data whose own markers are escaped."""
        ...

    def parse(self, answer: str) -> str:
        """The text to train on. Raises Unparsable with the reason."""
        ...

    def claims(self, text: str) -> list[str]:
        """The statements in a parsed text that its source must support: entries for reformat, sentences for rephrase."""
        ...


def read(operation: Operation, passage: Passage, completion: Completion) -> Rewrite:
    """A completion, parsed."""
    text, reason = None, None
    try:
        text = operation.parse(completion.text)
    except Unparsable as problem:
        reason = str(problem)
    return Rewrite(passage, operation.name, completion.text, text, reason, completion.tokens, completion.finish)


def rewrite(operation: Operation, passages: Sequence[Passage], engine: Engine, sampling: Sampling) -> list[list[Rewrite]]:
    """`sampling.n` rewrites of each passage, in the order of `passages`."""
    answers = engine.generate([operation.prompt(p) for p in passages], sampling)
    return [[read(operation, p, c) for c in group] for p, group in zip(passages, answers, strict=True)]
