"""The processes of one step that share its work: each takes its part, and what each made reaches all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those of its step."""

    number: int = 0
    count: int = 1
    exchange: Callable[[list[Any]], list[Any]] = list
    """Called by every process with a list, gives every process the lists of all, joined in the order of their numbers."""

    @property
    def first(self) -> bool:
        """Whether this process writes the step's files."""
        return self.number == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of `items`: neighbours, and each item falls to exactly one process."""
        return list(items[len(items) * self.number // self.count : len(items) * (self.number + 1) // self.count])

    def gather(self, part: Sequence[T]) -> list[T]:
        """The parts of all processes, joined; shares come back in the order of the whole. All have to call it."""
        return self.exchange(list(part))


ALONE = Ranks()
"""One process."""
