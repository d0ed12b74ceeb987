"""What a sample of answers looks like in numbers: for the metrics of a step, and before and after training."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from synpro.records import Rewrite

Scores = Mapping[str, float | None]
"""Raw rewards of one answer, by name; None where one does not apply."""


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


def summarize(rewrites: Sequence[Rewrite], scores: Sequence[Scores], rewards: Iterable[str]) -> dict[str, float]:
    """Mean of each reward, shares of answers that parsed and that were truncated, and mean tokens of an answer."""
    return {
        **{f"reward/{name}": mean_std([s[name] for s in scores])[0] for name in rewards},
        "parsed": sum(r.text is not None for r in rewrites) / len(rewrites),
        "truncated": sum(r.finish == "length" for r in rewrites) / len(rewrites),
        "completion_tokens": sum(r.tokens for r in rewrites) / len(rewrites),
    }


@dataclass(frozen=True)
class RewardScale:
    """Mean and standard deviation of each reward in a sample before training.

    The total reward is reported in these units, so it is 0 before training. (Inside GRPO each reward is normalised within its
    group, so the sum there is 0 at every step and cannot show progress.)
    """

    weights: Mapping[str, float]
    moments: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, scores: Sequence[Scores], weights: Mapping[str, float]) -> RewardScale:
        """The scale of a sample."""
        return cls(weights, {name: mean_std([s[name] for s in scores]) for name in weights})

    def total(self, scores: Sequence[Scores]) -> float:
        """The mean weighted reward of a sample."""
        total = 0.0
        for name, weight in self.weights.items():
            mean, std = self.moments[name]
            # A reward that was equal for all answers counts in its own unit: it has no deviation to be measured in.
            total += weight * (mean_std([s[name] for s in scores])[0] - mean) / (std if std > 1e-6 else 1.0)
        return total


def mean_std(values: Sequence[float | None]) -> tuple[float, float]:
    """Mean and standard deviation of the values that are known; (0, 0) when none is."""
    known = [v for v in values if v is not None]
    if not known:
        return 0.0, 0.0
    mean = sum(known) / len(known)
    return mean, (sum((v - mean) ** 2 for v in known) / len(known)) ** 0.5
