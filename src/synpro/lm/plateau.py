"""When has training stopped paying? A pure function of (tokens, loss) points.

The question is asked in the units of scaling laws: how much does the reference loss still fall per *doubling* of the tokens
trained on? Over the last doubling a straight line is fitted to loss against log2(tokens); the fit's standard error says how
far noise can be trusted. A plateau is a fall that is confidently below `improvement`, at several measurements in a row, or a
loss that has turned and stays above its best (the corpus is being memorised). Our own definition: the paper names none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PlateauConfig:
    """What counts as a plateau of the reference loss."""

    improvement: float = 0.02
    """Nats per doubling of tokens: training goes on while the loss may still fall faster than this."""
    confidence: float = 0.9
    """One-sided confidence, 0.5 to 1, that the fall is below `improvement` (or that the loss rises)."""
    patience: int = 2
    """Measurements in a row that must agree."""
    min_points: int = 5
    """Measurements in the last doubling before a line is fitted; at least 3."""
    rise: float = 0.02
    """Nats above its best, beyond the noise, at which the loss counts as risen, `patience` times in a row."""

    def __post_init__(self) -> None:
        if not self.improvement > 0:
            raise ValueError(f"improvement: {self.improvement} nats can never be undercut; give a number above 0")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence: {self.confidence} is outside 0.5 <= confidence < 1")
        if self.patience < 1:
            raise ValueError(f"patience: {self.patience} measurements cannot agree; give at least 1")
        if self.min_points < 3:
            raise ValueError(f"min_points: {self.min_points} points leave no error to estimate; give at least 3")
        if not self.rise > 0:
            raise ValueError(f"rise: {self.rise} would stop on noise; give a number above 0")


@dataclass(frozen=True)
class Decision:
    """Is this a plateau, and why."""

    plateau: bool
    reason: str
    """In a person's words, with the numbers."""
    slope: float | None = None
    """Fitted change of the loss in nats per doubling of tokens; None with too few points."""
    error: float | None = None
    """Standard error of `slope`."""


def decide(points: Sequence[tuple[int, float]], config: PlateauConfig, *, min_tokens: int = 0) -> Decision:
    """Judge a curve of (tokens, loss) points, tokens counted from where this training began and rising.

    A point at 0 tokens (before training) is used for the best loss only. Nothing is called a plateau before `min_tokens`.
    Raises ValueError for a loss that is not finite and for tokens that do not rise.
    """
    for i, (tokens, loss) in enumerate(points):
        if not math.isfinite(loss):
            raise ValueError(f"the loss at {tokens:,} tokens is {loss}; training has diverged, a plateau cannot be judged")
        if tokens < 0 or (i and tokens <= points[i - 1][0]):
            raise ValueError(f"tokens must rise from point to point, but {tokens:,} follows {points[i - 1][0]:,}")
    if not points or points[-1][0] < max(min_tokens, 1):
        seen = points[-1][0] if points else 0
        return Decision(False, f"{seen:,} tokens so far; judged from {max(min_tokens, 1):,} on")
    if risen := _risen(points, config):
        return risen
    verdicts = []
    for back in range(config.patience):
        verdict = _flat(points[: len(points) - back], config)
        verdicts.append(verdict)
        if not verdict.plateau:
            break
    if all(v.plateau for v in verdicts):
        return verdicts[0]
    if len(verdicts) == 1:
        return verdicts[0]
    agreed = len(verdicts) - 1
    return Decision(
        False, f"{verdicts[0].reason}; seen {agreed} of {config.patience} times", verdicts[0].slope, verdicts[0].error
    )


def _risen(points: Sequence[tuple[int, float]], config: PlateauConfig) -> Decision | None:
    """A loss that turned: the last `patience` measurements all clearly above the best before them.

    The best of many noisy values lies below the truth, so four times the noise is added to the threshold.
    """
    earlier, last = points[: -config.patience], points[-config.patience :]
    if not earlier or len(last) < config.patience:
        return None
    at, best = min(earlier, key=lambda p: p[1])
    if min(loss for _, loss in last) <= best + config.rise + 4 * _noise(
        [loss for tokens, loss in points if 2 * tokens >= points[-1][0]]
    ):
        return None
    now = last[-1][1]
    return Decision(
        True, f"the loss has turned: {now:.4f} nats now, {best:.4f} at {at:,} tokens; the corpus is being memorised"
    )


def _flat(points: Sequence[tuple[int, float]], config: PlateauConfig) -> Decision:
    """Fit the last doubling of tokens and compare the fall per doubling with the threshold."""
    from scipy.stats import t as student

    end = points[-1][0]
    window = [(math.log2(tokens), loss) for tokens, loss in points if 2 * tokens >= end and tokens > 0]
    if len(window) < config.min_points:
        return Decision(False, f"{len(window)} measurements in the last doubling of tokens; judged from {config.min_points} on")
    slope, error = _line(window)
    margin = float(student.ppf(config.confidence, len(window) - 2)) * error
    measured = f"{-slope:+.4f} ± {error:.4f} nats per doubling over the last {len(window)} measurements"
    if slope - margin > 0:
        return Decision(True, f"the loss is rising: it fell by {measured}", slope, error)
    if -slope + margin < config.improvement:
        return Decision(True, f"the loss fell by {measured}, surely less than {config.improvement}", slope, error)
    sure = "still falling" if -slope >= config.improvement else "too noisy to call flat"
    return Decision(False, f"{sure}: the loss fell by {measured}; the threshold is {config.improvement}", slope, error)


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of the noise on a smooth curve, from the median size of its second differences."""
    bends = sorted(abs(a - 2 * b + c) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False))
    # Second differences of independent noise have sqrt(6) times its deviation; 0.6745 is the median of |N(0, 1)|.
    return bends[len(bends) // 2] / math.sqrt(6) / 0.6745 if len(bends) > 4 else 0.0


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least-squares slope and its standard error."""
    n = len(points)
    mean_x = sum(x for x, _ in points) / n
    mean_y = sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residual = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, math.sqrt(residual / (n - 2) / spread)
