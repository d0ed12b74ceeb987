"""What answers are worth among each other: valid ones by value, failures a fixed step below, whatever a penalty would be."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from synpro.records import Rewrite
from synpro.rewards.advantages import FAILING, STEP, contributions, normalized_totals, readable, variance_shares
from synpro.rewards.base import FAILED, Reward
from synpro.rewards.rubric import Rubric
from tests.rewards.reference import passage

WEIGHTS = {"influence": 3.0, "quality": 1.0, "format": 1.0}


def answers(rng: random.Random, passing: float, size: int = 8) -> list[dict[str, float | None]]:
    """A group as measured: influence differs by .03, quality by .3; some fail the gate of influence."""
    return [
        {"influence": rng.gauss(0, 0.03) if rng.random() < passing else FAILED, "quality": rng.gauss(0, 0.3), "format": 1.0}
        for _ in range(size)
    ]


def test_influence_has_among_valid_answers_the_share_that_its_weight_says() -> None:
    rng = random.Random(0)
    groups = [answers(rng, 0.5) for _ in range(400)]
    valid = [[s for s in group if s["influence"] != FAILED] for group in groups]
    # Totals of a whole group, told for its valid answers: the gate must not take their spread.
    spread, of_influence = 0.0, 0.0
    for group, some in zip(groups, valid, strict=True):
        rows = [row for row, s in zip(contributions(group, WEIGHTS), group, strict=True) if s in some]
        totals = [sum(row.values()) for row in rows]
        for part, total in zip((row["influence"] for row in rows), totals, strict=True):
            spread += (total - sum(totals) / len(totals)) ** 2
            of_influence += part * (total - sum(totals) / len(totals))
    assert of_influence / spread == pytest.approx(9 / 10, abs=0.06)
    shares = variance_shares(groups, WEIGHTS)
    assert sum(shares.values()) == pytest.approx(1) and shares["format"] == 0
    assert 0.25 < shares["influence"] < 0.95 and shares[FAILING] > 0


def test_a_failure_is_one_step_below_the_worst_valid_answer_however_far_values_lie_apart() -> None:
    group: list[dict[str, float | None]] = [{"influence": v} for v in (0.01, 0.02, 0.03, FAILED)]
    worst, *_, best, failed = normalized_totals(group, {"influence": 3.0})
    assert (worst, best) == pytest.approx((-1, 1)) and failed == pytest.approx(worst - STEP)
    stretched: list[dict[str, float | None]] = [{"influence": 100 * v} for v in (0.01, 0.02, 0.03, FAILED)]
    assert normalized_totals(stretched, {"influence": 3.0}) == pytest.approx([worst, 0, best, failed])


@pytest.mark.parametrize("valid", [[], [0.4], [0.4, 0.4]])
def test_without_a_spread_valid_answers_get_0_and_failures_the_step(valid: list[float]) -> None:
    group: list[dict[str, float | None]] = [{"influence": v, "format": 1.0} for v in [*valid, FAILED, None]]
    rows = [row["influence"] for row in contributions(group, {"influence": 3.0, "format": 4.0})]
    assert rows == pytest.approx([0.0] * len(valid) + [-STEP * 3 / 5, 0.0])


def test_what_a_rule_rejects_is_below_every_other_answer_and_counts_once() -> None:
    valid: list[dict[str, float | None]] = [{"influence": i / 100, "quality": -float(i), "format": 1.0} for i in range(4)]
    gated: dict[str, float | None] = {"influence": FAILED, "quality": -3.0, "format": 1.0}
    rejected: dict[str, float | None] = dict.fromkeys(WEIGHTS, FAILED)
    *others, last = normalized_totals([*valid, gated, rejected], WEIGHTS)
    assert last == pytest.approx(min(others) - STEP)
    assert contributions([*valid, rejected], WEIGHTS)[-1]["influence"] == 0.0
    assert readable(gated) == {"influence": "failed", "quality": -3.0, "format": 1.0}


class Noted(Reward):
    """Notes what it is asked; a value at its worst has failed."""

    name, worst = "noted", -1.0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        self.asked += [r.answer for r in rewrites]
        if any(r.text == "odd" for r in rewrites):
            raise ValueError("cannot be read")
        return [-1.0 if r.text == "bad" else 0.5 for r in rewrites]


def test_no_reward_is_asked_about_what_a_rule_rejects_and_a_worst_of_its_own_is_a_failure() -> None:
    reward = Noted()
    texts = ("good", "bad", None)
    rewrites = [Rewrite(passage("honey"), "rephrase", str(t), t, None, 3, "stop") for t in texts]
    assert Rubric([reward], {"noted": 1.0}).score(rewrites) == [{"noted": 0.5}, {"noted": FAILED}, {"noted": FAILED}]
    assert reward.asked == ["good", "bad"]


def test_an_answer_that_a_judge_cannot_read_is_worse_than_those_it_can() -> None:
    rubric = Rubric([Noted()], {"noted": 1.0})
    rubric.failures.max_share = 1.0
    rewrites = [Rewrite(passage("honey"), "rephrase", t, t, None, 3, "stop") for t in ("good", "odd", "fine")]
    good, odd, fine = normalized_totals(rubric.score(rewrites), rubric.weights)
    assert odd < min(good, fine) and rubric.failures.reasons.total() == 1
