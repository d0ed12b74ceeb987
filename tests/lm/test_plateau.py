"""Plateau detection on curves whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synpro.lm.plateau import PlateauConfig, detect_plateau, earliest_plateau
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
    # The window looks back one doubling, so the end comes after the window's middle has passed it.
    found = first_plateau(curve(lambda t: 3 + 0.4 * (t / 1000) ** -0.5, 200, noise=0.0005))
    assert found is not None
    assert 48_000 < found[0] < 128_000
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
    assert decision.plateau and "the loss rose by 0.0100 " in decision.reason and "rising" in decision.reason
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
    assert tokens == [10_000, 11_000, 13_000]
    waiting = detect_plateau(flat[:10], PlateauConfig(patience=2))
    assert "seen 1 of 2 times" in waiting.reason


def test_the_point_before_training_counts_only_as_a_best() -> None:
    points = [(0, 2.0), *curve(lambda t: 3.0, 4)]
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


def stops(cfg: PlateauConfig, fall: float, noise: float, runs: int = 200, count: int = 60) -> list[int]:
    """Measurements after which simulated trainings, which lose `fall` nats per doubling, are stopped."""
    found = []
    for seed in range(runs):
        end = first_plateau([(0, 9.0), *curve(lambda t: 6 - fall * math.log2(t), count, noise=noise, seed=seed)], cfg)
        found += [end[0] // 1000] if end else []
    return found


@pytest.mark.parametrize("cfg", [PlateauConfig(), PlateauConfig(patience=1, min_points=3)], ids=["default", "compare"])
def test_a_falling_loss_is_seldom_stopped_and_a_flat_one_is(cfg: PlateauConfig) -> None:
    assert len(stops(cfg, 0.05, 0.02, runs=200, count=40)) <= 2, "1 in 100 at the most"
    assert len(stops(cfg, 0.05, 0.003, runs=20, count=40)) == 0
    assert len(stops(cfg, 0.02, 0.01, runs=30, count=40)) <= 5, "seldom even where the loss falls exactly by the threshold"
    flat = stops(cfg, 0.0, 0.01, runs=30)
    assert len(flat) >= 28 and sorted(flat)[len(flat) // 2] <= 32
    rising = stops(cfg, -0.05, 0.01, runs=30)
    assert len(rising) == 30 and sorted(rising)[15] <= 20


def test_a_later_round_is_judged_in_tokens_of_the_run() -> None:
    # Ten billion tokens, then a round that is measured every half billion and falls by 0.1 nats per doubling of all tokens: of
    # the round's own tokens, each doubling brings next to nothing.
    points = [(n, 3.0 - 0.1 * math.log2(n / 10**10)) for n in range(10**10, 2 * 10**10, 5 * 10**8)]
    assert all(not detect_plateau(points[:end], CFG).plateau for end in range(1, len(points) + 1))
    flat = [(tokens, 3.0) for tokens, _ in points]
    assert detect_plateau(flat, CFG).plateau and not detect_plateau(flat, CFG, min_tokens=10**12).plateau


def test_the_earliest_plateau_is_when_a_flat_loss_ends() -> None:
    assert earliest_plateau(CFG, seen=0, interval=1000, budget=60_000) == 1000 * min(
        k for k in range(1, 60) if detect_plateau([(1000 * n, 0.0) for n in range(k + 1)], CFG).plateau
    )
    assert earliest_plateau(CFG, seen=0, interval=1000, budget=4_000) == 4_000
    assert earliest_plateau(CFG, seen=50_000, interval=1000, budget=60_000, min_tokens=40_000) >= 40_000
