"""Influence on trial: does it predict what really training on a text does?

Texts are sorted by influence and cut into groups of as many tokens each, so that groups differ in what is on trial. Each group
is trained on for a while, and the ranks of its influence and of what it gained are compared. The paper reports no such trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over groups."""

    rho: float
    low: float
    high: float
    """95% percentile bootstrap over groups. With 16 groups it is rough: read it beside `p`."""
    p: float
    """Two-sided, by permutation: how often groups in random order are ranked as much alike."""
    groups: int


@dataclass(frozen=True)
class Share:
    """How many of n are positive."""

    value: float
    low: float
    high: float
    """95% Wilson interval (Wilson 1927): of the texts, which stand for more texts of the same generator."""
    n: int


def rank_correlation(
    influence: Sequence[float], gain: Sequence[float], *, resamples: int = 10_000, level: float = 0.95, seed: int = 20_260_519
) -> Correlation:
    """Spearman's rho of two values per group, paired by position; ties share their mean rank.

    Raises ValueError for fewer than four groups, lengths that differ, or values that are all equal or not finite.
    """
    x, y = np.asarray(influence, np.float64), np.asarray(gain, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 4:
        raise ValueError(
            f"a rank correlation needs two equally long lists of at least four groups, got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("a rank correlation needs finite values that are not all equal")
    rng = np.random.default_rng(seed)
    rho = float(_pearson(_ranks(x[None]), _ranks(y[None]))[0])
    drawn = rng.integers(len(x), size=(resamples, len(x)))
    boot = _pearson(_ranks(x[drawn]), _ranks(y[drawn]))
    low, high = np.nanquantile(boot, [(1 - level) / 2, (1 + level) / 2])
    shuffled = rng.permuted(np.broadcast_to(y, (resamples, len(y))), axis=1)
    as_much = np.abs(_pearson(_ranks(x[None]), _ranks(shuffled))) >= abs(rho) - 1e-12
    return Correlation(rho, float(low), float(high), float((as_much.sum() + 1) / (resamples + 1)), len(x))


def positive_share(values: Sequence[float]) -> Share:
    """Share of values above 0. Raises ValueError without any."""
    n = len(values)
    if not n:
        raise ValueError("a share needs at least one value")
    z, p = 1.959963984540054, sum(v > 0 for v in values) / n
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Share(p, float(max(0.0, middle - half)), float(min(1.0, middle + half)), n)


def influence_groups(influence: Sequence[float], tokens: Sequence[int], count: int) -> list[list[int]]:
    """Places of texts in `count` groups of rising influence with about as many tokens each; every text is in one.

    Raises ValueError when there are fewer texts than groups, or none.
    """
    if not 1 <= count <= len(influence):
        raise ValueError(f"{len(influence)} texts do not make {count} groups")
    order = sorted(range(len(influence)), key=lambda i: (influence[i], i))
    groups: list[list[int]] = [[]]
    done, total = 0, sum(tokens)
    for place, i in enumerate(order):
        left = len(order) - place
        full = done >= total * len(groups) / count or left <= count - len(groups)
        if groups[-1] and full and len(groups) < count:
            groups.append([])
        groups[-1].append(i)
        done += tokens[i]
    return groups


def _ranks(values_B_N: np.ndarray) -> np.ndarray:
    """Mean ranks within each row."""
    order = np.argsort(values_B_N, axis=1, kind="stable")
    ranks = np.empty(values_B_N.shape)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(values_B_N.shape[1], dtype=float), values_B_N.shape), axis=1)
    equal = values_B_N[:, :, None] == values_B_N[:, None, :]
    return (equal * ranks[:, None, :]).sum(axis=2) / equal.sum(axis=2)


def _pearson(x_B_N: np.ndarray, y_B_N: np.ndarray) -> np.ndarray:
    """NaN where a row is constant."""
    x, y = x_B_N - x_B_N.mean(axis=1, keepdims=True), y_B_N - y_B_N.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(axis=1) / np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
