"""Training of the verifiers from labelled claims: the weights of the feature verifier, the examples and the calibration of a
language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synpro.engines.base import EngineError, Model, Unanswered
from synpro.faithfulness.claims import Claim
from synpro.faithfulness.feature_verifier import ABSENT_SIGNS, FeatureModel
from synpro.faithfulness.features import SIGNS, ClaimFeatures, FeatureExtractor
from synpro.faithfulness.llm_verifier import LETTERS, Calibration, log_odds, prompt
from synpro.faithfulness.logistic import fit, fit_platt
from synpro.judges.base import Verdict, Verifier

BATCH = 50
"""Claims between two reports of progress."""


@dataclass(frozen=True)
class TrainingClaims:
    """Claims made from the corpus, and claims written by hand, for one use."""

    made: Sequence[Claim]
    handwritten: Sequence[Claim]
    handwritten_share: float
    """Fraction of the total weight that the handwritten claims have, where there are both."""

    @property
    def claims(self) -> list[Claim]:
        """All claims, those of the corpus first."""
        return [*self.made, *self.handwritten]

    @property
    def labels(self) -> list[bool]:
        """Whether each claim is faithful."""
        return [c.label == "faithful" for c in self.claims]

    def sample_weights(self) -> list[float]:
        """A weight per claim: both labels weigh the same within each source, and the sources by `handwritten_share`."""
        out: list[float] = []
        shares = (1 - self.handwritten_share if self.handwritten else 1.0, self.handwritten_share if self.made else 1.0)
        for claims, share in zip((self.made, self.handwritten), shares, strict=True):
            faithful = sum(c.label == "faithful" for c in claims)
            false = len(claims) - faithful
            out += [share / 2 / (faithful if c.label == "faithful" else false) for c in claims]
        return out

    def oversampled(self) -> list[Claim]:
        """All claims, the handwritten ones repeated as a whole until they have about their share: for training without
        weights."""
        if not self.handwritten:
            return list(self.made)
        share = self.handwritten_share
        times = max(1, round(share / (1 - share) * len(self.made) / len(self.handwritten)))
        return [*self.made, *(c for _ in range(times) for c in self.handwritten)]


def train_features(
    train: TrainingClaims, calibration: TrainingClaims, features: FeatureExtractor, progress: Callable[[int], None]
) -> FeatureModel:
    """Fit the feature verifier and calibrate it. `progress(n)` is called after every `n` claims whose features are computed."""
    found = [_extract(part.claims, features, progress) for part in (train, calibration)]
    values = [[f.values for f in part] for part in found]
    faithful = fit(values[0], train.labels, train.sample_weights(), SIGNS)
    faithful = faithful.calibrated(values[1], calibration.labels, calibration.sample_weights())
    pairs = zip([*train.claims, *calibration.claims], [*values[0], *values[1]], strict=True)
    false = [(c.label == "absent", v) for c, v in pairs if c.label != "faithful"]
    labels = [is_absent for is_absent, _ in false]
    absent = None
    if len(set(labels)) == 2:
        balanced = [1 / labels.count(label) for label in labels]
        absent = fit([v for _, v in false], labels, balanced, ABSENT_SIGNS)
    return FeatureModel(faithful, absent)


def _extract(claims: Sequence[Claim], features: FeatureExtractor, progress: Callable[[int], None]) -> list[ClaimFeatures]:
    found: list[ClaimFeatures] = []
    for start in range(0, len(claims), BATCH):
        some = claims[start : start + BATCH]
        found += features.extract([c.text for c in some], [c.passage for c in some])
        progress(len(some))
    return found


def calibrate(model: Model, claims: TrainingClaims, reference: str | None) -> Calibration:
    """Fit the probability of a language model. `reference` is stored where the model was not trained."""
    answers = model.score_options([prompt(c.text, c.passage) for c in claims.claims], LETTERS)
    rows = zip(answers, claims.labels, claims.sample_weights(), strict=True)
    known = [(log_odds(letters), label, weight) for letters, label, weight in rows if not isinstance(letters, Unanswered)]
    if not known:
        raise EngineError(f"train_verifier: the model has no answer to any of {len(answers)} claims: {answers[:1]}")
    slope, shift = fit_platt(*map(list, zip(*known, strict=True)))
    return Calibration(slope, shift, reference)


def check_claims(
    verifier: Verifier, claims: Sequence[Claim], progress: Callable[[int], None]
) -> tuple[list[Claim], list[Verdict]]:
    """The claims that could be checked, and the verdict on each. `progress(n)` is called after every `n` claims."""
    verdicts: list[Verdict | None] = []
    for start in range(0, len(claims), BATCH):
        some = claims[start : start + BATCH]
        verdicts += verifier.check([c.text for c in some], [c.passage for c in some])
        progress(len(some))
    checked = [(claim, verdict) for claim, verdict in zip(claims, verdicts, strict=True) if verdict is not None]
    return [claim for claim, _ in checked], [verdict for _, verdict in checked]
