"""How good a judge's probabilities are: ranking (AUC), decisions (precision, recall) and calibration (ECE, Brier)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """A row of the reliability table: the claims whose probability lies in [low, high)."""

    low: float
    high: float
    count: int
    said: float | None
    """Mean probability; None in an empty bin."""
    true: float | None
    """Share of claims that are true; None in an empty bin."""


@dataclass(frozen=True)
class ClassifierMetrics:
    """Predicted probabilities of being true, compared with the truth."""

    count: int
    positives: int
    auc: float | None
    """Chance that a true claim ranks above a false one, ties half; None when one kind is missing."""
    auc_error: float | None
    """Standard error of `auc` (Hanley and McNeil, 1982)."""
    precision: float | None
    """Share of true claims among those called true (0.5 or more); None when none is called true."""
    recall: float | None
    """Share of the true claims that are called true."""
    specificity: float | None
    """Share of the false claims that are called false."""
    brier: float
    """Mean squared distance of the probability from 0 or 1."""
    ece: float
    """Expected calibration error: mean distance between probability and truth over the bins, weighted by count."""
    bins: tuple[ReliabilityBin, ...]


def classifier_metrics(probabilities: Sequence[float], truth: Sequence[bool]) -> ClassifierMetrics:
    """Compare probabilities with the truth, by position. Raises ValueError for empty lists and for unequal lengths."""
    if not probabilities:
        raise ValueError("there is nothing to measure: no claims")
    pairs = list(zip(probabilities, truth, strict=True))
    high, low = [p for p, t in pairs if t], [p for p, t in pairs if not t]
    called = [t for p, t in pairs if p >= 0.5]
    area = auc(high, low)
    bins = reliability(probabilities, truth)
    off = sum(b.count * abs(b.said - b.true) for b in bins if b.said is not None and b.true is not None)
    return ClassifierMetrics(
        count=len(pairs),
        positives=len(high),
        auc=area,
        auc_error=None if area is None else _auc_error(area, len(high), len(low)),
        precision=sum(called) / len(called) if called else None,
        recall=sum(p >= 0.5 for p in high) / len(high) if high else None,
        specificity=sum(p < 0.5 for p in low) / len(low) if low else None,
        brier=sum((p - t) ** 2 for p, t in pairs) / len(pairs),
        ece=off / len(pairs),
        bins=bins,
    )


def auc(high: Sequence[float], low: Sequence[float]) -> float | None:
    """Chance that one of `high` is above one of `low`, ties half (Mann-Whitney's U); None when either is empty."""
    from scipy.stats import mannwhitneyu

    if not high or not low:
        return None
    return float(mannwhitneyu(high, low, method="asymptotic").statistic) / (len(high) * len(low))


def reliability(probabilities: Sequence[float], truth: Sequence[bool]) -> tuple[ReliabilityBin, ...]:
    """The reliability table, in ten bins of equal width."""
    in_bin: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for p, t in zip(probabilities, truth, strict=True):
        in_bin[min(BINS - 1, int(p * BINS))].append((p, t))
    return tuple(
        ReliabilityBin(
            i / BINS,
            (i + 1) / BINS,
            len(h),
            sum(p for p, _ in h) / len(h) if h else None,
            sum(t for _, t in h) / len(h) if h else None,
        )
        for i, h in enumerate(in_bin)
    )


def _auc_error(area: float, m: int, n: int) -> float:
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (m - 1) * (q1 - area * area) + (n - 1) * (q2 - area * area)) / (m * n)
    return max(0.0, variance) ** 0.5
