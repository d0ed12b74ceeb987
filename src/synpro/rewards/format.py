"""Format: 1 when the answer parses (its heading is there exactly once); else it fails.

No other reward pays for the form: an answer without it is rejected by rule, and `advantages.py` counts that once."""

from __future__ import annotations

from collections.abc import Sequence

from synpro.records import Rewrite
from synpro.rewards.base import Reward


class Format(Reward):
    """Rewards the form that the operation asked for."""

    name = "format"

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [self.worst if r.text is None else 1.0 for r in rewrites]
