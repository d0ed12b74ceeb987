"""Rewards that wait for a server are scored side by side; values and errors are as if they were scored in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from synpro.records import Rewrite
from synpro.rewards.base import Reward
from synpro.rewards.rubric import Rubric
from tests.rewards.reference import SOURCES, passage

REWRITES = [Rewrite(passage(name), "rephrase", text, text, None, 3, "stop") for name, text in SOURCES.items()]


class Waiting(Reward):
    """A reward that ends when all who wait at the barrier have begun."""

    is_remote = True

    def __init__(self, name: str, barrier: threading.Barrier | None, fails: bool = False) -> None:
        self.name, self.barrier, self.fails = name, barrier, fails
        self.thread: int | None = None

    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        self.thread = threading.get_ident()
        if self.barrier is not None:
            self.barrier.wait(10)
        if self.fails:
            raise RuntimeError(f"{self.name} is down")
        return [float(len(r.answer)) for r in rewrites]


class Here(Waiting):
    is_remote = False


def test_they_wait_side_by_side_and_the_others_are_scored_meanwhile() -> None:
    barrier = threading.Barrier(3)
    rewards = [Waiting("a", barrier), Here("b", barrier), Waiting("c", barrier), Here("d", None)]
    scores = Rubric(rewards, dict.fromkeys("abcd", 1.0)).score(REWRITES)
    assert [list(row) for row in scores] == [list("abcd")] * len(REWRITES)
    assert scores == [dict.fromkeys("abcd", float(len(r.answer))) for r in REWRITES]
    assert rewards[1].thread == rewards[3].thread == threading.get_ident() != rewards[0].thread


@pytest.mark.parametrize("kind", [Waiting, Here])
def test_a_failure_is_raised_once_all_have_ended(kind: type[Waiting]) -> None:
    rewards = [Waiting("slow", None), kind("down", None, fails=True)]
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="down is down"):
        Rubric(rewards, {"slow": 1.0, "down": 1.0}).score(REWRITES)
    time.sleep(0.01)
    assert threading.active_count() == before
