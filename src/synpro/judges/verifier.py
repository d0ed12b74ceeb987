"""The feature verifier: evidence about a claim (`features.py`) weighed by a small calibrated model. Needs no GPU.

Stands in for the paper's unreleased fine-tune of Qwen3-1.7B (`llm_verifier.py` trains one). It sees numbers, dates, units,
names, denials, quantifiers, opposites and foreign content well, roles and causes only where they are plain, and no inference:
what follows from the passage but stands nowhere in it counts as unsupported.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from synpro.judges.base import Verdict
from synpro.judges.features import Features
from synpro.judges.weights import Weights

FILE = "verifier.json"
ABSENT_SIGNS = dict.fromkeys(
    ("precision", "precision_source", "weakest_word", "unknown_words", "rare_words", "unmatched_words"), 0
)
"""What tells a claim about something else from a false one about this."""


@dataclasses.dataclass(frozen=True)
class Model:
    """What the stage `train_verifier` writes for kind `features`."""

    faithful: Weights
    absent: Weights | None
    """Of the claims that are not faithful; None when the training claims had none of one kind."""
    likelihood: bool
    """Whether the features of the language model are among them."""

    def save(self, folder: Path) -> None:
        """Plain JSON: numbers and names."""
        body = {
            "likelihood": self.likelihood,
            "faithful": dataclasses.asdict(self.faithful),
            "absent": dataclasses.asdict(self.absent) if self.absent else None,
        }
        (folder / FILE).write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Raises FileNotFoundError."""
        body = json.loads((folder / FILE).read_text(encoding="utf-8"))

        def weights(held: dict[str, Any]) -> Weights:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in held.items()}
            return Weights(**fields)

        return cls(weights(body["faithful"]), weights(body["absent"]) if body["absent"] else None, body["likelihood"])


class FeatureVerifier:
    """Judges claims by a trained model. Each distinct (claim, passage) is judged once."""

    def __init__(self, model: Model, open_features: Callable[[bool], Features]) -> None:
        """`open_features(with likelihood)` opens the encoder, and the language model where it is asked for."""
        self.model = model
        self.features = open_features(model.likelihood)
        self._known: dict[tuple[str, str], Verdict] = {}

    def check(self, claims: Sequence[str], passages: Sequence[str]) -> list[Verdict]:
        """One verdict per pair."""
        pairs = list(zip(claims, passages, strict=True))
        missing = [p for p in dict.fromkeys(pairs) if p not in self._known]
        found = self.features.find([c for c, _ in missing], [p for _, p in missing])
        for pair, evidence in zip(missing, found, strict=True):
            probability = self.model.faithful.probability(evidence.values)
            label: Literal["faithful", "absent", "unsupported"] = "faithful"
            if probability < 0.5:
                elsewhere = self.model.absent is not None and self.model.absent.probability(evidence.values) >= 0.5
                label = "absent" if elsewhere else "unsupported"
            self._known[pair] = Verdict(label, probability, evidence.support)
        return [self._known[p] for p in pairs]

    def close(self) -> None:
        """Forgets the verdicts; the models belong to the table of judges."""
        self._known.clear()
