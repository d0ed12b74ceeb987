"""Numbers of a sample of answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synpro.grpo.stats import RewardScale, StepStats, mean_std, summarize
from synpro.records import Passage, Rewrite

GOOD = Rewrite(Passage("a#0000", "a", 0, 0, 8, "A source"), "rephrase", "Rephrased: well", "well", None, 4, "stop")
CUT = replace(GOOD, text=None, reason="no heading", tokens=8, finish="length")


def test_a_summary_counts_only_what_is_known() -> None:
    found = summarize([GOOD, CUT], [{"format": 1.0, "quality": None}, {"format": 0.0, "quality": 0.5}], ["format", "quality"])
    assert found == {
        "reward/format": 0.5, "reward/quality": 0.5, "parsed": 0.5, "truncated": 0.5, "completion_tokens": 6.0
    }  # fmt: skip
    assert mean_std([None, None]) == (0.0, 0.0)


def test_the_total_reward_is_in_deviations_of_the_sample_before_training() -> None:
    before = [{"quality": 0.0, "format": 1.0}, {"quality": 0.2, "format": 1.0}]
    scale = RewardScale.of(before, {"quality": 2.0, "format": 1.0})
    assert scale.total(before) == 0
    # Quality rises by two deviations of 0.1 and has weight 2; format was the same for all, so it counts in its own unit.
    assert scale.total([{"quality": 0.3, "format": 0.5}]) == pytest.approx(2 * 2 - 0.5)


def test_the_step_of_several_processes_takes_as_long_as_the_slowest() -> None:
    parts = [StepStats([GOOD], [{"format": 1.0}], 1.0, 4.0), StepStats([CUT], [{"format": 0.0}], 3.0, 2.0)]
    joined = StepStats.join(parts)
    assert (joined.rewrites, joined.generate_seconds, joined.reward_seconds) == ([GOOD, CUT], 3.0, 4.0)
    assert joined.scores == [{"format": 1.0}, {"format": 0.0}]
