"""Data influence: influence(output) - influence(source), the loss the probe takes off a text (paper weight 3.0).

Differences from the paper, both against gaming, because the weight of this reward is the largest:
- An output that does not carry its passage has nothing to compare with it and gets the worst value: too few words, a copy
  (word for word, or with words left out and filler put between), a loop or list of words, tokens of the passage that find no
  match in it (encoder recall), or too many tokens of its own that find none in the passage (encoder precision): the probe likes
  plain words, and the words of a passage strung on "It is about ... and ..." had more influence than any honest rewrite.
- The worst value is minus the spread (maximum - minimum) of the influence of the sources: what is lost when the least
  informative text of the corpus replaces the most informative. Differences beyond it, up or down, are cut to it, so that an
  odd text cannot get more than the corpus itself offers, and no honest one less than an answer that does not parse.
There is no fallback to the source's own influence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from synpro.judges.base import Encoder
from synpro.judges.text_stats import max_block_lcs, overlap, well_formed, words
from synpro.records import Passage, Rewrite, digest_of
from synpro.rewards.base import Reward, RewardContext
from synpro.rewards.config import RubricConfig
from synpro.runner.process_group import SINGLE_PROCESS, ProcessGroup


class Scorer(Protocol):
    """Influence of texts in nats per token (`lm.influence.Influence`)."""

    def score(self, texts: Sequence[str]) -> list[float]: ...


class Influence(Reward):
    """Rewards text that the model has more left to learn from than from its source."""

    name = "influence"
    unit = "nats/token"
    needs = frozenset({"encoder", "probe"})

    def __init__(
        self, scorer: Scorer, encoder: Encoder, cfg: RubricConfig | None = None, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        self.scorer = scorer
        self.group = group
        self.encoder = encoder
        self.rubric = cfg or RubricConfig()
        self.cfg = self.rubric.influence
        self.worst = -self.cfg.min_spread
        self._known: dict[str, float] = {}

    @classmethod
    def from_context(cls, context: RewardContext) -> Influence:
        """Raises ValueError without a probe."""
        from synpro.lm.influence import Influence as Pair

        probe = context.probe
        if probe is None:
            raise ValueError("the influence reward needs a probe; give its weight 0 or run the probe step first")
        return cls(Pair(probe.before, *probe.afters), context.judges.encoder, context.cfg, context.group)

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Score every source; of several processes each scores its share."""
        mine = self.group.shard(list(dict.fromkeys(p.text for p in passages)))
        self._score(mine)
        self._known.update(self.group.all_gather([(text, self._known[text]) for text in mine]))
        values = [self._known[p.text] for p in passages]
        if values:
            self.worst = -max(self.cfg.min_spread, max(values) - min(values))

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        carried = self.carried(rewrites)
        outputs = [r.text for r, ok in zip(rewrites, carried, strict=True) if ok and r.text is not None]
        self._score([*outputs, *(r.passage.text for r in rewrites)])
        out: list[float | None] = []
        for r, ok in zip(rewrites, carried, strict=True):
            if not ok or r.text is None:
                out.append(self.worst)
            else:
                gain = self._known[r.text] - self._known[r.passage.text]
                out.append(min(max(gain, self.worst), -self.worst))
        return self._dealt(out, carried, rewrites) if self.cfg.shuffled else out

    def _dealt(
        self, values: Sequence[float | None], carried: Sequence[bool], rewrites: Sequence[Rewrite]
    ) -> list[float | None]:
        """The values of the outputs that carry their passage, in an order drawn from the answers."""
        places = [i for i, ok in enumerate(carried) if ok]
        drawn = places.copy()
        random.Random(digest_of([[r.passage.id, r.answer] for r in rewrites])).shuffle(drawn)
        out = list(values)
        for place, source in zip(places, drawn, strict=True):
            out[place] = values[source]
        return out

    def carried(self, rewrites: Sequence[Rewrite]) -> list[bool]:
        """Whether each output carries its passage; False for what did not parse."""
        alignments = self.encoder.align([r.text or "" for r in rewrites], [r.passage.text for r in rewrites])
        return [
            r.text is not None
            and a.recall >= self.cfg.min_recall
            and a.precision >= self.cfg.min_precision
            and self._is_rewrite(r.text, r.passage.text)
            for r, a in zip(rewrites, alignments, strict=True)
        ]

    def _is_rewrite(self, text: str, source: str) -> bool:
        shared = overlap(text, source)
        return (
            len(words(text)) >= self.cfg.min_words * len(words(source))
            and shared.share <= self.rubric.max_copied
            and shared.longest <= self.cfg.max_run
            and max_block_lcs(text, source) <= self.cfg.max_held
            and well_formed(text) >= self.rubric.min_form * well_formed(source)
        )

    def _score(self, texts: Sequence[str]) -> None:
        missing = [t for t in dict.fromkeys(texts) if t not in self._known]
        if missing:
            self._known.update(zip(missing, self.scorer.score(missing), strict=True))
