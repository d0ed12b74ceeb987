"""Numbers of a sample of answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synpro.grpo.stats import RewardScale, StepStats, mean_std, summarize
from synpro.records import Passage, Rewrite
from synpro.rewards.base import FAILED

GOOD = Rewrite(Passage("a#0000", "a", 0, 0, 8, "A source"), "rephrase", "Rephrased: well", "well", None, 4, "stop")
CUT = replace(GOOD, text=None, reason="no heading", tokens=8, finish="length")


def test_what_passes_and_what_is_measured_are_told_apart() -> None:
    rejected = {"influence": FAILED, "format": FAILED}
    scores = [{"influence": 0.02, "format": 1.0}, {"influence": FAILED, "format": 1.0}, {"influence": None, "format": 1.0}]
    found = summarize([GOOD] * 3 + [CUT], [*scores, rejected], {"influence": 3.0, "format": 1.0})
    assert found["reward/influence"] == 0.02, "no penalty in the mean"
    assert (found["pass/influence"], found["pass/format"]) == (pytest.approx(2 / 3), 1.0)
    assert (found["passed"], found["parsed"], found["truncated"], found["completion_tokens"]) == (0.75, 0.75, 0.25, 5.0)
    assert summarize([CUT], [rejected], {"influence": 3.0, "format": 1.0})["reward/influence"] is None
    assert mean_std([None, FAILED]) == (None, None)


def test_the_total_reward_is_in_deviations_of_the_sample_before_training() -> None:
    before = [{"quality": 0.0, "format": 1.0}, {"quality": 0.2, "format": 1.0}]
    scale = RewardScale.of(before, {"quality": 4.0, "format": 3.0})
    assert scale.total(before) == 0
    # Quality rises by two deviations of 0.1 and has weight 4 of 5; format was the same for all, so it counts in its own unit.
    assert scale.total([{"quality": 0.3, "format": 0.5}]) == pytest.approx((4 * 2 - 3 * 0.5) / 5)
    # What fails is a step below the worst at the start: more failures are a fall, whatever the valid answers are.
    rejected = {"quality": FAILED, "format": FAILED}
    assert scale.total([rejected]) == pytest.approx(-4 / 5 - 0.5)
    assert scale.total([{"quality": FAILED, "format": 1.0}]) == pytest.approx(4 / 5 * (-1 - 0.5))


def test_the_step_of_several_processes_takes_as_long_as_the_slowest() -> None:
    parts = [StepStats([GOOD], [{"format": 1.0}], 1.0, 4.0), StepStats([CUT], [{"format": 0.0}], 3.0, 2.0)]
    joined = StepStats.join(parts)
    assert (joined.rewrites, joined.generate_seconds, joined.reward_seconds) == ([GOOD, CUT], 3.0, 4.0)
    assert joined.scores == [{"format": 1.0}, {"format": 0.0}]
