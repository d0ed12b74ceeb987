"""Agreement of two judges on the same items: yes-or-no verdicts, and orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Two lists of verdicts on the same items, compared."""

    items: int
    accuracy: float
    """Share of items with the same verdict, 0 to 1."""
    kappa: float
    """Cohen's kappa (1960), agreement beyond chance: 1 for full agreement, 0 for chance or when one side never varies."""


def agreement(one: Sequence[bool], other: Sequence[bool]) -> Agreement:
    """Agreement of two lists of verdicts. Raises ValueError for lists of unequal length and for empty ones."""
    if not one:
        raise ValueError("there are no verdicts to compare")
    n = len(one)
    same = sum(a == b for a, b in zip(one, other, strict=True)) / n
    yes = sum(one) / n, sum(other) / n
    chance = yes[0] * yes[1] + (1 - yes[0]) * (1 - yes[1])
    return Agreement(n, same, (same - chance) / (1 - chance) if chance < 1 else 0.0)


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1 to 1; ties take their mean rank. None where one side does not vary."""
    from scipy.stats import spearmanr

    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return float(spearmanr(one, other).statistic)
