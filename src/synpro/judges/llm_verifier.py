"""The LLM verifier: a language model says of a claim whether its passage supports it (paper: a fine-tuned Qwen3-1.7B).

The request and its letters are ours, the paper's are not published. Claim and passage are data between marks they cannot close
(operations/base.py) and the question stands after them: an instruction inside a passage is part of what is judged. The answer
is read as the probabilities of the letters rather than as a word, and calibrated on claims that training did not see.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from synpro.engines.base import Chooser
from synpro.judges.base import Verdict
from synpro.judges.evidence import best_sentence
from synpro.judges.weights import sigmoid
from synpro.operations.base import quote
from synpro.records import Chat

FILE = "calibration.json"
LETTERS = ("A", "B", "C")
LABELS: tuple[Literal["faithful", "absent", "unsupported"], ...] = ("faithful", "absent", "unsupported")
"""What the letters stand for, in order."""
HEADINGS = ("Passage:", "Claim:")
QUESTION = (
    "Does the passage support the claim? Other words for the same are support; a wrong number, name, date or cause, or a "
    "detail the passage does not give, is not.\nA: the passage supports all of it\nB: the passage is not about this\n"
    "C: it is wrong, or the passage does not say it\nAnswer with one letter."
)


@dataclass(frozen=True)
class Calibration:
    """Probability = sigmoid(slope x log odds of A + shift) (Platt, 1999)."""

    slope: float = 1.0
    shift: float = 0.0
    model: str | None = None
    """Reference of a model that is asked as it stands; None for the fine-tuned one beside this file."""

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Raises FileNotFoundError."""
        return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))


def prompt(claim: str, passage: str) -> Chat:
    """The chat that asks about a claim."""
    shown = [f"{heading}\n{quote(text, HEADINGS)}" for heading, text in zip(HEADINGS, (passage, claim), strict=True)]
    return ({"role": "user", "content": "\n\n".join([*shown, QUESTION])},)


def log_odds(shares: Sequence[float]) -> float:
    """Of the first letter, cut to +-20 so that a certain model stays finite."""
    first, rest = shares[0], sum(shares[1:])
    return max(-20.0, min(20.0, math.log(max(first, 1e-12)) - math.log(max(rest, 1e-12))))


class LLMVerifier:
    """A language model as verifier. Each distinct (claim, passage) is asked about once."""

    def __init__(self, model: Chooser, calibration: Calibration) -> None:
        """Whoever opened the model closes it."""
        self.model, self.calibration = model, calibration
        self.waits = bool(getattr(model, "waits", False))
        self._known: dict[tuple[str, str], Verdict] = {}

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> list[Verdict]:
        """One verdict per pair. Raises what the engine raises."""
        pairs = list(zip(claims, passages, strict=True))
        missing = [p for p in dict.fromkeys(pairs) if p not in self._known]
        shares = self.model.choose([prompt(*p) for p in missing], LETTERS) if missing else []
        for (claim, passage), share in zip(missing, shares, strict=True):
            probability = sigmoid(self.calibration.slope * log_odds(share) + self.calibration.shift)
            label = LABELS[0] if probability >= 0.5 else LABELS[1 if share[1] > share[2] else 2]
            self._known[claim, passage] = Verdict(label, probability, best_sentence(claim, passage))
        return [self._known[p] for p in pairs]

    def close(self) -> None:
        """Forgets the verdicts."""
        self._known.clear()
