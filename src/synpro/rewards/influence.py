"""Data influence: influence(output) - influence(source), the loss the probe takes off a text (paper weight 3.0).

Differences from the paper, both against gaming, because the weight of this reward is the largest:
- An output that does not carry its passage has nothing to compare with it and earns the worst value: too few words, a copy
  (word for word, or with words left out and filler put between), a loop or list of words, tokens of the passage that find no
  match in it (encoder recall), or too many tokens of its own that find none in the passage (encoder precision): the probe likes
  plain words, and the words of a passage strung on "It is about ... and ..." had more influence than any honest rewrite.
- The worst value is minus the spread (maximum - minimum) of the influence of the sources: what is lost when the least
  informative text of the corpus stands for the most informative. Differences beyond it, up or down, are cut to it, so that an
  odd text cannot earn more than the corpus itself offers and no honest one falls below what does not parse.
There is no falling back to the source's own influence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from synpro.judges.base import Encoder
from synpro.judges.rules import held, overlap, well_formed, words
from synpro.records import Passage, Probe, Rewrite, digest_of
from synpro.run.ranks import ALONE, Ranks


@dataclass(frozen=True)
class InfluenceConfig:
    """When an output carries its passage."""

    min_words: float = 0.4
    """Words of the output over words of the source, at least."""
    max_copied: float = 0.85
    """Share of the output's words in runs of 6 that also stand in the source, at most."""
    max_run: float = 0.7
    """Longest run of words shared with the source, over the words of the source, at most."""
    max_held: float = 0.75
    """Words of one block of the output (text between blank lines: a paragraph, an entry) that stand in the source in the same
    order, over the words of the source, at most. Entries may each quote a part; one that is the passage with gaps is a copy."""
    min_form: float = 0.5
    """How well formed the output is by rule (no loop, no list of words), over the same of the source, at least."""
    min_recall: float = 0.6
    """Encoder recall of the source by the output, at least."""
    min_precision: float = 0.68
    """Encoder precision of the output against the source, at least (honest rewrites: 0.71 to 0.90 with MiniLM)."""
    min_spread: float = 0.02
    """Smallest worst value in nats per token (used when the sources hardly differ)."""
    shuffled: bool = False
    """Deal the values of the outputs that carry their passage out among them at random: the placebo arm of a comparison, in
    which the reward has its usual size and spread and says nothing. The worst value stays where it is."""

    def __post_init__(self) -> None:
        for name in ("min_words", "max_copied", "max_run", "max_held", "min_form", "min_recall", "min_precision"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a share; use 0 to 1")
        if self.min_spread <= 0:
            raise ValueError(f"min_spread: {self.min_spread} would make the worst value as good as any; use 0.01 or more")


class Scorer(Protocol):
    """Influence of texts in nats per token (`lm.influence.Influence`)."""

    def score(self, texts: Sequence[str]) -> list[float]: ...


class Influence:
    """Pays for text from which the model has more left to absorb than from its source."""

    name = "influence"

    def __init__(self, scorer: Scorer, encoder: Encoder, cfg: InfluenceConfig | None = None, ranks: Ranks = ALONE) -> None:
        self.scorer = scorer
        self.ranks = ranks
        self.encoder = encoder
        self.cfg = cfg or InfluenceConfig()
        self.worst = -self.cfg.min_spread
        self._known: dict[str, float] = {}

    @classmethod
    def of_probe(cls, probe: Probe | None, encoder: Encoder, cfg: InfluenceConfig, ranks: Ranks = ALONE) -> Influence:
        """The reward of a probe. Raises ValueError without one."""
        from synpro.lm.influence import Influence as Pair

        if probe is None:
            raise ValueError("the influence reward needs a probe; give its weight 0 or run the probe step first")
        return cls(Pair(probe.before, *probe.afters), encoder, cfg, ranks)

    def prepare(self, passages: Sequence[Passage]) -> None:
        """The influence of every source; of several processes each scores its share."""
        mine = self.ranks.share(list(dict.fromkeys(p.text for p in passages)))
        self._score(mine)
        self._known.update(self.ranks.gather([(text, self._known[text]) for text in mine]))
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
            and shared.share <= self.cfg.max_copied
            and shared.longest <= self.cfg.max_run
            and held(text, source) <= self.cfg.max_held
            and well_formed(text) >= self.cfg.min_form * well_formed(source)
        )

    def _score(self, texts: Sequence[str]) -> None:
        missing = [t for t in dict.fromkeys(texts) if t not in self._known]
        if missing:
            self._known.update(zip(missing, self.scorer.score(missing), strict=True))
