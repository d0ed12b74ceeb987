"""Shares of values, with their intervals: of texts with positive influence, of answers that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Proportion:
    """The share of n values that have a property."""

    value: float
    low: float
    high: float
    """95% interval over the values, as a sample of all that there could be: Wilson's (1927), or by documents."""
    n: int


def positive_share(values: Sequence[float], documents: Sequence[str] = ()) -> Proportion:
    """Share of values above 0. `documents`: that of each value; the interval is then over documents, because the texts of one
    are not independent: by bootstrap, or as of one value each where all agree. Raises ValueError for an empty list."""
    positive, groups = [float(v > 0) for v in values], len(set(documents))
    if groups < 2 or groups == len(values):
        return proportion(int(sum(positive)), len(values))
    if len(set(positive)) == 1:
        return replace(proportion(groups * int(positive[0]), groups), n=len(values))
    from synpro.measure.bootstrap import paired_difference

    found = paired_difference([0.0] * len(values), positive, groups=documents)
    return Proportion(found.mean, max(0.0, found.low), min(1.0, found.high), len(values))


def proportion(count: int, n: int) -> Proportion:
    """The share `count / n` with its interval. Raises ValueError for `n` of 0."""
    from scipy.stats import binomtest

    if not n:
        raise ValueError("a share needs at least one value")
    test = binomtest(count, n)
    interval = test.proportion_ci(0.95, method="wilson")
    return Proportion(float(test.statistic), float(interval.low), float(interval.high), n)
