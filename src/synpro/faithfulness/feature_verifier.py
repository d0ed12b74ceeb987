"""The feature verifier: features of a claim (`features.py`) weighed by a small calibrated model. Needs no GPU.

Replaces the paper's unreleased fine-tune of Qwen3-1.7B (`llm_verifier.py`). It sees numbers, dates, units, names, denials,
quantifiers, opposites and foreign content well, and roles and causes only where they are plain. It makes no inferences: what
follows from the passage without being said there counts as unsupported.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synpro.faithfulness.features import FeatureExtractor
from synpro.faithfulness.logistic import LogisticModel
from synpro.judges.base import Label, Verdict

FILE = "verifier.json"
ABSENT_SIGNS = dict.fromkeys(
    ("precision", "precision_best_sentence", "weakest_word", "unknown_words", "rare_words", "unmatched_words"), 0
)
"""Features that separate a claim about another topic from a false one about this topic; weights of any sign."""


@dataclasses.dataclass(frozen=True)
class FeatureModel:
    """The trained part of the feature verifier."""

    faithful: LogisticModel
    absent: LogisticModel | None
    """Probability that an unfaithful claim is `absent`; None when the training claims lacked one of the two kinds."""

    def save(self, folder: Path) -> None:
        """Write `verifier.json`: numbers and names."""
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> FeatureModel:
        """Read `verifier.json`. Raises FileNotFoundError."""
        body = json.loads((folder / FILE).read_text(encoding="utf-8"))

        def model(fields: dict[str, Any]) -> LogisticModel:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            return LogisticModel(**values)

        return cls(model(body["faithful"]), model(body["absent"]) if body["absent"] else None)


class FeatureVerifier:
    """Judges claims by a trained model. Each distinct (claim, passage) is judged once."""

    def __init__(self, model: FeatureModel, features: FeatureExtractor) -> None:
        self.model, self.features = model, features
        self._known: dict[tuple[str, str], Verdict | None] = {}

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> list[Verdict | None]:
        """One verdict per pair; None for a passage that the encoder does not know."""
        pairs = list(zip(claims, passages, strict=True))
        for pair in pairs:
            if not self.knows(pair[1]):
                self._known[pair] = None
        missing = [p for p in dict.fromkeys(pairs) if p not in self._known]
        found = self.features.extract([c for c, _ in missing], [p for _, p in missing])
        for pair, features in zip(missing, found, strict=True):
            probability = self.model.faithful.probability(features.values)
            label: Label = "faithful"
            if probability < 0.5:
                absent = self.model.absent is not None and self.model.absent.probability(features.values) >= 0.5
                label = "absent" if absent else "unsupported"
            self._known[pair] = Verdict(label, probability, features.support)
        return [self._known[p] for p in pairs]

    def knows(self, passage: str) -> bool:
        """Whether the encoder knows the passage."""
        return self.features.encoder.knows(passage)

    def close(self) -> None:
        """Forget the verdicts. The pool of judges closes the models."""
        self._known.clear()
