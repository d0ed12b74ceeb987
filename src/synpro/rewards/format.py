"""Format: 1 when the answer parses (its heading is there exactly once), else 0."""

from __future__ import annotations

from collections.abc import Sequence

from synpro.records import Rewrite
from synpro.rewards.base import Reward


class Format(Reward):
    """Rewards the form that the operation asked for."""

    name = "format"

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [float(r.text is not None) for r in rewrites]
