"""Rewards: what a rewrite is paid for. One reward = one file + one line in the table of `rubric.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from synpro.records import Passage, Rewrite


class Reward(Protocol):
    """A number for each rewrite."""

    name: str
    worst: float
    """What an answer that does not parse earns: no honest answer may earn less."""

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Score the sources once, before training. Called with every passage the run may show."""
        ...

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        """One value per rewrite; `worst` where `rewrite.text is None`; None where the reward does not apply. A judge that
        is down raises; no value is invented."""
        ...


def waits(part: Any) -> bool:
    """Whether a judge, or a reward, waits for a server when it scores (attribute `waits`; one without it does not). Such a
    reward is scored in a thread beside the others, so it may share nothing with them but what is safe to share."""
    return bool(getattr(part, "waits", False))
