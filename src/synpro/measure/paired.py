"""Differences between two models on the same texts, with an interval over the texts.

The statistic is a ratio of sums, sum(after - before) / sum(units): with `units` = tokens it is the change of the mean loss
per token, exactly as the loss of a corpus is reported, long documents counting more. Documents are resampled, not tokens,
because the losses of one document's tokens are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_CHUNK = 4_000_000
"""Random indices held at once: bounds memory (32 MB) for any number of documents."""


@dataclass(frozen=True)
class Difference:
    """`after - before` per unit, and its interval. Negative is better when the values are losses."""

    mean: float
    low: float
    high: float
    level: float
    """Nominal coverage of [low, high]."""
    documents: int
    resamples: int

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def paired_difference(
    before: Sequence[float],
    after: Sequence[float],
    units: Sequence[float] | None = None,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 20_260_517,
) -> Difference:
    """Percentile bootstrap (Efron and Tibshirani 1993, ch. 13) of the change per unit, paired by position.

    `before`, `after`: shape (documents,), sums per document (nats); `units`: what each document weighs (tokens; bytes times
    ln 2 for bits per byte), 1 each when left out. The interval is over texts only: it holds both models fixed, so it says
    nothing about another seed or another training run. It is slightly narrow below about 30 documents.
    Raises ValueError for lengths that differ, fewer than two documents, values that are not finite, or
    units that are not positive.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    weight = np.ones_like(first) if units is None else np.asarray(units, dtype=np.float64)
    if first.ndim != 1 or not first.shape == second.shape == weight.shape:
        raise ValueError(
            f"paired values must have one length: before {first.shape}, after {second.shape}, units {weight.shape}"
        )
    n = first.size
    if n < 2:
        raise ValueError(f"an interval over documents needs at least two of them, got {n}")
    if not (np.isfinite(first).all() and np.isfinite(second).all() and np.isfinite(weight).all() and (weight > 0).all()):
        raise ValueError("paired values must be finite and units positive")
    if not (0 < level < 1 and resamples > 0):
        raise ValueError(f"level must lie between 0 and 1 and resamples above 0, got {level} and {resamples}")
    change = second - first
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // n)
    means = []
    for start in range(0, resamples, rows):
        drawn = rng.integers(n, size=(min(rows, resamples - start), n))
        means.append(change[drawn].sum(axis=1) / weight[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(change.sum() / weight.sum()), float(low), float(high), level, n, resamples)
