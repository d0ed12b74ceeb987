"""Jobs side by side: order, limits, and what an error or an interrupt does to the others."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from synpro.run.crew import Job, work_off


class Watched:
    """Jobs that note when they run."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.log = threading.Lock(), 0, 0, list[str]()

    def __call__(self, name: str, seconds: float = 0.05) -> Any:
        def do() -> str:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
                self.log.append(name)
            time.sleep(seconds)
            with self.lock:
                self.now -= 1
                self.log.append(f"{name} done")
            return name.upper()

        return do


def unasked(interrupted: bool) -> None:
    raise AssertionError("nothing failed")


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_jobs_wait_for_what_they_come_after_and_no_more_run_than_may(at_once: int) -> None:
    job = Watched()
    jobs = {"a": Job(job("a", 0.2)), "b": Job(job("b")), "c": Job(job("c"), ("a",)), "d": Job(job("d"), ("b",))}
    assert work_off(jobs, at_once, unasked) == {"a": "A", "b": "B", "c": "C", "d": "D"}
    for before, after in (("a", "c"), ("b", "d")):
        assert job.log.index(f"{before} done") < job.log.index(after)
    assert job.most == min(at_once, 2), "c and d each wait for one of two"
    if at_once > 1:
        assert job.log.index("d") < job.log.index("a done"), "nobody waits for a job it does not need"


def test_the_first_error_is_raised_and_the_others_are_told() -> None:
    job, told = Watched(), list[bool]()

    def fail() -> None:
        raise LookupError("the disk is gone")

    jobs = {"long": Job(job("long", 0.3)), "bad": Job(fail), "never": Job(job("never"))}
    with pytest.raises(LookupError, match="the disk is gone"):
        work_off(jobs, 2, told.append)
    assert told == [False] and job.log == ["long", "long done"], "what runs ends, nothing else starts"


def test_an_interrupt_is_told_as_one() -> None:
    told = list[bool]()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_off({"a": Job(interrupt), "b": Job(time.time)}, 2, told.append)
    assert told == [True]


def test_an_order_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="job 'a' comes after 'b'"):
        work_off({"a": Job(time.time, ("b",)), "b": Job(time.time)}, 1, unasked)
