"""What a stage needs to score rewrites, as one input."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from synpro.judges.base import JudgesConfig
from synpro.records import Probe, TrainedVerifier, digest_of, encode
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig


@dataclass(frozen=True)
class Scoring:
    """Settings of rewards and judges, and the models a run has trained for them."""

    rubric: RubricConfig
    judges: JudgesConfig
    probe: Probe | None = None
    """None outside a run, where no probe is trained: the influence reward is left out."""
    verifier: TrainedVerifier | None = None
    """None: claims are checked by rule."""
    filters: FilterConfig = field(default_factory=FilterConfig)
    """What synthesis drops, and RL pays the failing reward to."""

    @property
    def is_shared(self) -> bool:
        """Whether a comparison's steps may use each other's scores."""
        return can_share_scores(self.judges, self.verifier.kind if self.verifier else "none")

    @property
    def digest(self) -> str:
        """Changes when any score of synthesis could; filters change none, nor does where a judge runs."""
        trained = [record and record.digest for record in (self.probe, self.verifier)]
        return digest_of([encode([self.rubric, self.judges], Path(), {}), *trained])


def can_share_scores(judges: JudgesConfig, verifier_kind: str) -> bool:
    """Whether steps with these judges may use each other's scores: no language model is asked, whose answer may be missing for
    once, or whose server may have other weights in the next step."""
    return not judges.asks_models and verifier_kind != "llm"
