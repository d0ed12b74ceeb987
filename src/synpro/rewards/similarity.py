"""Similarity: BERTScore F1 of output and source above a threshold, 0 or 1 (paper: DeBERTa-large-MNLI, 0.65).

Difference from the paper: a copy earns 0, also one with words left out or with filler between its sentences. A rephrasing says
the passage in other words, and the most similar text of all is the passage itself; without this rule copying is the safest way
to the whole reward. A list of the passage's words earns 0 as well: an encoder finds it similar, no reader does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synpro.judges.base import Encoder
from synpro.judges.rules import overlap, well_formed
from synpro.records import Passage, Rewrite


@dataclass(frozen=True)
class SimilarityConfig:
    """When an output says what its source says, in other words."""

    threshold: float = 0.65
    """BERTScore F1 above which an output counts as similar (paper value; F1 depends on the encoder)."""
    max_copied: float = 0.85
    """Share of the output's words in runs of 6 that also stand in the source; above it the output is a copy."""
    max_in_order: float = 0.85
    """Longest common subsequence of words over the words of the shorter text; above it the output is a copy (honest
    rephrasings: 0.36 to 0.65)."""
    min_form: float = 0.5
    """How well formed the output is by rule (no loop, no list of words), over the same of the source, at least."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold: {self.threshold} is not between 0 and 1; use about 0.65")
        for name in ("max_copied", "max_in_order"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a share; use about 0.85, or 1 to let copies pass")
        if not 0 <= self.min_form <= 1:
            raise ValueError(f"min_form: {self.min_form} is not a share; use about 0.5, or 0 to let lists of words pass")


class Similarity:
    """Pays for keeping the meaning."""

    name = "similarity"
    worst = 0.0

    def __init__(self, encoder: Encoder, cfg: SimilarityConfig | None = None) -> None:
        self.encoder = encoder
        self.cfg = cfg or SimilarityConfig()

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Nothing to score ahead: the encoder keeps the sources it has seen."""

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        alignments = self.encoder.align([r.text or "" for r in rewrites], [r.passage.text for r in rewrites])
        return [
            float(r.text is not None and a.f1 > self.cfg.threshold and self._in_other_words(r.text, r.passage.text))
            for r, a in zip(rewrites, alignments, strict=True)
        ]

    def _in_other_words(self, text: str, source: str) -> bool:
        shared = overlap(text, source)
        copied = shared.share > self.cfg.max_copied or shared.in_order > self.cfg.max_in_order
        return not copied and well_formed(text) >= self.cfg.min_form * well_formed(source)
