"""Length: 1 when the output is at most 1.25 times as long as its source (paper), and not a stub; else 0.

The lower bound is ours: the paper's rule alone rewards the empty answer and the truncated copy.
"""

from __future__ import annotations

from collections.abc import Sequence

from synpro.records import Rewrite
from synpro.rewards.base import Reward, RewardContext
from synpro.rewards.config import LengthConfig


class Length(Reward):
    """Rewards a length near that of the source."""

    name = "length"

    def __init__(self, cfg: LengthConfig | None = None) -> None:
        self.cfg = cfg or LengthConfig()

    @classmethod
    def from_context(cls, context: RewardContext) -> Length:
        return cls(context.cfg.length)

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        return [self.worst if r.text is None else float(self._fits(r.text, r.passage.text)) for r in rewrites]

    def _fits(self, text: str, source: str) -> bool:
        ratio = len(text.strip()) / max(1, len(source.strip()))
        return self.cfg.at_least <= ratio <= self.cfg.at_most
