"""Jobs side by side: order, limits, and what an error or an interrupt does to the others. Events, not sleeps, say who waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from synpro.runner.jobs import Job, run_jobs

TIMEOUT = 20
"""Seconds after which a job that waits for another gives up and fails the test."""


class Recorder:
    """Makes jobs that note when they run, and how many ran at once."""

    def __init__(self) -> None:
        self.lock, self.running, self.most, self.log = threading.Lock(), 0, 0, list[str]()

    def __call__(self, name: str, during: Callable[[], object] = lambda: None) -> Callable[..., str]:
        def job(*before: str) -> str:
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)
                self.log.append(name)
            during()
            with self.lock:
                self.running -= 1
                self.log.append(f"{name} done")
            return "".join((*before, name.upper()))

        return job


def wait_for(event: threading.Event) -> None:
    assert event.wait(TIMEOUT), "the other job never began"


def never_called(interrupted: bool) -> None:
    raise AssertionError("nothing failed")


def test_one_at_a_time_keeps_the_order() -> None:
    job = Recorder()
    jobs = {"a": Job(job("a")), "b": Job(job("b")), "c": Job(job("c"), ("a",))}
    assert run_jobs(jobs, 1, never_called) == {"a": "A", "b": "B", "c": "AC"}, "a job is given what it waits for"
    assert job.log == ["a", "a done", "b", "b done", "c", "c done"] and job.most == 1


@pytest.mark.parametrize("max_parallel", [2, 5])
def test_a_job_waits_for_what_it_comes_after_and_for_nothing_else(max_parallel: int) -> None:
    job, d_began = Recorder(), threading.Event()
    jobs = {
        "a": Job(job("a", lambda: wait_for(d_began))),  # a is not done before d, which needs b alone, has begun
        "b": Job(job("b")),
        "c": Job(job("c"), ("a",)),
        "d": Job(job("d", d_began.set), ("b",)),
    }
    assert run_jobs(jobs, max_parallel, never_called) == {"a": "A", "b": "B", "c": "AC", "d": "BD"}
    for before, after in (("a", "c"), ("b", "d")):
        assert job.log.index(f"{before} done") < job.log.index(after)
    assert job.most == 2, "c and d each wait for one of two"


@pytest.mark.parametrize("max_parallel", [2, 3])
def test_as_many_run_as_may_and_no_more(max_parallel: int) -> None:
    job, meet = Recorder(), threading.Barrier(max_parallel)
    jobs = {str(i): Job(job(str(i), lambda: meet.wait(TIMEOUT))) for i in range(6)}
    assert list(run_jobs(jobs, max_parallel, never_called)) == list("012345")
    assert job.most == max_parallel


def test_the_first_error_is_raised_and_the_running_jobs_are_told() -> None:
    job, reported, began, stopped = Recorder(), list[bool](), threading.Event(), threading.Event()

    def long() -> None:
        began.set()
        wait_for(stopped)

    def fail() -> None:
        wait_for(began)
        raise LookupError("the disk is gone")

    def stop(interrupted: bool) -> None:
        reported.append(interrupted)
        stopped.set()

    jobs = {"long": Job(job("long", long)), "bad": Job(fail), "never": Job(job("never"))}
    with pytest.raises(LookupError, match="the disk is gone"):
        run_jobs(jobs, 2, stop)
    assert reported == [False] and job.log == ["long", "long done"], "what runs ends, nothing else starts"


def test_an_interrupt_is_told_as_one() -> None:
    reported = list[bool]()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs({"a": Job(interrupt), "b": Job(lambda: None)}, 2, reported.append)
    assert reported == [True]


def test_a_step_that_starts_after_the_interrupt_is_ended_too() -> None:
    """It had passed the last look at the flag, and had no process yet."""
    told, ended, began = list[bool](), threading.Event(), threading.Event()

    def late() -> None:
        began.set()
        wait_for(ended)

    def interrupt() -> None:
        wait_for(began)
        raise KeyboardInterrupt

    def stop(interrupted: bool) -> None:
        told.append(interrupted)
        if len(told) > 1:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        run_jobs({"late": Job(late), "interrupt": Job(interrupt)}, 2, stop)
    assert told == [True, True]


def test_an_order_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="job 'a' comes after 'b'"):
        run_jobs({"a": Job(lambda: None, ("b",)), "b": Job(lambda: None)}, 1, never_called)
