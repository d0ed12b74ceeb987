"""What a sample of answers looks like in numbers: for the metrics of a step, and before and after training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from synpro.records import Rewrite
from synpro.rewards.advantages import STEP, Scores, is_rejected, is_value
from synpro.rewards.base import FAILED


@dataclass
class StepStats:
    """What happened in one step of GRPO."""

    rewrites: list[Rewrite] = field(default_factory=list)
    scores: list[dict[str, float | None]] = field(default_factory=list)
    generate_seconds: float = 0.0
    reward_seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def join(cls, parts: Sequence[StepStats]) -> StepStats:
        """The step of several processes; its seconds are those of the slowest."""
        return cls(
            [r for part in parts for r in part.rewrites],
            [s for part in parts for s in part.scores],
            max(part.generate_seconds for part in parts),
            max(part.reward_seconds for part in parts),
            min(part.started for part in parts),
        )


def summarize(rewrites: Sequence[Rewrite], scores: Sequence[Scores], weights: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers of a sample of answers, what passes and what is measured apart.

    `reward/NAME`: mean over the answers with a value, None without any. `pass/NAME`: share of answers that pass the reward's
    own gate, of those that no rule rejects. `passed`: share that no rule rejects. Also shares of answers that parsed and that
    were truncated, and mean tokens of an answer.
    """
    allowed = [s for s in scores if not is_rejected(s, weights)]
    return {
        **{f"reward/{name}": mean_std([s[name] for s in scores])[0] for name in weights},
        **{f"pass/{name}": share([s[name] != FAILED for s in allowed]) for name in weights},
        "passed": len(allowed) / len(scores),
        "parsed": sum(r.text is not None for r in rewrites) / len(rewrites),
        "truncated": sum(r.finish == "length" for r in rewrites) / len(rewrites),
        "completion_tokens": sum(r.tokens for r in rewrites) / len(rewrites),
    }


@dataclass(frozen=True)
class RewardScale:
    """The valid answers of a sample before training, in whose deviations totals are reported.

    (Inside GRPO values are standardised within their group, so the sum there is 0 at every step and cannot show progress.) A
    total counts failures as the advantages do: a step below the worst valid answer, here that of the sample before training.
    """

    weights: Mapping[str, float]
    moments: Mapping[str, tuple[float, float, float]]
    """Mean, deviation and lowest value in deviations, of each reward."""
    rejected: float = 0.0
    """What an answer gets that a rule rejects."""
    start: float = 0.0
    """The mean total of the sample itself, which is reported as 0."""

    @classmethod
    def of(cls, scores: Sequence[Scores], weights: Mapping[str, float]) -> RewardScale:
        """The scale of a sample."""
        moments = {}
        for name in weights:
            known = [v for s in scores if is_value(v := s[name])]
            mean, std = mean_std(known)
            std = std if std and std > 1e-6 else 1.0  # equal for all: it counts in its own unit
            moments[name] = (mean or 0.0, std, (min(known) - (mean or 0.0)) / std if known else 0.0)
        plain = cls(weights, moments)
        lowest = min((plain._value(s) for s in scores if not is_rejected(s, weights)), default=0.0)
        scale = cls(weights, moments, lowest - STEP)
        return cls(weights, moments, scale.rejected, scale.total(scores))

    def total(self, scores: Sequence[Scores]) -> float:
        """The mean weighted reward of a sample, failures included, over that of the sample before training."""
        values = [self.rejected if is_rejected(s, self.weights) else self._value(s) for s in scores]
        return sum(values) / len(values) - self.start if values else 0.0

    def _value(self, scores: Scores) -> float:
        total = 0.0
        for name, weight in self.weights.items():
            (mean, std, lowest), value = self.moments[name], scores[name]
            total += weight * (0.0 if value is None else lowest - STEP if value == FAILED else (value - mean) / std)
        return total / (sum(w * w for w in self.weights.values()) ** 0.5 or 1.0)


def mean_std(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the measured values; (None, None) when there is none."""
    known = [v for v in values if is_value(v)]
    if not known:
        return None, None
    mean = sum(known) / len(known)
    return mean, (sum((v - mean) ** 2 for v in known) / len(known)) ** 0.5


def share(values: Sequence[bool]) -> float | None:
    """Share that is true; None without any."""
    return sum(values) / len(values) if values else None
