"""Novelty: 1 minus the share of the output's words that are copied from its source. Ours; not part of the paper's rubric.

What copies costs nothing under the other rewards until the filter rejects it: encoders find a copy similar, verifiers find it
faithful, and a small generator drifts there. With a weight, each copied run costs.
"""

from __future__ import annotations

from collections.abc import Sequence

from synpro.judges.text_stats import copied_share
from synpro.records import Rewrite
from synpro.rewards.base import Reward


class Novelty(Reward):
    """Rewards saying it in words of one's own (runs of 6 words of the source count as copied, and what keeps its order)."""

    name = "novelty"

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [self.worst if r.text is None else 1.0 - copied_share(r.text, r.passage.text) for r in rewrites]
