"""Structure: how far the layout of the source is kept, 0 to 1 (paper: a yes or no from Qwen3-4B)."""

from __future__ import annotations

from collections.abc import Sequence

from synpro.judges.base import Layout
from synpro.records import Passage, Rewrite
from synpro.rewards.base import waits


class Structure:
    """Pays for keeping paragraphs, lists, tables, code, headings and dialogue."""

    name = "structure"
    worst = 0.0

    def __init__(self, judge: Layout) -> None:
        self.judge = judge
        self.waits = waits(judge)

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Nothing to score ahead: layouts are compared in pairs."""

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        parsed = iter(self.judge.kept_each([(r.passage.text, r.text) for r in rewrites if r.text is not None]))
        return [self.worst if r.text is None else next(parsed) for r in rewrites]
