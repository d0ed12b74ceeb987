"""Plateau detection: has training stopped improving the loss? A pure function of (tokens, loss) points.

The question is asked in the units of scaling laws: how much does the reference loss still fall per *doubling* of the training
tokens of the whole run? Over the last doubling a straight line is fitted to loss against log2(tokens); the standard error of
the fit says how much of the slope may be noise. A plateau is a fall that is confidently below `improvement`, at several
measurements in a row, or a loss that has turned and stays above its best (the corpus is being memorized). Our own definition:
the paper names none.

Training is stopped at the first plateau that is seen, so looking often is being wrong often. `confidence` is for a whole
training: the looks of its k-th doubling, whose windows overlap, may be wrong with probability (1 - confidence) / (k (k + 1)),
which sums to 1 - confidence. Noise is never taken to be less than `NOISE_FLOOR`, since a few points can lie on a line by
accident.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from synpro.schema import setting

NOISE_FLOOR = 0.003
"""The least noise of a measurement that is reckoned with, in nats."""


@dataclass(frozen=True)
class PlateauConfig:
    """What counts as a plateau of the reference loss."""

    RENAMED: ClassVar[Mapping[str, str]] = {"noise_floor": ""}
    FIXED: ClassVar[Mapping[str, float]] = {"noise_floor": NOISE_FLOOR}

    improvement: float = setting(0.02, unit="nats/doubling of tokens", source="ours", above=0)
    """Nats per doubling of tokens: training goes on while the loss may still fall faster than this."""
    confidence: float = setting(0.9, source="ours", min=0.5, below=1)
    """One-sided confidence, 0.5 to 1, that a training is not stopped while the loss still falls by `improvement`."""
    patience: int = setting(2, unit="measurements", source="ours", min=1)
    """Measurements in a row that must agree."""
    min_points: int = setting(5, unit="measurements", source="ours", min=3)
    """Measurements in the last doubling before a line is fitted; at least 3."""
    rise: float = setting(0.02, unit="nats", source="ours", above=0)
    """Nats above its best, beyond the noise, at which the loss counts as risen, `patience` times in a row."""


@dataclass(frozen=True)
class PlateauDecision:
    """Whether this is a plateau, and why."""

    plateau: bool
    reason: str
    """A sentence with the numbers."""
    slope: float | None = None
    """Fitted change of the loss in nats per doubling of tokens; None with too few points."""
    error: float | None = None
    """Standard error of `slope`."""


def detect_plateau(points: Sequence[tuple[int, float]], config: PlateauConfig, *, min_tokens: int = 0) -> PlateauDecision:
    """Judge a curve of (tokens, loss in nats) points of one training; tokens are those of the whole run, and rise.

    A point at 0 tokens (before training) is used for the best loss only. There is no plateau before `min_tokens`.
    Raises ValueError for a loss that is not finite and for tokens that do not rise.
    """
    for i, (tokens, loss) in enumerate(points):
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss at {tokens:,} tokens is {loss}; training has diverged: lower pretrain.optimizer.learning_rate"
            )
        if tokens < 0 or (i and tokens <= points[i - 1][0]):
            raise ValueError(f"tokens must rise from point to point, but {tokens:,} follows {points[i - 1][0]:,}")
    if not points or points[-1][0] < max(min_tokens, 1):
        seen = points[-1][0] if points else 0
        return PlateauDecision(False, f"{seen:,} tokens so far; judged from {max(min_tokens, 1):,} on")
    if turned := _has_turned(points, config):
        return turned
    verdicts = []
    for back in range(config.patience):
        verdict = _is_flat(points[: len(points) - back], config)
        verdicts.append(verdict)
        if not verdict.plateau:
            break
    if all(v.plateau for v in verdicts):
        return verdicts[0]
    if len(verdicts) == 1:
        return verdicts[0]
    agreed = len(verdicts) - 1
    return PlateauDecision(
        False, f"{verdicts[0].reason}; seen {agreed} of {config.patience} times", verdicts[0].slope, verdicts[0].error
    )


def earliest_plateau(config: PlateauConfig, *, seen: int, interval: int, budget: int, min_tokens: int = 0) -> int:
    """Tokens after which a training that begins at `seen` tokens of its run, is measured every `interval` tokens and does not
    improve at all ends on a plateau; `budget` when it does not."""
    points = [(seen, 0.0)]
    while (used := points[-1][0] - seen) < budget:
        if used and detect_plateau(points, config, min_tokens=seen + min_tokens).plateau:
            return used
        points.append((points[-1][0] + interval, 0.0))
    return budget


def _allowed_error(points: Sequence[tuple[int, float]], config: PlateauConfig) -> float:
    """The probability with which the judgement of this doubling may be wrong."""
    first = next(tokens for tokens, _ in points if tokens > 0)
    doubling = 1 + int(math.log2(points[-1][0] / first))
    return (1 - config.confidence) / (doubling * (doubling + 1))


def _has_turned(points: Sequence[tuple[int, float]], config: PlateauConfig) -> PlateauDecision | None:
    """A plateau when the last measurements, `patience` and at least two, are clearly above the best before them, else None.

    The best is that of the means of three, and of the first point. The lowest of many noisy values lies below the true curve:
    each of them may be that by accident.
    """
    from scipy.stats import norm

    count = max(config.patience, 2)
    earlier, last = points[:-count], points[-count:]
    noise = _noise([loss for tokens, loss in points if 2 * tokens >= points[-1][0]], NOISE_FLOOR)
    if not earlier or noise is None or last[-1][0] == 0:
        return None
    losses = [loss for _, loss in earlier]
    best = [(losses[0], 1.0), *((sum(three) / 3, 1 / 3) for three in zip(losses, losses[1:], losses[2:], strict=False))]
    sure = float(norm.isf(_allowed_error(points, config) / len(best)))
    mean = sum(loss for _, loss in last) / count
    lowest = min(loss for _, loss in last)
    if not any(
        mean > value + config.rise + sure * noise * math.sqrt(variance + 1 / count) and lowest > value + config.rise
        for value, variance in best
    ):
        return None
    at, value = min(earlier, key=lambda point: point[1])
    return PlateauDecision(
        True, f"the loss has turned: {mean:.4f} nats now, {value:.4f} at {at:,} tokens; the corpus is being memorised"
    )


def _is_flat(points: Sequence[tuple[int, float]], config: PlateauConfig) -> PlateauDecision:
    """Fit the last doubling of tokens and compare the fall per doubling with the threshold."""
    from scipy.stats import linregress
    from scipy.stats import t as student

    end = points[-1][0]
    window = [(math.log2(tokens), loss) for tokens, loss in points if 2 * tokens >= end and tokens > 0]
    if len(window) < config.min_points:
        return PlateauDecision(
            False, f"{len(window)} measurements in the last doubling of tokens; judged from {config.min_points} on"
        )
    places = [x for x, _ in window]
    fit = linregress(places, [loss for _, loss in window])
    constant = len({loss for _, loss in window}) == 1  # no correlation exists then, and scipy gives no error
    spread = math.sqrt(sum((x - sum(places) / len(places)) ** 2 for x in places))
    slope, error = float(fit.slope), max(0.0 if constant else float(fit.stderr), NOISE_FLOOR / spread)
    margin = float(student.isf(_allowed_error(points, config), len(window) - 2)) * error
    verb, per = ("rose" if slope > 0 else "fell"), f"nats per doubling over the last {len(window)} measurements"
    measured = f"the loss {verb} by {abs(slope):.4f} ± {error:.4f} {per}"
    if slope - margin > 0:
        return PlateauDecision(True, f"{measured}: it is rising", slope, error)
    if -slope + margin < config.improvement:
        return PlateauDecision(True, f"{measured}; its fall is surely less than {config.improvement}", slope, error)
    sure = "still falling" if -slope >= config.improvement else "too noisy to call flat"
    return PlateauDecision(False, f"{sure}: {measured}; the threshold is {config.improvement}", slope, error)


def _noise(losses: Sequence[float], floor: float) -> float | None:
    """An upper bound of the standard deviation of the noise on a smooth curve in nats; None with fewer than three points.

    From the median size of second differences, at the lower tenth of its distribution: few differences say little.
    """
    from scipy.stats import chi2

    bends = sorted(abs(a - 2 * b + c) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False))
    if not bends:
        return None
    # Second differences of independent noise have sqrt(6) times its deviation; 0.6745 is the median of |N(0, 1)|. Neighbours
    # share points, and a median uses less of them than a mean: about a third as many degrees of freedom.
    middle = (bends[(len(bends) - 1) // 2] + bends[len(bends) // 2]) / 2
    freedom = max(1.0, len(bends) / 3)
    return max(floor, middle / math.sqrt(6) / 0.6745 * math.sqrt(freedom / float(chi2.ppf(0.1, freedom))))
