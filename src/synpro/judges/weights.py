"""A calibrated logistic model over named features: plain numbers in JSON, fitted and evaluated the same everywhere.

Weights are bounded by sign (`signs`): a feature that ought to cost a claim can never earn it anything. The fit is convex, so
there is one answer and no seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Weights:
    """Probability = sigmoid(slope x (bias + sum of weight x (value - mean) / scale) + shift)."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    slope: float = 1.0
    """With `shift`, from calibration (Platt, 1999)."""
    shift: float = 0.0

    def score(self, values: Mapping[str, float]) -> float:
        """Log odds before calibration. Raises KeyError for a missing feature."""
        parts = zip(self.names, self.means, self.scales, self.weights, strict=True)
        return self.bias + sum(w * (values[n] - m) / s for n, m, s, w in parts)

    def probability(self, values: Mapping[str, float]) -> float:
        """0 to 1, calibrated."""
        return sigmoid(self.slope * self.score(values) + self.shift)

    def calibrated(self, rows: Sequence[Mapping[str, float]], labels: Sequence[bool], counts: Sequence[float]) -> Weights:
        """The same model with slope and shift fitted to other claims than it learned from; `counts` weighs them."""
        slope, shift = platt([self.score(r) for r in rows], labels, counts)
        return Weights(self.names, self.means, self.scales, self.weights, self.bias, slope, shift)


def platt(scores: Sequence[float], labels: Sequence[bool], counts: Sequence[float]) -> tuple[float, float]:
    """(slope, shift) such that sigmoid(slope x score + shift) is calibrated; the slope is drawn towards 1 and never
    negative."""
    if not scores:
        return 1.0, 0.0
    (slope,), shift = _logistic([[s] for s in scores], labels, counts, [1], penalty=1.0, towards=1.0)
    return slope, shift


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x) without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def fit(
    rows: Sequence[Mapping[str, float]],
    labels: Sequence[bool],
    counts: Sequence[float],
    signs: Mapping[str, int],
    penalty: float = 1.0,
) -> Weights:
    """Logistic regression with an L2 penalty. `signs`: the features to use, in order, and the sign each weight must have (0:
    any).

    `counts` says how much each row weighs. Raises ValueError when all labels are the same.
    """
    import numpy as np

    if len(set(labels)) < 2:
        raise ValueError("all claims have the same label: there is nothing to tell apart. Give prepare more text")
    names = tuple(signs)
    matrix = np.array([[r[n] for n in names] for r in rows], dtype=np.float64)
    means, scales = matrix.mean(axis=0), matrix.std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    weights, bias = _logistic(((matrix - means) / scales).tolist(), labels, counts, list(signs.values()), penalty, 0.0)
    return Weights(names, tuple(map(float, means)), tuple(map(float, scales)), tuple(weights), bias)


def _logistic(
    matrix: Sequence[Sequence[float]],
    labels: Sequence[bool],
    counts: Sequence[float],
    signs: Sequence[int],
    penalty: float,
    towards: float,
) -> tuple[list[float], float]:
    """(weights, bias) of least loss: counted log loss + penalty / 2 x |weights - towards|^2."""
    import numpy as np
    from scipy.optimize import minimize

    x, y, c = np.array(matrix, dtype=np.float64), np.array(labels, dtype=bool), np.array(counts, dtype=np.float64)
    c = c / c.mean()

    def loss(t: np.ndarray) -> tuple[float, np.ndarray]:
        s = x @ t[1:] + t[0]
        value = (np.logaddexp(0.0, np.where(y, -s, s)) * c).sum() + penalty / 2 * ((t[1:] - towards) ** 2).sum()
        slope = (np.exp(-np.logaddexp(0.0, -s)) - y) * c
        return value / len(y), np.concatenate([[slope.sum()], x.T @ slope + penalty * (t[1:] - towards)]) / len(y)

    bounds = [(None, None)] + [(0.0, None) if s > 0 else (None, 0.0) if s < 0 else (None, None) for s in signs]
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 2000})
    return [float(w) for w in found.x[1:]], float(found.x[0])
