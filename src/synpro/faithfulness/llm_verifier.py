"""The LLM verifier: a language model is asked whether a passage supports a claim (paper: a fine-tuned Qwen3-1.7B).

The prompt and its letters are ours, since the paper's are not published. Claim and passage are quoted between marks that they
cannot close (operations/base.py) and the question comes after them: an instruction inside a passage is part of what is judged.
The answer is read as the probabilities of the letters instead of a generated word, and calibrated on claims that were not
trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scipy.special import expit

from synpro.engines.base import Model, Unanswered
from synpro.engines.failures import MAX_FAILED_SHARE, FailureCount
from synpro.judges.base import Label, Verdict
from synpro.operations.base import quote
from synpro.records import Chat

FILE = "calibration.json"
LETTERS = ("A", "B", "C")
LABELS: tuple[Label, ...] = ("faithful", "absent", "unsupported")
"""Meaning of the letters, in order."""
HEADINGS = ("Passage:", "Claim:")
QUESTION = (
    "Does the passage support the claim? Other words for the same are support; a wrong number, name, date or cause, or a "
    "detail the passage does not give, is not.\nA: the passage supports all of it\nB: the passage is not about this\n"
    "C: it is wrong, or the passage does not say it\nAnswer with one letter."
)


@dataclass(frozen=True)
class Calibration:
    """Maps the probabilities of the letters to that of being faithful: sigmoid(slope x log odds of A + shift) (Platt 1999)."""

    slope: float = 1.0
    shift: float = 0.0
    model: str | None = None
    """Reference of a model that is asked without training; None for the fine-tuned one beside this file."""

    def probability(self, letters: Sequence[float]) -> float:
        """Calibrated probability of being faithful, 0 to 1, from the probabilities of the letters."""
        return float(expit(self.slope * log_odds(letters) + self.shift))

    def save(self, folder: Path) -> None:
        """Write `calibration.json`."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Read `calibration.json`. Raises FileNotFoundError."""
        return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))


def prompt(claim: str, passage: str) -> Chat:
    """The chat that asks about a claim."""
    shown = [f"{heading}\n{quote(text, HEADINGS)}" for heading, text in zip(HEADINGS, (passage, claim), strict=True)]
    return ({"role": "user", "content": "\n\n".join([*shown, QUESTION])},)


def log_odds(letters: Sequence[float]) -> float:
    """Log odds of the first letter, clamped to +-20 so that they stay finite for a model that is certain."""
    first, rest = letters[0], sum(letters[1:])
    return max(-20.0, min(20.0, math.log(max(first, 1e-12)) - math.log(max(rest, 1e-12))))


class LLMVerifier:
    """A language model as verifier. Each distinct (claim, passage) is asked about once."""

    def __init__(self, model: Model, calibration: Calibration, max_failed: float = MAX_FAILED_SHARE) -> None:
        """The verifier closes the model."""
        self.failures = FailureCount("judges.verifier: claims", max_failed, "judges.max_failed")
        self.model, self.calibration, self.is_remote = model, calibration, model.is_remote
        self._known: dict[tuple[str, str], Verdict | None] = {}

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> list[Verdict | None]:
        """One verdict per pair, None where the model has no answer. Raises TooManyFailures, and what the engine raises."""
        pairs = list(zip(claims, passages, strict=True))
        missing = [p for p in dict.fromkeys(pairs) if p not in self._known]
        answers = self.model.score_options([prompt(*p) for p in missing], LETTERS) if missing else []
        self.failures.add(answers)
        for (claim, passage), letters in zip(missing, answers, strict=True):
            if isinstance(letters, Unanswered):
                self._known[claim, passage] = None
                continue
            probability = self.calibration.probability(letters)
            label = LABELS[0] if probability >= 0.5 else LABELS[1 if letters[1] > letters[2] else 2]
            self._known[claim, passage] = Verdict(label, probability)
        return [self._known[p] for p in pairs]

    def knows(self, passage: str) -> bool:
        """A language model is asked about any passage; what it answers is calibrated on the corpus' own language."""
        return True

    def close(self) -> None:
        """Close the model and forget the verdicts."""
        self.model.close()
        self._known.clear()
