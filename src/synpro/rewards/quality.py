"""Quality: rating(output) - rating(source), both 1 to 5 (paper: DataMan overall score)."""

from __future__ import annotations

from collections.abc import Sequence

from synpro.judges.base import Quality as Judge
from synpro.records import Passage, Rewrite
from synpro.rewards.base import waits


class Quality:
    """Pays for text that reads better than its source."""

    name = "quality"
    worst = -4.0
    """The widest step down the scale."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.waits = waits(judge)
        self._sources: dict[str, float] = {}

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Nothing ahead: a source is rated when it is first seen, once. A short training shows only some of them, and the
        language model is the dearest of the judges."""

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        missing = [t for t in dict.fromkeys(r.passage.text for r in rewrites) if t not in self._sources]
        # In one call: a judge behind a server reads them side by side.
        ratings = self.judge.rate([*missing, *(r.text for r in rewrites if r.text is not None)])
        self._sources.update(zip(missing, ratings, strict=False))
        parsed = iter(ratings[len(missing) :])
        return [self.worst if r.text is None else next(parsed) - self._sources[r.passage.text] for r in rewrites]
