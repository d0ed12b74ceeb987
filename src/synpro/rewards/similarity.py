"""Similarity: BERTScore F1 of output and source above a threshold, 0 or 1 (paper: DeBERTa-large-MNLI, 0.65), or F1 itself.

Difference from the paper: a copy gets 0, also one with words left out or with filler between its sentences (more strictly than
the filter `copy`: all of the passage's words in order are no other words, whatever is said beside them). A rephrasing says
the passage in other words, and the most similar text of all is the passage itself; without this rule, copying is the safest way
to the whole reward. A list of the passage's words gets 0 as well: an encoder finds it similar, a reader does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from synpro.judges.base import Encoder
from synpro.judges.text_stats import MAX_IN_ORDER, overlap, reads_like
from synpro.records import Rewrite
from synpro.rewards.base import Reward, RewardContext
from synpro.rewards.config import MIN_FORM, RubricConfig


class Similarity(Reward):
    """Rewards keeping the meaning."""

    name = "similarity"
    needs = frozenset({"encoder"})

    def __init__(self, encoder: Encoder, cfg: RubricConfig | None = None) -> None:
        self.encoder = encoder
        self.rubric = cfg or RubricConfig()
        self.cfg = self.rubric.similarity

    @classmethod
    def from_context(cls, context: RewardContext) -> Similarity:
        return cls(context.judges.encoder, context.cfg)

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        texts, sources = [r.text or "" for r in rewrites], [r.passage.text for r in rewrites]
        return [
            (None if a is None else self._value(a.f1))
            if r.text is not None and self._in_other_words(r.text, r.passage.text)
            else self.worst
            for r, a in zip(rewrites, self.encoder.align(texts, sources), strict=True)
        ]

    def _value(self, f1: float) -> float:
        return f1 if self.cfg.value == "continuous" else float(f1 > self.cfg.threshold)

    def _in_other_words(self, text: str, source: str) -> bool:
        shared = overlap(text, source)
        copied = shared.share > self.rubric.max_copied or shared.in_order > MAX_IN_ORDER
        return not copied and reads_like(text, source, MIN_FORM)
