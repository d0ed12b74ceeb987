"""Data efficiency on synthetic curves: the truth is known, so bias and coverage can be counted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from synpro.measure.curves import effective_tokens, fit_curve
from synpro.measure.data_efficiency import (
    Anchor,
    Baseline,
    Estimate,
    Method,
    Refusal,
    curve_band,
    data_efficiency,
    oracle_equivalent,
    oracle_gap,
    tuned_curve,
)
from synpro.measure.losses import Resampling
from tests.measure.synthetic import TUNED, UNIQUE, experiment, law, losses

EXPERIMENTS = 200


def repetition(unique: float) -> float:
    """The repetition law for a budget of 16 passes over UNIQUE: 8 times the text are worth 1.5 times the effective tokens."""
    return 2.5 + 12.0 * (float(effective_tokens(np.array(unique), np.array(16.0 * UNIQUE))) / UNIQUE) ** -0.3


@pytest.mark.parametrize(
    ("name", "settings", "chosen"),
    [
        ("3 seeds, 4 anchors", {}, {}),
        ("5 seeds, 4 anchors", {"seeds": 5, "sizes": (1, 2, 3, 4)}, {}),
        ("3 seeds, the repetition law", {"curve": repetition}, {"law": "repetition"}),
    ],
)
def test_the_interval_covers_the_truth_at_the_stated_rate(name: str, settings: dict, chosen: dict, record_property) -> None:
    rng = np.random.default_rng(11)
    found = []
    for _ in range(EXPERIMENTS):
        method, anchors = experiment(rng, **settings)
        estimate = data_efficiency(method, anchors, TUNED, resampling=Resampling(resamples=300), **chosen)
        assert isinstance(estimate, Estimate)
        found.append((estimate.low, estimate.value, estimate.high))
    low, value, high = np.array(found).T
    covered, bias = float(np.mean((low <= 1.5) & (high >= 1.5))), float(np.mean(value) - 1.5)
    said = f"95% interval covers {covered:.1%} of {EXPERIMENTS}, bias {bias:+.4f}, median width {np.median(high - low):.3f}"
    record_property("measured", f"{name}: {said}")
    # 200 draws at 95% have a standard error of 1.5%. Two sources of noise and two degrees of freedom err on the wide side.
    assert 0.92 <= covered <= 1.0
    assert abs(bias) < 0.02
    assert np.median(high - low) < 0.3, "wide enough to cover, not by covering all"


def test_one_seed_is_said_to_speak_of_documents_only() -> None:
    found = data_efficiency(*experiment(np.random.default_rng(0), seeds=1), TUNED)
    assert isinstance(found, Estimate) and "one seed: the interval is over documents only" in found.notes


def test_the_same_losses_give_the_same_words() -> None:
    first, again = (data_efficiency(*experiment(np.random.default_rng(1)), TUNED) for _ in range(2))
    assert first == again and first.words.startswith("1.") and "x [" in first.words


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (Baseline(), "no search over its weight decay"),
        (dataclasses.replace(TUNED, searched={"weight_decay": (0.1, 1.0)}), "only one value of learning rate, epochs"),
        (
            dataclasses.replace(TUNED, searched={**TUNED.searched, "weight_decay": (0.1, 0.1)}),
            "only one value of weight decay",
        ),
    ],
)
def test_against_an_untuned_baseline_nothing_is_claimed(baseline: Baseline, said: str) -> None:
    method, anchors = experiment(np.random.default_rng(2))
    for found in (
        data_efficiency(method, anchors, baseline),
        oracle_gap(method, anchors[0].losses, anchors[2].losses, baseline),
    ):
        assert isinstance(found, Refusal) and said in found.reason
        assert found.words.startswith("not stated: the repetition baseline was not tuned")
        assert not any(c.isdigit() for c in found.words.replace("0.1", ""))


def test_what_a_reader_must_know_of_the_baseline_is_noted() -> None:
    method, anchors = experiment(np.random.default_rng(3))
    edge = dataclasses.replace(TUNED, open_axes=("weight_decay",), carried=True)
    notes = data_efficiency(method, anchors, edge).notes
    assert [n for n in notes if "did not settle" in n and "weight decay" in n]
    assert [n for n in notes if "used at all of them" in n]
    assert not data_efficiency(method, anchors, TUNED).notes


def test_a_baseline_that_still_gains_from_tokens_is_refused() -> None:
    method, anchors = experiment(np.random.default_rng(3))
    found = data_efficiency(method, anchors, dataclasses.replace(TUNED, gains_from_tokens=True))
    assert isinstance(found, Refusal) and "not data-bound" in found.reason and "budget_tokens" in found.reason


def test_against_a_search_that_did_not_settle_there_is_an_upper_bound_alone() -> None:
    method, anchors = experiment(np.random.default_rng(3))
    unsettled = dataclasses.replace(TUNED, open_axes=("weight_decay",))
    full, found = data_efficiency(method, anchors, TUNED), data_efficiency(method, anchors, unsettled)
    assert isinstance(full, Estimate) and isinstance(found, Estimate)
    assert found.words == f"at most {full.high:.2f}x" and full.words.startswith(f"{full.value:.2f}x [")
    gap = oracle_gap(method, anchors[0].losses, anchors[-1].losses, unsettled)
    assert gap.words.startswith("at most ") and gap.words.endswith("%")


def test_the_spread_between_laws_is_part_of_the_interval_and_chords_are_beside() -> None:
    found = data_efficiency(*experiment(np.random.default_rng(9), curve=repetition, seed_noise=1e-4), TUNED)
    assert isinstance(found, Estimate) and set(found.laws) == {"power", "repetition", "interpolation", "reciprocal"}
    assert found.laws["power"] == found.value != found.laws["repetition"]
    assert found.low <= min(found.laws["power"], found.laws["repetition"])
    assert found.high >= max(found.laws["power"], found.laws["repetition"])


def test_an_exponent_outside_of_what_is_plausible_is_told() -> None:
    def steep(unique: float) -> float:
        return 4.0 + 1.5 * (unique / UNIQUE) ** -1.9

    notes = data_efficiency(*experiment(np.random.default_rng(6), curve=steep, seed_noise=1e-4), TUNED).notes
    assert [n for n in notes if "exponent of 1." in n and "outside 0.05 to 1" in n]
    plain = data_efficiency(*experiment(np.random.default_rng(6), seed_noise=1e-4), TUNED).notes
    assert not [n for n in plain if "exponent" in n]


@pytest.mark.parametrize(("truth", "outside"), [(1.2, False), (7.5, False), (0.6, True), (12.0, True)])
def test_a_value_outside_the_measured_text_is_an_extrapolation(truth: float, outside: bool) -> None:
    found = data_efficiency(*experiment(np.random.default_rng(4), truth=truth, seed_noise=1e-4), TUNED)
    assert isinstance(found, Estimate) and found.extrapolated is outside and found.reachable
    assert found.value == pytest.approx(truth, rel=0.05)
    assert ("(extrapolated)" in found.words) is outside
    assert any("lie outside the measured 100,000 to 800,000" in n for n in found.notes) is outside


def test_a_loss_below_the_offset_is_not_reached_by_any_text() -> None:
    rng = np.random.default_rng(5)
    *anchors, best = losses(rng, [law(UNIQUE * s) for s in (1, 2, 4, 8)] + [2.0], seed_noise=1e-4)
    points = [Anchor(UNIQUE * s, 16 * UNIQUE, a) for s, a in zip((1, 2, 4, 8), anchors, strict=True)]
    found = data_efficiency(Method("m", UNIQUE, best), points, TUNED)
    assert isinstance(found, Estimate) and not found.reachable and math.isinf(found.value)
    assert found.words.startswith("not reached") and any("lies below" in n and "offset" in n for n in found.notes)


def test_a_law_that_misses_its_anchors_says_by_how_much() -> None:
    rng = np.random.default_rng(6)
    bent = [6.0, 5.9, 4.2, 4.15]  # no power law falls like this
    *anchors, method = losses(rng, [*bent, 5.5], seed_noise=1e-4)
    points = [Anchor(UNIQUE * s, 16 * UNIQUE, a) for s, a in zip((1, 2, 4, 8), anchors, strict=True)]
    found = data_efficiency(Method("m", UNIQUE, method), points, TUNED)
    assert any(n.startswith("the power law misses its anchors by 0.") for n in found.notes)


def test_two_anchors_are_enough_for_interpolation_and_too_few_for_a_law() -> None:
    method, anchors = experiment(np.random.default_rng(7), sizes=(1, 2))
    refused = data_efficiency(method, anchors, TUNED)
    assert isinstance(refused, Refusal) and "4 or more" in refused.reason
    found = data_efficiency(method, anchors, TUNED, law="interpolation")
    assert isinstance(found, Estimate) and found.low < found.value < found.high
    assert found.value == pytest.approx(1.5, abs=0.08)
    assert found.laws["reciprocal"] < found.value < found.laws["interpolation"]
    assert any("exponent of 1" in note for note in found.notes)
    beyond, flat = losses(np.random.default_rng(7), [law(3 * UNIQUE), law(UNIQUE) + 0.1])
    no_curve = [anchors[0], Anchor(2 * UNIQUE, 16 * UNIQUE, flat)]
    refused = data_efficiency(method, no_curve, TUNED, law="interpolation")
    assert isinstance(refused, Refusal) and "lies below the lowest" in refused.reason
    refused = data_efficiency(Method("m", UNIQUE, flat), no_curve, TUNED, law="interpolation")
    assert isinstance(refused, Refusal) and "no curve" in refused.reason
    refused = data_efficiency(Method("m", UNIQUE, beyond), anchors, TUNED, law="interpolation")
    assert isinstance(refused, Refusal) and "chords say nothing beyond" in refused.reason


@pytest.mark.parametrize("truth", [0.7, 0.9, 1.3, 1.95])
@pytest.mark.parametrize("exponent", [0.05, 0.35, 1.0])
def test_chords_hold_every_plausible_bend(exponent: float, truth: float) -> None:
    """A curve bends upward: the straight line alone finds too many tokens between anchors and too few outside."""
    held, rng = list[bool](), np.random.default_rng(11)
    curve = [2.0 * s**-exponent for s in (1.0, 2.0, truth)]
    for _ in range(EXPERIMENTS):
        one, two, reached = losses(rng, [3.0 + v for v in curve])
        points = [Anchor(UNIQUE * s, 16 * UNIQUE, a) for s, a in ((1, one), (2, two))]
        found = data_efficiency(Method("m", UNIQUE, reached), points, TUNED, law="interpolation", resampling=Resampling(500))
        if isinstance(found, Refusal):  # noise took it below the larger anchor
            assert truth > 1.9
            continue
        assert found.low <= found.value <= found.high
        held.append(found.low <= truth <= found.high)
    assert len(held) >= EXPERIMENTS / 4 and np.mean(held) >= 0.92


def test_oracle_equivalent_tokens_come_from_single_passes() -> None:
    method, anchors = experiment(np.random.default_rng(8), seed_noise=1e-4)
    passes = [Anchor(a.unique_tokens, a.unique_tokens, a.losses) for a in anchors]
    found = oracle_equivalent(method, passes)
    assert isinstance(found, Estimate) and found.value == pytest.approx(150_000, rel=0.02)
    assert found.words.startswith("1") and found.unit == "tokens" and "x" not in found.words
    with pytest.raises(ValueError, match="need single passes"):
        oracle_equivalent(method, anchors)


def test_the_share_of_the_gap_covers_its_truth_too() -> None:
    rng, covered = np.random.default_rng(9), 0
    for _ in range(EXPERIMENTS):
        repeated, oracle, method = losses(rng, [5.8, 5.2, 5.5])
        found = oracle_gap(Method("m", UNIQUE, method), repeated, oracle, TUNED, resampling=Resampling(resamples=500))
        assert isinstance(found, Estimate)
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / EXPERIMENTS <= 1.0
    same = losses(rng, [5.5, 5.5, 5.5])
    refused = oracle_gap(Method("m", UNIQUE, same[2]), same[0], same[1], TUNED)
    assert isinstance(refused, Refusal) and "not clearly worse" in refused.reason


@pytest.mark.parametrize("sizes", [(1, 2, 3, 4), (1, 2, 4, 8, 16)])
def test_fits_of_exact_curves_are_exact_and_inverted_exactly(sizes: tuple[int, ...]) -> None:
    unique = np.array(sizes, float) * UNIQUE
    power = fit_curve(unique, np.array([[law(u) for u in unique]]))
    assert power.offset_B[0] == pytest.approx(3.0, abs=2e-3) and power.exponent_B[0] == pytest.approx(0.35, abs=2e-3)
    repeated = fit_curve(
        unique, np.array([[repetition(u) for u in unique]]), law="repetition", training=np.full(len(unique), 16.0 * UNIQUE)
    )
    assert repeated.offset_B[0] == pytest.approx(2.5, abs=5e-3)
    for curve_, truth in ((power, law), (repeated, repetition)):
        for target in (1.0, 1.3, 3.0):
            assert curve_.needed(truth(target * UNIQUE))[0] == pytest.approx(target * UNIQUE, rel=1e-3)
        assert curve_.residual_B[0] < 1e-4


def test_a_picture_s_band_holds_its_curve_and_narrows_with_seeds() -> None:
    at = np.geomspace(1, 8, 5) * UNIQUE
    widths = []
    for seeds in (3, 8):
        _, anchors = experiment(np.random.default_rng(10), seeds=seeds)
        low, high = curve_band(anchors, at)
        middle = tuned_curve(anchors).loss(at)[0]
        assert ((low < middle) & (middle < high)).all()
        widths.append(float((high - low).mean()))
    assert widths[1] < widths[0]


@pytest.mark.parametrize(
    ("unique", "loss", "chosen", "said"),
    [
        ([1e5, 2e5], [[5.0, 4.0]], {}, "at least 4"),
        ([1e5, 1e5, 2e5, 3e5], [[5.0, 4.0, 3.0, 2.0]], {}, "different"),
        ([1e5, 2e5, 3e5, 4e5], [[5.0, math.nan, 3.0, 2.0]], {}, "finite"),
        ([1e5, 2e5, 3e5], [[5.0, 4.0, 3.0]], {"law": "cubic"}, "not one of power"),
        ([1e5, 2e5, 3e5, 4e5], [[5.0, 4.0, 3.0, 2.0]], {"law": "repetition"}, "training tokens of every anchor"),
    ],
)
def test_what_cannot_be_fitted_is_refused(unique: list, loss: list, chosen: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fit_curve(np.array(unique), np.array(loss), **chosen)
