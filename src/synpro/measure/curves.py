"""Loss against unique tokens: laws, fitted and inverted for many resamples at once.

`power`: L = E + A U^-alpha.

`repetition`: L = E + B D'^-beta with D' = U + U R* (1 - exp(-R / R*)) and R = T / U - 1, for T training tokens of which U are
unique (Muennighoff et al. 2023, arXiv 2305.16264, section 3.1, equation 5; derived in appendix A). The model's size is fixed
here, so their term in N is a part of E. R* is their 15.387756 (appendix A): four to six anchors cannot fit a fourth number.

`interpolation`: straight lines between anchors in log U. It assumes only that more text never hurts. It serves two anchors,
and as a check of the other laws. A loss curve bends upward, so chords lie above it and somewhat too many tokens are found.

`reciprocal`: straight lines in 1 / U, between two anchors a power law of exponent 1, the most bent curve that counts as
plausible; `interpolation` is the least bent one (exponent 0). Two anchors do not show the bend; the two say what it matters.

The first two laws are linear in (E, A) once their exponent is chosen. So the exponent is found by a scan of its whole range
and a golden section around the best value: no start values, the same answer every time, and all resamples in one array, where
scipy.optimize would fit them one by one. E and A cannot be negative. Losses count equally: with four to six anchors no robust
loss could tell an outlier from a bend, so the residual is reported instead.

Suffixes: `_K` anchors, `_B` resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Law = Literal["power", "repetition", "interpolation"]
Curves = Literal["power", "repetition", "interpolation", "reciprocal"]
"""The laws a result may rest on, and the one that only bounds `interpolation`."""
LINES = ("interpolation", "reciprocal")

R_STAR = 15.387756
"""Repetitions after which repeated tokens are worth 1 - 1/e of fresh ones on average (arXiv 2305.16264, appendix A)."""
EXPONENTS = (0.02, 3.0)
"""Range in which the exponent is searched. Published ones lie between 0.05 and 0.6."""
PLAUSIBLE_EXPONENTS = (0.05, 1.0)
"""An exponent outside is a sign of too few or badly tuned anchors (1.89 was fitted to three of them once)."""
MIN_ANCHORS: dict[Curves, int] = {"power": 4, "repetition": 4, "interpolation": 2, "reciprocal": 2}
"""Anchors of different size that a law needs: one more than it has parameters."""
_SCAN = 64
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class Curve:
    """A law fitted to B sets of losses at K anchors."""

    law: Curves
    unique_K: np.ndarray
    """Unique tokens of the anchors, rising."""
    training_K: np.ndarray
    """Training tokens of the anchors, repetitions included."""
    loss_B_K: np.ndarray
    """The losses the law was fitted to."""
    offset_B: np.ndarray
    """E, the loss that the law approaches with unlimited text. NaN for straight lines."""
    scale_B: np.ndarray
    """A (or B): the loss above E at `centre` tokens."""
    exponent_B: np.ndarray
    centre: float

    def loss(self, unique: np.ndarray | float) -> np.ndarray:
        """Loss at each number of unique tokens: `(B, n)`."""
        unique_n = np.atleast_1d(np.asarray(unique, dtype=np.float64))
        if self.law in LINES:
            return _between(self._position(unique_n), self._position(self.unique_K), self.loss_B_K)
        seen_n = self._effective(unique_n)
        return self.offset_B[:, None] + self.scale_B[:, None] * (seen_n / self.centre) ** -self.exponent_B[:, None]

    def needed(self, loss_B: np.ndarray | float) -> np.ndarray:
        """Unique tokens at which each curve reaches a loss, `(B,)`: infinite where it never does."""
        target_B = np.broadcast_to(np.asarray(loss_B, dtype=np.float64), (len(self.loss_B_K),))
        if self.law in LINES:
            found_B = _invert(target_B, self._position(self.unique_K), self.loss_B_K)
            with np.errstate(divide="ignore", over="ignore"):
                return np.exp(found_B) if self.law == "interpolation" else np.where(found_B < 0, -1.0 / found_B, np.inf)
        above_B = target_B - self.offset_B
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            seen_B = self.centre * (self.scale_B / above_B) ** (1.0 / self.exponent_B)
        seen_B = np.where(above_B <= 0, np.inf, seen_B)  # a flat curve (A = 0): any text reaches a loss above the offset, so 0
        return seen_B if self.law == "power" else self._unique(seen_B)

    @property
    def residual_B(self) -> np.ndarray:
        """Root mean square of fit minus loss over the anchors, nats per token."""
        return np.sqrt(np.mean((self.loss(self.unique_K) - self.loss_B_K) ** 2, axis=1))

    def _position(self, unique: np.ndarray) -> np.ndarray:
        """The rising axis on which the lines are straight."""
        return np.log(unique) if self.law == "interpolation" else -1.0 / unique

    def _effective(self, unique_n: np.ndarray) -> np.ndarray:
        if self.law == "power":
            return unique_n
        return effective_tokens(unique_n, self._training(unique_n))

    def _training(self, unique_n: np.ndarray) -> np.ndarray:
        """Training tokens spent at U: straight between anchors in logs, the nearest anchor's beyond them."""
        return np.exp(np.interp(np.log(unique_n), np.log(self.unique_K), np.log(self.training_K)))

    def _unique(self, seen_B: np.ndarray) -> np.ndarray:
        """U with D'(U) = seen, by bisection. Infinite where a single pass over a whole budget of text is not enough."""
        low_B = np.full_like(seen_B, 1.0)
        high_B = np.full_like(seen_B, max(self.training_K[-1], self.unique_K[-1]))
        enough_B = self._effective(high_B) >= seen_B
        for _ in range(48):
            middle_B = np.sqrt(low_B * high_B)
            short_B = self._effective(middle_B) < seen_B
            low_B, high_B = np.where(short_B, middle_B, low_B), np.where(short_B, high_B, middle_B)
        return np.where(enough_B, high_B, np.inf)


def effective_tokens(unique: np.ndarray, training: np.ndarray) -> np.ndarray:
    """D' of arXiv 2305.16264, equation 5: fresh tokens worth as much as `training` tokens over `unique` ones."""
    used = np.minimum(unique, training)
    repeats = training / used - 1.0
    return used + used * R_STAR * (1.0 - np.exp(-repeats / R_STAR))


def fit_curve(unique: np.ndarray, loss_B_K: np.ndarray, *, law: Curves = "power", training: np.ndarray | None = None) -> Curve:
    """Fit a law to losses `(B, K)` at K anchors, each of B sets on its own.

    `training`: training tokens of each anchor, needed for `repetition`. Raises ValueError for too few anchors, anchors that are
    not distinct, an unknown law, or losses that are not finite.
    """
    order = np.argsort(unique, kind="stable")
    unique_K = np.asarray(unique, dtype=np.float64)[order]
    losses = np.atleast_2d(np.asarray(loss_B_K, dtype=np.float64))[:, order]
    training_K = unique_K if training is None else np.asarray(training, dtype=np.float64)[order]
    if law not in get_args(Curves):
        raise ValueError(f"law: {law!r} is not one of {', '.join(get_args(Law))}")
    if len(unique_K) < MIN_ANCHORS[law]:
        raise ValueError(f"the {law} law needs at least {MIN_ANCHORS[law]} anchors of different size, got {len(unique_K)}")
    if (unique_K[0] <= 0) or (np.diff(unique_K) <= 0).any():
        raise ValueError("anchors need different, positive numbers of unique tokens")
    if losses.shape[1] != len(unique_K) or not np.isfinite(losses).all():
        raise ValueError("every anchor needs a finite loss in every set")
    none = np.full(len(losses), np.nan)
    if law in LINES:
        lower = np.minimum.accumulate(losses, axis=1)
        return Curve(law, unique_K, training_K, lower, none, none, none, 1.0)
    if law == "repetition" and training is None:
        raise ValueError("the repetition law needs the training tokens of every anchor")
    seen_K = effective_tokens(unique_K, training_K) if law == "repetition" else unique_K
    centre = float(np.exp(np.log(seen_K).mean()))
    return Curve(law, unique_K, training_K, losses, *_power(seen_K, losses), centre)


def _power(seen_K: np.ndarray, loss_B_K: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(E, A, alpha), each `(B,)`, of loss = E + A (seen / centre)^-alpha."""
    log_K = np.log(seen_K)
    log_K = log_K - log_K.mean()

    def error(log_alpha_B: np.ndarray) -> np.ndarray:  # of one exponent for all sets, or of one exponent per set
        return _linear(np.exp(-np.exp(log_alpha_B)[:, None] * log_K), loss_B_K)[2]

    scan = np.linspace(np.log(EXPONENTS[0]), np.log(EXPONENTS[1]), _SCAN)
    errors = np.stack([error(np.array([a])) for a in scan])
    best = np.argmin(errors, axis=0)
    low, high = scan[np.maximum(best - 1, 0)], scan[np.minimum(best + 1, _SCAN - 1)]
    for _ in range(26):  # golden section between the neighbours of the best
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        left = error(a) <= error(b)
        low, high = np.where(left, low, a), np.where(left, b, high)
    alpha = np.exp((low + high) / 2)
    offset, scale, _ = _linear(np.exp(-alpha[:, None] * log_K), loss_B_K)
    return offset, scale, alpha


def _linear(x_B_K: np.ndarray, y_B_K: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(intercept, slope, squared error) of y = intercept + slope x by least squares, neither below 0."""
    x_mean, y_mean = x_B_K.mean(axis=1), y_B_K.mean(axis=1)
    dx, dy = x_B_K - x_mean[:, None], y_B_K - y_mean[:, None]
    slope = np.maximum((dx * dy).sum(axis=1) / (dx * dx).sum(axis=1), 0.0)
    intercept = y_mean - slope * x_mean
    through_zero = np.maximum((x_B_K * y_B_K).sum(axis=1) / (x_B_K * x_B_K).sum(axis=1), 0.0)
    slope = np.where(intercept < 0, through_zero, slope)
    intercept = np.maximum(intercept, 0.0)
    return intercept, slope, ((intercept[:, None] + slope[:, None] * x_B_K - y_B_K) ** 2).sum(axis=1)


def _between(at_n: np.ndarray, x_K: np.ndarray, loss_B_K: np.ndarray) -> np.ndarray:
    """Straight lines between anchors, the outermost ones extended."""
    left_n = np.clip(np.searchsorted(x_K, at_n, side="right") - 1, 0, len(x_K) - 2)
    share_n = (at_n - x_K[left_n]) / (x_K[left_n + 1] - x_K[left_n])
    return loss_B_K[:, left_n] * (1 - share_n) + loss_B_K[:, left_n + 1] * share_n


def _invert(target_B: np.ndarray, x_K: np.ndarray, loss_B_K: np.ndarray) -> np.ndarray:
    """The smallest x at which falling straight lines reach the target: infinite where they never do, minus infinity where a
    flat one lies below it."""
    reached = loss_B_K <= target_B[:, None]
    right = np.where(reached.any(axis=1), np.argmax(reached, axis=1), loss_B_K.shape[1] - 1)
    right = np.maximum(right, 1)
    rows = np.arange(len(target_B))
    top, bottom = loss_B_K[rows, right - 1], loss_B_K[rows, right]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = (top - target_B) / (top - bottom)
        found = x_K[right - 1] + share * (x_K[right] - x_K[right - 1])
    flat = top <= bottom
    return np.where(flat, np.where(target_B < bottom, np.inf, np.where(target_B > top, -np.inf, x_K[right - 1])), found)
