"""The calibrated logistic model, and the numbers that measure it, against values worked by hand."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from scipy.special import expit

from synpro.faithfulness.logistic import LogisticModel, fit, fit_platt
from synpro.measure.calibration import auc, classifier_metrics, reliability


def made(seed: int, n: int = 400) -> tuple[list[dict[str, float]], list[bool]]:
    """`good` speaks for a claim, `bad` against it, `noise` says nothing."""
    rng = Random(seed)
    rows = [{name: rng.gauss(0, 1) for name in ("good", "bad", "noise")} for _ in range(n)]
    return rows, [rng.random() < expit(2 * r["good"] - 1.5 * r["bad"]) for r in rows]


def test_weights_keep_their_signs_and_find_the_truth() -> None:
    rows, labels = made(1)
    free = fit(rows, labels, [1.0] * len(rows), {"good": 0, "bad": 0, "noise": 0}, penalty=0.01)
    assert free.weights[0] / free.scales[0] == pytest.approx(2, abs=0.5)
    assert free.weights[1] / free.scales[1] == pytest.approx(-1.5, abs=0.5)
    bound = fit(rows, labels, [1.0] * len(rows), {"good": -1, "bad": -1, "noise": 1})
    assert bound.weights[0] == 0.0 and bound.weights[1] < 0 <= bound.weights[2]
    assert fit(rows, labels, [1.0] * len(rows), {"good": 1, "bad": -1}) == fit(
        rows, labels, [2.0] * len(rows), {"good": 1, "bad": -1}
    )


def test_calibration_repairs_a_model_that_is_too_sure() -> None:
    rows, labels = made(2)
    model = fit(rows, labels, [1.0] * len(rows), {"good": 1, "bad": -1})
    sure = dataclasses.replace(model, weights=tuple(5 * w for w in model.weights), bias=model.bias + 3)
    others, truth = made(3)
    before = classifier_metrics([sure.probability(r) for r in others], truth)
    after = classifier_metrics([sure.calibrated(rows, labels, [1.0] * len(rows)).probability(r) for r in others], truth)
    assert after.ece < before.ece / 2 and after.brier < before.brier and after.auc == before.auc


def test_calibration_never_turns_the_order_round() -> None:
    assert fit_platt([1.0, 2.0, 3.0, 4.0], [True, True, False, False], [1.0] * 4)[0] == 0.0
    assert fit_platt([], [], []) == (1.0, 0.0)


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="same label"):
        fit([{"a": 1.0}], [True], [1.0], {"a": 1})


def test_a_missing_feature_is_not_guessed() -> None:
    with pytest.raises(KeyError):
        LogisticModel(("a",), (0.0,), (1.0,), (1.0,), 0.0).probability({"b": 1.0})


def test_measures_by_hand() -> None:
    assert auc([0.9, 0.4], [0.4, 0.1]) == (1 + 1 + 0.5 + 1) / 4
    assert auc([], [0.1]) is None
    q = classifier_metrics([0.95, 0.65, 0.35, 0.85], [True, True, False, False])
    assert (q.precision, q.recall, q.specificity) == (2 / 3, 1.0, 0.5)
    assert q.brier == pytest.approx((0.05**2 + 0.35**2 + 0.35**2 + 0.85**2) / 4)
    assert q.ece == pytest.approx((0.05 + 0.35 + 0.35 + 0.85) / 4)
    assert q.auc == 0.75 and q.auc_error is not None and 0 < q.auc_error < 0.5
    bins = reliability([1.0, 0.0, 0.04], [True, False, True])
    assert (bins[9].count, bins[0].count, bins[0].true, bins[5].said) == (1, 2, 0.5, None)
    with pytest.raises(ValueError, match="nothing to measure"):
        classifier_metrics([], [])
