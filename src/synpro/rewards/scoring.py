"""What a stage needs to score rewrites, as one input."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from synpro.judges.base import JudgesConfig
from synpro.records import Probe, TrainedVerifier, digest_of
from synpro.rewards.config import RubricConfig


@dataclass(frozen=True)
class Scoring:
    """Settings of rewards and judges, and the models a run has trained for them."""

    rubric: RubricConfig
    judges: JudgesConfig
    probe: Probe | None = None
    """None outside a run, where no probe is trained: the influence reward is left out."""
    verifier: TrainedVerifier | None = None
    """None: claims are checked by rule."""

    @property
    def digest(self) -> str:
        """Changes when any score could."""
        trained = [record and record.digest for record in (self.probe, self.verifier)]
        return digest_of([asdict(self.rubric), asdict(self.judges), *trained])
