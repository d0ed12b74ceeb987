"""Signed logistic regression over named features, calibrated: plain numbers in JSON, the same result everywhere.

Why signed. The verifier is a reward, so a generator searches for whatever raises its probability. In ordinary logistic
regression the features are correlated and some weights get a sign that helps on the training claims but makes no sense alone:
another unknown name, for example, may raise the score because claims with many names happened to be true. Such a weight can be
exploited. Here each feature has a declared direction (`features.py: SIGNS`), and its weight is bounded at 0 on the other side
(box constraints of L-BFGS-B). A feature that only helps with the wrong sign gets weight 0. More evidence against a claim can
therefore never raise its probability, whatever the other features are.

The loss is the weighted log loss plus penalty / 2 x |w|^2 over standardised features. It is convex and, with the penalty,
strictly so in the weights: the bounded problem has one solution, and no seed or order of the claims enters. Calibration (Platt
1999) then fits a slope and a shift to the scores of other claims by the same code. The slope is pulled towards 1 by the penalty
and may not be negative, so that calibration keeps the order of the claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit


@dataclass(frozen=True)
class LogisticModel:
    """Probability = sigmoid(slope x (bias + sum of weight x (value - mean) / scale) + shift)."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    slope: float = 1.0
    """From calibration, as `shift`."""
    shift: float = 0.0

    def score(self, values: Mapping[str, float]) -> float:
        """Log odds before calibration. Raises KeyError for a missing feature."""
        parts = zip(self.names, self.means, self.scales, self.weights, strict=True)
        return self.bias + sum(w * (values[n] - m) / s for n, m, s, w in parts)

    def probability(self, values: Mapping[str, float]) -> float:
        """Calibrated probability, 0 to 1. Raises KeyError for a missing feature."""
        return float(expit(self.slope * self.score(values) + self.shift))

    def calibrated(
        self, rows: Sequence[Mapping[str, float]], labels: Sequence[bool], sample_weight: Sequence[float]
    ) -> LogisticModel:
        """The same model with slope and shift fitted to claims that it was not trained on."""
        slope, shift = fit_platt([self.score(r) for r in rows], labels, sample_weight)
        return replace(self, slope=slope, shift=shift)


def fit(
    rows: Sequence[Mapping[str, float]],
    labels: Sequence[bool],
    sample_weight: Sequence[float],
    signs: Mapping[str, int],
    penalty: float = 1.0,
) -> LogisticModel:
    """Fit a model. `signs` names the features to use, in order, and the sign that each weight must have (1, -1; 0: any).

    Raises ValueError when all labels are the same.
    """
    if len(set(labels)) < 2:
        raise ValueError("all claims have the same label, so nothing can be learned from them. Give prepare more text")
    names = tuple(signs)
    matrix = np.array([[r[n] for n in names] for r in rows], dtype=np.float64)
    means, scales = matrix.mean(axis=0), matrix.std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    weights, bias = _minimize((matrix - means) / scales, labels, sample_weight, list(signs.values()), penalty, 0.0)
    return LogisticModel(names, tuple(means.tolist()), tuple(scales.tolist()), tuple(weights), bias)


def fit_platt(scores: Sequence[float], labels: Sequence[bool], sample_weight: Sequence[float]) -> tuple[float, float]:
    """Fit (slope, shift) such that sigmoid(slope x score + shift) is calibrated; (1, 0) without scores."""
    if not scores:
        return 1.0, 0.0
    (slope,), shift = _minimize(np.array(scores)[:, None], labels, sample_weight, [1], penalty=1.0, center=1.0)
    return slope, shift


def _minimize(
    x: np.ndarray, labels: Sequence[bool], sample_weight: Sequence[float], signs: Sequence[int], penalty: float, center: float
) -> tuple[list[float], float]:
    """(weights, bias) of the least weighted log loss + penalty / 2 x |weights - center|^2. `x`: (claims, features)."""
    y, c = np.array(labels, dtype=bool), np.array(sample_weight, dtype=np.float64)
    c = c / c.mean()

    def loss(t: np.ndarray) -> tuple[float, np.ndarray]:
        s = x @ t[1:] + t[0]
        value = (np.logaddexp(0.0, np.where(y, -s, s)) * c).sum() + penalty / 2 * ((t[1:] - center) ** 2).sum()
        slope = (expit(s) - y) * c
        return value / len(y), np.concatenate([[slope.sum()], x.T @ slope + penalty * (t[1:] - center)]) / len(y)

    bounds = [(None, None)] + [(0.0, None) if s > 0 else (None, 0.0) if s < 0 else (None, None) for s in signs]
    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 2000})
    return found.x[1:].tolist(), float(found.x[0])
