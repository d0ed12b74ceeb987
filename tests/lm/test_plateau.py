"""Plateau detection on curves whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synpro.lm.plateau import PlateauConfig, detect_plateau
from synpro.schema import build

CFG = PlateauConfig(improvement=0.02, patience=2, min_points=5)


def curve(loss, count: int = 60, noise: float = 0.0, seed: int = 0) -> list[tuple[int, float]]:
    rng = np.random.default_rng(seed)
    return [(1000 * k, float(loss(1000 * k) + noise * rng.normal())) for k in range(1, count + 1)]


def first_plateau(points: list[tuple[int, float]], cfg: PlateauConfig = CFG, min_tokens: int = 0) -> tuple[int, str] | None:
    """Tokens and reason at which training would have stopped."""
    for end in range(1, len(points) + 1):
        decision = detect_plateau(points[:end], cfg, min_tokens=min_tokens)
        if decision.plateau:
            return points[end - 1][0], decision.reason
    return None


def test_a_power_law_goes_on_while_it_pays_and_ends_when_it_does_not() -> None:
    # L = 3 + 0.4 x^-0.5, x in thousands of tokens, falls by 0.02 nats per doubling where 0.2 ln 2 x^-0.5 = 0.02: at x = 48.
    # The window looks back one doubling, so the end comes between 48 and 96, soon after the window's middle has passed it.
    found = first_plateau(curve(lambda t: 3 + 0.4 * (t / 1000) ** -0.5, 200, noise=0.0005))
    assert found is not None
    assert 48_000 < found[0] < 96_000
    assert first_plateau(curve(lambda t: 3 + 4 * (t / 1000) ** -0.5, 200, noise=0.005)) is None


def test_a_steady_fall_per_doubling_never_ends() -> None:
    for seed in range(10):
        assert first_plateau(curve(lambda t: 6 - 0.1 * math.log2(t), 200, noise=0.01, seed=seed)) is None


def test_a_flat_noisy_curve_ends_and_says_so() -> None:
    found = first_plateau(curve(lambda t: 3.0, 60, noise=0.005))
    assert found is not None and "surely less than 0.02" in found[1]


def test_noise_that_hides_the_slope_is_not_called_flat() -> None:
    cfg = PlateauConfig(improvement=0.02, rise=10)
    decision = detect_plateau(curve(lambda t: 3.0 - 0.02 * math.log2(t), 12, noise=0.3, seed=1), cfg)
    assert not decision.plateau
    assert "noisy" in decision.reason or "still falling" in decision.reason


def test_a_loss_that_turns_ends_training_near_its_best() -> None:
    # Falls to 3.0 at 30,000 tokens, then rises.
    found = first_plateau(curve(lambda t: 3 + abs(math.log(t / 30_000)), 60))
    assert found is not None
    assert 31_000 <= found[0] <= 34_000
    assert "turned" in found[1] and "30,000" in found[1]


def test_a_slow_rise_is_a_plateau_too() -> None:
    decision = detect_plateau(curve(lambda t: 3 + 0.01 * math.log2(t), 40), PlateauConfig(rise=1.0))
    assert decision.plateau and "rising" in decision.reason
    assert decision.slope == pytest.approx(0.01)


def test_nothing_is_decided_before_min_tokens_or_with_too_few_points() -> None:
    flat = curve(lambda t: 3.0, 60)
    found = first_plateau(flat, min_tokens=40_000)
    assert found is not None and found[0] == 40_000
    early = detect_plateau(flat[:3], CFG)
    assert not early.plateau and "2 measurements in the last doubling" in early.reason
    assert not detect_plateau([], CFG).plateau
    assert not detect_plateau([(0, 9.0)], CFG).plateau


def test_patience_asks_for_agreement_in_a_row() -> None:
    flat = curve(lambda t: 3.0, 60)
    ends = [first_plateau(flat, PlateauConfig(patience=n)) for n in (1, 2, 4)]
    tokens = [end[0] for end in ends if end is not None]
    assert tokens == [8_000, 9_000, 11_000]
    waiting = detect_plateau(flat[:8], PlateauConfig(patience=2))
    assert "seen 1 of 2 times" in waiting.reason


def test_the_point_before_training_counts_only_as_a_best() -> None:
    points = [(0, 2.0), *curve(lambda t: 3.0, 3)]
    decision = detect_plateau(points, CFG)
    assert decision.plateau and "turned" in decision.reason


def test_a_diverged_or_disordered_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="diverged"):
        detect_plateau([(1, 3.0), (2, math.nan)], CFG)
    with pytest.raises(ValueError, match="must rise"):
        detect_plateau([(2, 3.0), (2, 3.0)], CFG)


@pytest.mark.parametrize(
    "bad", [{"improvement": 0}, {"confidence": 1.0}, {"confidence": 0.1}, {"patience": 0}, {"min_points": 2}, {"rise": 0}]
)
def test_bad_settings_name_the_field(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bad))}:"):
        build(PlateauConfig, bad)
