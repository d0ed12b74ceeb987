"""Data influence: influence(output) - influence(source), the loss the probe takes off a text (paper weight 3.0).

Differences from the paper, against gaming, because the weight of this reward is the largest: an output that does not carry its
passage has nothing to compare with it and fails. It fails when it is a copy (word for word, or with words left out and filler
put between), a loop or list of words, when tokens of the passage find no match in it (encoder recall), or when too many tokens
of its own find none in the passage (encoder precision; both limits are the operation's): the probe likes plain words, and the
words of a passage strung on "It is about ... and ..." had more influence than any honest rewrite. What failing costs does not
depend on influence (`advantages.py`). There is no fallback to the source's own influence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from synpro.judges.base import Encoder
from synpro.judges.text_stats import max_block_lcs, overlap, reads_like
from synpro.operations.base import OperationConfig
from synpro.operations.rephrase import Rephrase
from synpro.records import Rewrite, digest_of
from synpro.rewards.base import FAILED, Reward, RewardContext
from synpro.rewards.config import MIN_FORM, RubricConfig

MAX_RUN = 0.7
"""Longest run of words shared with the source, over the words of the source."""
MAX_BLOCK = 0.75
"""Largest number of words of one block of the output (text between blank lines: a paragraph, an entry) that the source contains
in the same order, over the words of the source. Entries may each quote a part; one that is the passage with gaps is a copy."""
REMEMBERED = 20_000
"""Texts whose influence is remembered, the newest: a passage has several answers, and may be shown again."""


class Scorer(Protocol):
    """Influence of texts in nats per token (`lm.influence.Influence`)."""

    def score(self, texts: Sequence[str]) -> list[float]: ...


class InfluenceReward(Reward):
    """Rewards text that the model has more left to learn from than from its source."""

    name = "influence"
    unit = "nats/token"
    needs = frozenset({"encoder", "probe"})

    def __init__(
        self,
        scorer: Scorer,
        encoder: Encoder,
        cfg: RubricConfig | None = None,
        limits: OperationConfig = Rephrase.defaults,
    ) -> None:
        """`limits`: the operation's `min_recall` and `min_precision`."""
        self.scorer = scorer
        self.encoder = encoder
        self.limits = limits
        self.rubric = cfg or RubricConfig()
        self.cfg = self.rubric.influence
        self._known: dict[str, float] = {}

    @classmethod
    def from_context(cls, context: RewardContext) -> InfluenceReward:
        """Raises ValueError without a probe."""
        from synpro.lm.influence import Influence

        probe = context.probe
        if probe is None:
            raise ValueError("the influence reward needs a probe; give its weight 0 or run the probe step first")
        return cls(Influence(probe.before, *probe.afters), context.judges.encoder, context.cfg, context.operation.config)

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        carried = self.carried(rewrites)
        if self.cfg.values == "none":
            return [0.0 if ok else FAILED for ok in carried]
        gains = iter(self._gains([r for r, ok in zip(rewrites, carried, strict=True) if ok]))
        out = [next(gains) if ok else FAILED for ok in carried]
        return self._dealt(out, carried, rewrites) if self.cfg.values == "shuffled" else [*out]

    def _gains(self, rewrites: Sequence[Rewrite]) -> list[float]:
        """Influence of each output minus that of its source. A text is scored once, a source when it is first shown."""
        texts = dict.fromkeys(t for r in rewrites for t in (r.text or "", r.passage.text))
        missing = [t for t in texts if t not in self._known]
        if missing:
            self._known.update(zip(missing, self.scorer.score(missing), strict=True))
        gains = [self._known[r.text or ""] - self._known[r.passage.text] for r in rewrites]
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return gains

    def _dealt(self, values: Sequence[float], carried: Sequence[bool], rewrites: Sequence[Rewrite]) -> list[float | None]:
        """The values of the outputs that carry their passage, in an order drawn from the answers."""
        places = [i for i, ok in enumerate(carried) if ok]
        order = places.copy()
        random.Random(digest_of([[r.passage.id, r.answer] for r in rewrites])).shuffle(order)
        out: list[float | None] = [*values]
        for place, source in zip(places, order, strict=True):
            out[place] = values[source]
        return out

    def carried(self, rewrites: Sequence[Rewrite]) -> list[bool]:
        """Whether each output carries its passage; False for what did not parse."""
        alignments = self.encoder.align([r.text or "" for r in rewrites], [r.passage.text for r in rewrites])
        return [
            r.text is not None
            and (a is None or (a.recall >= self.limits.min_recall and a.precision >= self.limits.min_precision))
            and self._is_rewrite(r.text, r.passage.text)
            for r, a in zip(rewrites, alignments, strict=True)
        ]

    def _is_rewrite(self, text: str, source: str) -> bool:
        shared = overlap(text, source)
        return (
            shared.share <= self.rubric.max_copied
            and shared.longest <= MAX_RUN
            and max_block_lcs(text, source) <= MAX_BLOCK
            and reads_like(text, source, MIN_FORM)
        )
