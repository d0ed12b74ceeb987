"""Quality: rating(output) - rating(source), both 1 to 5 (paper: DataMan overall score)."""

from __future__ import annotations

from collections.abc import Sequence

from synpro.judges.base import QualityJudge
from synpro.records import Rewrite
from synpro.rewards.base import Reward, RewardContext, is_remote


class Quality(Reward):
    """Rewards text that reads better than its source."""

    name = "quality"
    unit = "points of 5"
    needs = frozenset({"quality"})

    def __init__(self, judge: QualityJudge) -> None:
        self.judge = judge
        self._sources: dict[str, float | None] = {}

    @classmethod
    def from_context(cls, context: RewardContext) -> Quality:
        return cls(context.judges.quality)

    @property
    def is_remote(self) -> bool:
        return is_remote(self.judge)

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        # A source is rated when it is first seen, not in `prepare`: a short training shows only some of them, and the language
        # model is the most expensive of the judges. All in one call: a judge behind a server reads them side by side.
        missing = [t for t in dict.fromkeys(r.passage.text for r in rewrites) if t not in self._sources]
        parsed_ones = [r for r in rewrites if r.text is not None]
        ratings = self.judge.rate(
            [*missing, *(r.text or "" for r in parsed_ones)], [*missing, *(r.passage.text for r in parsed_ones)]
        )
        self._sources.update(zip(missing, ratings, strict=False))
        parsed = iter(ratings[len(missing) :])
        return [self.worst if r.text is None else difference(next(parsed), self._sources[r.passage.text]) for r in rewrites]


def difference(rating: float | None, source: float | None) -> float | None:
    """None where the judge has no rating of the text or of its source."""
    return None if rating is None or source is None else rating - source
