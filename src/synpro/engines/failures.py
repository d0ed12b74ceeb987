"""How many items may go without an answer before the step stops.

One text that a model cannot read says nothing about the others, so it is counted and left out. Many of them are a fault of the
config or of the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from synpro.engines.base import EngineError, Unanswered

MAX_FAILED_SHARE = 0.05
"""Default share of items that may go without an answer."""
ALWAYS_ALLOWED = 10
"""Items that may fail whatever their share: the first few of a step would stop it otherwise."""


class TooManyFailures(EngineError):
    """More items without an answer than a step allows; the message has the three most frequent reasons."""


class FailureCount:
    """Counts the items that had no answer, by reason."""

    def __init__(self, what: str, max_share: float = MAX_FAILED_SHARE, key: str = "") -> None:
        """`what` names the items for messages (`judges.dataman: texts`), `key` the config key that sets `max_share`."""
        self.what, self.max_share, self.key = what, max_share, key
        self.asked = 0
        self.reasons: Counter[str] = Counter()

    def add(self, answers: Iterable[object]) -> None:
        """Count answers; those that are `Unanswered` have failed. Raises TooManyFailures."""
        for answer in answers:
            self.asked += 1
            if isinstance(answer, Unanswered):
                self.reasons[answer.reason] += 1
        if self.reasons.total() > max(ALWAYS_ALLOWED, self.max_share * self.asked):
            allowed = f"{self.max_share:.0%}" + (f" ({self.key})" if self.key else "")
            raise TooManyFailures(f"{self}; {allowed} are allowed to")

    def __str__(self) -> str:
        """The count and the three most frequent reasons, in one line; empty when nothing has failed."""
        if not self.reasons:
            return ""
        most = "; ".join(f"{reason} ({count})" for reason, count in self.reasons.most_common(3))
        return f"{self.what}: {self.reasons.total()} of {self.asked} have no answer: {most}"
