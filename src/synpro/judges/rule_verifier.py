"""Claims checked without training (`train_verifier.kind = "none"`): token alignment, and every number and name in its
passage."""

from __future__ import annotations

import re
from collections.abc import Sequence

from synpro.judges.base import Encoder, Verdict
from synpro.judges.evidence import best_sentence
from synpro.judges.rules import words

PRECISION = 0.6
"""Encoder precision of a claim against its passage from which it counts as said there."""
_ABSENT = 0.35
"""Below this its topic is not in the passage."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'’-]+")
_SPELLED = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}


class RuleVerifier:
    """Judges claims by the encoder's precision and by their numbers and names. Its probability is not calibrated."""

    def __init__(self, encoder: Encoder) -> None:
        """The encoder belongs to the table of judges."""
        self.encoder = encoder

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> list[Verdict]:
        """One verdict per pair. The encoder keeps what it has seen."""
        out = []
        for claim, passage, a in zip(claims, passages, self.encoder.align(claims, passages), strict=True):
            share = min(1.0, max(0.0, a.precision))
            stands = details_stand(claim, passage)
            probability = (
                0.5 + (share - PRECISION) / (1 - PRECISION) / 2 if stands and share >= PRECISION else min(share, PRECISION) / 2
            )
            label = "faithful" if probability >= 0.5 else "absent" if share < _ABSENT else "unsupported"
            out.append(Verdict(label, probability, best_sentence(claim, passage)))  # type: ignore[arg-type]
        return out

    def close(self) -> None:
        """Nothing of its own."""


def details_stand(claim: str, passage: str) -> bool:
    """Whether every number in a claim, and every capitalised word inside its sentences, also stands in the passage."""
    present = set(words(passage))
    numbers = {n.replace(",", "") for n in _NUMBER.findall(passage)} | {_SPELLED[w] for w in present if w in _SPELLED}
    if any(n.replace(",", "") not in numbers for n in _NUMBER.findall(claim)):
        return False
    return all(part in present for name in _NAME.findall(claim) for part in words(name.removesuffix("'s").removesuffix("’s")))
