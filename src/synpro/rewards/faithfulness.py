"""Faithfulness: the share of an output's claims that its passage supports (paper: an unreleased fine-tune of Qwen3-1.7B).

A claim is supported when its tokens find their match in the passage (encoder precision), every number and name in it stands in
the passage (the encoder alone takes one year for another), and it is a statement: a list of the passage's words says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from synpro.judges.base import Encoder
from synpro.judges.rules import well_formed, words
from synpro.operations.base import Operation
from synpro.records import Passage, Rewrite

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'’-]+")
_SPELLED = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}


@dataclass(frozen=True)
class FaithfulnessConfig:
    """When a claim counts as supported."""

    min_precision: float = 0.6
    """Encoder precision of the claim against the passage, at least."""

    min_form: float = 0.25
    """How well formed the claim is by rule, over the same of its passage, at least."""

    def __post_init__(self) -> None:
        for name in ("min_precision", "min_form"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range; use 0 to 1")


class Faithfulness:
    """Pays for saying only what the passage says."""

    name = "faithfulness"
    worst = 0.0

    def __init__(self, operation: Operation, encoder: Encoder, cfg: FaithfulnessConfig | None = None) -> None:
        self.operation = operation
        self.encoder = encoder
        self.cfg = cfg or FaithfulnessConfig()

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Nothing to score ahead: the encoder keeps the sources it has seen."""

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        claims = [self.operation.claims(r.text) if r.text is not None else [] for r in rewrites]
        flat = [(claim, r.passage.text) for r, cs in zip(rewrites, claims, strict=True) for claim in cs]
        verdicts = iter(self.supported([c for c, _ in flat], [p for _, p in flat]))
        out: list[float | None] = []
        for cs in claims:
            held = {c for c in cs if next(verdicts)}  # said twice counts once: repetition must not raise the share
            out.append(len(held) / len(cs) if cs else self.worst)
        return out

    def supported(self, claims: Sequence[str], passages: Sequence[str]) -> list[bool]:
        """Whether each passage supports its claim."""
        alignments = self.encoder.align(claims, passages)
        return [
            a.precision >= self.cfg.min_precision
            and details_stand(claim, passage)
            and well_formed(claim) >= self.cfg.min_form * well_formed(passage)
            for claim, passage, a in zip(claims, passages, alignments, strict=True)
        ]


def details_stand(claim: str, passage: str) -> bool:
    """Whether every number in a claim, and every capitalised word inside its sentences, also stands in the passage."""
    present = set(words(passage))
    numbers = {n.replace(",", "") for n in _NUMBER.findall(passage)} | {_SPELLED[w] for w in present if w in _SPELLED}
    if any(n.replace(",", "") not in numbers for n in _NUMBER.findall(claim)):
        return False
    return all(part in present for name in _NAME.findall(claim) for part in words(name.removesuffix("'s").removesuffix("’s")))
