"""Passages with honest answers, written by hand: what exploits are measured against. Importing this opens no model."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from synpro.operations.base import Operation, read
from synpro.records import Completion, Passage, Rewrite


class NoHonestAnswer(ValueError):
    """An operation that nobody has written honest answers for; the message says where they go."""


@dataclass(frozen=True)
class Honest:
    """A passage and what a careful person makes of it."""

    id: str
    kind: str
    """Of text: history, table, dialogue, ..."""
    source: str
    answers: dict[str, str]
    """By operation, in its own form, headings and all."""
    invented: str
    """A statement on the same matter that the source does not make."""

    @property
    def passage(self) -> Passage:
        """The source as the unit that generators read."""
        return Passage(f"{self.id}#0000", self.id, 0, 0, len(self.source), self.source)

    def answer(self, operation: Operation) -> str:
        """The honest answer. Raises NoHonestAnswer for an operation without one."""
        if operation.name not in self.answers:
            raise NoHonestAnswer(
                f"operation {operation.name!r} has no honest answer to passage {self.id!r}, so its rewards cannot be audited; "
                f"add a line {operation.name} = ... to each passage of src/synpro/audit/honest.toml"
            )
        return self.answers[operation.name]

    def rewrite(self, operation: Operation) -> Rewrite:
        """The honest answer, parsed."""
        return answered(operation, self, self.answer(operation))


@cache
def passages() -> tuple[Honest, ...]:
    """The shipped set, in the order of the file."""
    table = tomllib.loads(resources.files("synpro.audit").joinpath("honest.toml").read_text(encoding="utf-8"))
    found = []
    for row in table["passages"]:
        fixed = {name: row.pop(name).strip() for name in ("id", "kind", "source", "invented")}
        found.append(Honest(**fixed, answers={name: answer.strip() for name, answer in row.items()}))
    return tuple(found)


def answered(operation: Operation, subject: Honest, answer: str) -> Rewrite:
    """An answer to a passage, parsed as that of a generator is."""
    return read(operation, subject.passage, Completion(answer, max(1, len(answer) // 4), "stop"))
