"""Passages with reference answers, written by hand: what exploits are measured against. Importing this opens no model."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from synpro.operations.base import Operation, parse_completion
from synpro.records import Completion, Passage, Rewrite


class NoReferenceAnswer(ValueError):
    """An operation without reference answers; the message says where they go."""


@dataclass(frozen=True)
class ReferenceAnswer:
    """A passage with the answers that a careful person gives to it, in the form of any operation."""

    id: str
    kind: str
    """Kind of text: history, table, dialogue, ..."""
    source: str
    invented: str
    """A statement on the same matter that the source does not make."""
    rephrase: str = ""
    """The answer to `rephrase`, where it is beside the passage instead of beside the operation."""

    @property
    def passage(self) -> Passage:
        """The source as the unit that generators read."""
        return Passage(f"{self.id}#0000", self.id, 0, 0, len(self.source), self.source)

    def answer(self, operation: Operation) -> str:
        """The reference answer. Raises NoReferenceAnswer for an operation without one."""
        answers = {self.id: self.rephrase} if self.rephrase and operation.name == "rephrase" else _answers(operation)
        if self.id not in answers:
            raise NoReferenceAnswer(
                f"operation {operation.name!r} has no reference answer to passage {self.id!r}, so its rewards cannot be audited"
                f"; add a line {self.id} = ... to the file {operation.name}.toml beside the operation's Python file"
            )
        return answers[self.id]

    def rewrite(self, operation: Operation) -> Rewrite:
        """The reference answer, parsed."""
        return as_rewrite(operation, self, self.answer(operation))


@cache
def _answers(operation: Operation) -> Mapping[str, str]:
    return operation.reference_answers()


@cache
def reference_answers(language: str = "en") -> tuple[ReferenceAnswer, ...]:
    """The passages that ship with SynPro, in the order of the file: German ("de", for `rephrase` only), or English."""
    file = resources.files("synpro.audit").joinpath(f"reference.{language}.toml")
    if not file.is_file():
        file = resources.files("synpro.audit").joinpath("reference.toml")
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return tuple(ReferenceAnswer(**{name: value.strip() for name, value in row.items()}) for row in table["passages"])


def as_rewrite(operation: Operation, subject: ReferenceAnswer, answer: str) -> Rewrite:
    """An answer to a passage, parsed as a generator's answer is."""
    return parse_completion(operation, subject.passage, Completion(answer, max(1, len(answer) // 4), "stop"))
