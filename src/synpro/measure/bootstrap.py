"""Differences between two models on the same texts, with an interval over the texts; what few texts do to an interval.

The statistic is a ratio of sums, sum(after - before) / sum(units). With `units` = tokens it is the change of the mean loss per
token, as the loss of a corpus is reported: long documents count more. Documents are resampled, not tokens, because the losses
of one document's tokens are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_SEED = 20_260_517
_MAX_INDICES = 4_000_000
"""Random indices held at once. They take 32 MB, whatever the number of documents."""


@dataclass(frozen=True)
class Difference:
    """`after - before` per unit, and its 95% interval. Negative is better when the values are losses."""

    mean: float
    low: float
    high: float
    documents: int
    """What was resampled: documents, or groups of them."""
    resamples: int
    grouped: bool = False
    """Whether groups were resampled."""

    @property
    def units(self) -> str:
        """What was resampled, in words."""
        return "articles" if self.grouped else "documents"

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def effective_count(weight: np.ndarray) -> float:
    """The number of equal units that a weighted mean of units with these weights `(n,)` varies like (Kish 1965, section 8.2):
    20 articles of which eight hold nearly all tokens count as about eight."""
    return float(weight.sum() ** 2 / (weight**2).sum())


def small_sample_stretch(weight: np.ndarray) -> float:
    """How much wider a 95% percentile interval from resampled units of these weights `(n,)` must be: a factor, 1 or more.

    The bootstrap's variance is too small by (n - 1) / n, and it has the normal's tails where a mean of n units has Student's t:
    with 8 equal units it covers 87% instead of 95%, with this factor 94% (`tests/measure/test_bootstrap.py`). n is the
    effective count, at least 2.
    """
    from scipy.stats import norm, t

    n = max(effective_count(weight), 2.0)
    return math.sqrt(n / (n - 1)) * float(t.ppf(0.975, n - 1) / norm.ppf(0.975))


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    units: Sequence[float] | None = None,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 10_000,
) -> Difference:
    """Percentile bootstrap (Efron and Tibshirani 1993, ch. 13) of the change per unit, paired by position.

    `before`, `after`: shape (documents,), sums per document (nats). `units`: the weight of each document (tokens; bytes times
    ln 2 for bits per byte), 1 each by default. `groups`: the article that each document is a part of; whole
    groups are resampled. Both models are fixed, so the interval says nothing about another seed or another training run. It is
    stretched for few documents (`small_sample_stretch`).
    Raises ValueError for lengths that differ, fewer than two documents, values that are not finite, and units that are not
    positive.
    """
    from scipy.stats import bootstrap

    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    weight = np.ones_like(first) if units is None else np.asarray(units, dtype=np.float64)
    if first.ndim != 1 or not first.shape == second.shape == weight.shape:
        raise ValueError(
            f"paired values must have one length: before {first.shape}, after {second.shape}, units {weight.shape}"
        )
    if groups is not None:
        if len(groups) != first.size:
            raise ValueError(f"{first.size} documents need as many groups, got {len(groups)}")
        place = np.unique(np.asarray(groups), return_inverse=True)[1]
        first, second, weight = (np.bincount(place, v).astype(np.float64) for v in (first, second, weight))
    n = first.size
    if n < 2:
        raise ValueError(f"an interval over documents needs at least two of them, got {n}")
    if not (np.isfinite(first).all() and np.isfinite(second).all() and np.isfinite(weight).all() and (weight > 0).all()):
        raise ValueError("paired values must be finite and units positive")

    def change_per_unit(change: np.ndarray, weight: np.ndarray, axis: int = -1) -> np.ndarray:
        return change.sum(axis=axis) / weight.sum(axis=axis)

    change = second - first
    interval = bootstrap(
        (change, weight),
        change_per_unit,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=resamples,
        batch=max(1, _MAX_INDICES // n),
        confidence_level=0.95,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    mean, stretch = float(change_per_unit(change, weight)), small_sample_stretch(weight)
    low, high = (mean + stretch * (float(end) - mean) for end in (interval.low, interval.high))
    return Difference(mean, low, high, n, resamples, groups is not None)
