"""The rule verifier (`train_verifier.kind = "none"`): no training; token alignment, and whether the passage has every
number and name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from synpro.faithfulness.lexicon import SPELLED
from synpro.judges.base import Encoder, Label, Verdict
from synpro.judges.text_stats import words

PRECISION = 0.6
"""Encoder precision of a claim against its passage from which the passage counts as saying it."""
_ABSENT = 0.35
"""Precision below which the topic of a claim counts as absent."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'’-]+")
_SPELLED = {word: digits for word, digits in SPELLED.items() if len(digits) == 1}


class RuleVerifier:
    """Judges claims by the encoder's precision and by their numbers and names. The probability is not calibrated."""

    def __init__(self, encoder: Encoder) -> None:
        """The pool of judges closes the encoder."""
        self.encoder = encoder

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> list[Verdict | None]:
        """One verdict per pair; None for a passage that the encoder does not know."""
        out: list[Verdict | None] = []
        for claim, passage, a in zip(claims, passages, self.encoder.align(claims, passages), strict=True):
            if a is None:
                out.append(None)
                continue
            precision = min(1.0, max(0.0, a.precision))
            if precision >= PRECISION and has_details(claim, passage):
                probability = 0.5 + (precision - PRECISION) / (1 - PRECISION) / 2
            else:
                probability = min(precision, PRECISION) / 2
            label: Label = "faithful" if probability >= 0.5 else "absent" if precision < _ABSENT else "unsupported"
            out.append(Verdict(label, probability))
        return out

    def knows(self, passage: str) -> bool:
        """Whether the encoder knows the passage."""
        return self.encoder.knows(passage)

    def close(self) -> None:
        """Nothing to release."""


def has_details(claim: str, passage: str) -> bool:
    """Whether the passage has every number of a claim and every capitalised word inside its sentences."""
    present = set(words(passage))
    numbers = {n.replace(",", "") for n in _NUMBER.findall(passage)} | {_SPELLED[w] for w in present if w in _SPELLED}
    if any(n.replace(",", "") not in numbers for n in _NUMBER.findall(claim)):
        return False
    return all(part in present for name in _NAME.findall(claim) for part in words(name.removesuffix("'s").removesuffix("’s")))
