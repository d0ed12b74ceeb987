"""Similarity: BERTScore F1 of output and source above a threshold, 0 or 1 (paper: DeBERTa-large-MNLI, 0.65), or F1 itself.

Difference from the paper: a copy earns 0, also one with words left out or with filler between its sentences. A rephrasing says
the passage in other words, and the most similar text of all is the passage itself; without this rule copying is the safest way
to the whole reward. A list of the passage's words earns 0 as well: an encoder finds it similar, no reader does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from synpro.judges.base import Encoder, Idf
from synpro.judges.rules import overlap, well_formed
from synpro.records import Passage, Rewrite


@dataclass(frozen=True)
class SimilarityConfig:
    """When an output says what its source says, in other words."""

    value: Literal["threshold", "continuous"] = "threshold"
    """What is paid: 1 above the threshold and 0 below it (paper), or F1 itself, which also tells two good rewrites apart."""
    threshold: float = 0.65
    """BERTScore F1 above which an output counts as similar (paper value; F1 depends on the encoder)."""
    idf: bool = False
    """Weigh tokens by how rare they are in the corpus' passages (arXiv 1904.09675, section 3; the paper names no weights)."""
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
        self._idf: Idf | None = None

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Counts tokens where rare ones weigh more; the sources themselves are embedded when they are first seen."""
        if self.cfg.idf:
            self._idf = self.encoder.idf([p.text for p in passages])

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        """Raises ValueError when tokens are to be weighed and `prepare` has seen no passage."""
        if self.cfg.idf and self._idf is None:
            raise ValueError("similarity.idf: no passages to count tokens in; call prepare with those of the corpus first")
        texts, sources = [r.text or "" for r in rewrites], [r.passage.text for r in rewrites]
        return [
            self._value(a.f1) if r.text is not None and self._in_other_words(r.text, r.passage.text) else self.worst
            for r, a in zip(rewrites, self.encoder.align(texts, sources, self._idf), strict=True)
        ]

    def _value(self, f1: float) -> float:
        return f1 if self.cfg.value == "continuous" else float(f1 > self.cfg.threshold)

    def _in_other_words(self, text: str, source: str) -> bool:
        shared = overlap(text, source)
        copied = shared.share > self.cfg.max_copied or shared.in_order > self.cfg.max_in_order
        return not copied and well_formed(text) >= self.cfg.min_form * well_formed(source)
