"""Training that would learn nothing is stopped before it starts, with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synpro.grpo.preflight import PreflightError, preflight, zero_std_share
from synpro.records import Passage, Rewrite
from synpro.rewards.base import FAILED

PASSAGE = Passage("a#0000", "a", 0, 0, 8, "A source")
GOOD = Rewrite(PASSAGE, "rephrase", "Rephrased: well", "well", None, 4, "stop")
BAD = replace(GOOD, answer="I cannot", text=None, reason="the heading 'Rephrased:' is missing")
CUT = replace(GOOD, finish="length")
WEIGHTS = {"format": 1.0, "quality": 1.0, "unused": 0.0}


def test_nothing_parses() -> None:
    with pytest.raises(PreflightError, match=r"(?s)none of 4 answers.*worked example.*I cannot"):
        preflight([[BAD, BAD], [BAD, BAD]], [[{"format": 0.0}] * 2] * 2, WEIGHTS, 64)


def test_everything_is_truncated() -> None:
    with pytest.raises(PreflightError, match=r"(?s)all 2 answers were truncated at 64 tokens.*max_new_tokens"):
        preflight([[CUT, CUT]], [[{"format": 1.0}, {"format": 0.0}]], WEIGHTS, 64)


def test_all_rewards_are_equal() -> None:
    equal = [{"format": 1.0, "quality": 0.5}] * 2
    with pytest.raises(PreflightError, match=r"(?s)same reward in all 8 groups.*temperature"):
        preflight([[GOOD, GOOD]] * 8, [equal] * 8, WEIGHTS, 64)
    (warning,) = preflight([[GOOD, GOOD]] * 2, [equal] * 2, WEIGHTS, 64)
    assert "same reward in all 2 groups" in warning, "two groups may be equal by accident: they stop no run"


def test_many_truncated_answers_are_a_warning() -> None:
    scores = [[{"format": 1.0}, {"format": 0.0}, {"format": 1.0}]]
    assert "33% of the answers were truncated" in preflight([[GOOD, BAD, CUT]], scores, WEIGHTS, 64)[0]
    assert preflight([[GOOD, BAD, GOOD]], scores, WEIGHTS, 64) == []


def test_spread_counts_only_rewards_with_a_weight() -> None:
    flat = [{"format": 1.0, "quality": None, "unused": 0.0}, {"format": 1.0, "quality": None, "unused": 1.0}]
    varied = [{"format": 1.0, "quality": 0.3}, {"format": 1.0, "quality": 0.1}]
    failing = [{"format": 1.0, "quality": 0.3}, {"format": FAILED, "quality": FAILED}]
    assert zero_std_share([varied, failing], WEIGHTS) == 0.0
    assert zero_std_share([flat, varied], WEIGHTS) == 0.5
    assert zero_std_share([], WEIGHTS) == 1.0
