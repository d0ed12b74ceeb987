"""Validation of influence: does it predict what training on a text really gains?

Texts are sorted by influence and cut into groups with equal numbers of tokens, so that groups differ in influence alone. The
model is trained on each group for a while, and the ranks of the groups' influence and of their gains are compared. The paper
reports no such test.
"""

from __future__ import annotations

import warnings
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
    """Two-sided, by permutation: how often groups in random order agree at least as well."""
    groups: int


@dataclass(frozen=True)
class Proportion:
    """The share of n values that have a property."""

    value: float
    low: float
    high: float
    """95% Wilson interval (Wilson 1927) over the values, as a sample of all that there could be."""
    n: int


def spearman_with_interval(
    influence: Sequence[float], gain: Sequence[float], *, resamples: int = 10_000, level: float = 0.95, seed: int = 20_260_519
) -> Correlation:
    """Spearman's rho of two values per group, paired by position; ties share their mean rank.

    Every permutation is tried where there are at most `resamples` of them (up to 7 groups), random ones otherwise.
    Raises ValueError for fewer than four groups, lengths that differ, and values that are all equal or not finite.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap, permutation_test, rankdata

    x, y = np.asarray(influence, np.float64), np.asarray(gain, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 4:
        raise ValueError(
            f"a rank correlation needs two equally long lists of at least four groups, got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("a rank correlation needs finite values that are not all equal")

    def rho(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        """Pearson's correlation of the ranks; NaN where a resample drew one value alone."""
        a, b = (r - r.mean(axis=axis, keepdims=True) for r in (rankdata(x, axis=axis), rankdata(y, axis=axis)))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (a * b).sum(axis=axis) / np.sqrt((a * a).sum(axis=axis) * (b * b).sum(axis=axis))

    rng = np.random.default_rng(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # NaNs of constant resamples are left out of the quantiles
        resampled = bootstrap(
            (x, y), rho, paired=True, n_resamples=resamples, method="percentile", rng=rng
        ).bootstrap_distribution
    low, high = np.nanquantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    permuted = permutation_test(
        (y,),
        lambda shuffled, axis=-1: np.abs(rho(np.broadcast_to(x, shuffled.shape), shuffled, axis)),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=resamples,
        vectorized=True,
        rng=rng,
    )
    return Correlation(float(rho(x, y)), float(low), float(high), float(permuted.pvalue), len(x))


def positive_share(values: Sequence[float]) -> Proportion:
    """Share of values above 0. Raises ValueError for an empty list."""
    return proportion(sum(v > 0 for v in values), len(values))


def proportion(count: int, n: int) -> Proportion:
    """The share `count / n` with its interval. Raises ValueError for `n` of 0."""
    from scipy.stats import binomtest

    if not n:
        raise ValueError("a share needs at least one value")
    test = binomtest(count, n)
    interval = test.proportion_ci(0.95, method="wilson")
    return Proportion(float(test.statistic), float(interval.low), float(interval.high), n)


def influence_groups(influence: Sequence[float], tokens: Sequence[int], count: int) -> list[list[int]]:
    """Cut texts into `count` groups of rising influence with about the same number of tokens; indices, each in one group.

    Raises ValueError for fewer texts than groups, and for no groups.
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
