"""Structure: how far the output keeps the layout of the source, 0 to 1 (paper: a yes or no from Qwen3-4B)."""

from __future__ import annotations

from collections.abc import Sequence

from synpro.judges.base import LayoutJudge
from synpro.records import Rewrite
from synpro.rewards.base import Reward, RewardContext, is_remote


class Structure(Reward):
    """Rewards keeping paragraphs, lists, tables, code, headings and dialogue."""

    name = "structure"
    needs = frozenset({"layout"})

    def __init__(self, judge: LayoutJudge) -> None:
        self.judge = judge

    @classmethod
    def from_context(cls, context: RewardContext) -> Structure:
        return cls(context.judges.layout)

    @property
    def is_remote(self) -> bool:
        return is_remote(self.judge)

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        parsed = iter(self.judge.compare([(r.passage.text, r.text) for r in rewrites if r.text is not None]))
        return [self.worst if r.text is None else next(parsed) for r in rewrites]
