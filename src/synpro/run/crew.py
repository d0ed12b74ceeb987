"""Jobs that do not wait for each other, several at a time: for a machine that one step does not fill.

Each job runs in a thread of this process, which mostly waits: steps have processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """Work of a few steps, one after the other."""

    do: Callable[[], Any]
    after: tuple[str, ...] = ()
    """Jobs that have to be done before; they stand earlier in the mapping."""


def work_off(jobs: Mapping[str, Job], at_once: int, stop: Callable[[bool], None]) -> dict[str, Any]:
    """Do all jobs, at most `at_once` at a time, and give what they return, by name.

    They start in their order, each when those it comes after are done. When one raises, or this process is interrupted,
    `stop(interrupted)` has to make those that run end soon; the first error is raised when they have. Raises ValueError for a
    job that comes after one that is not there before it.
    """
    known: set[str] = set()
    for name, job in jobs.items():
        if missing := [a for a in job.after if a not in known]:
            raise ValueError(f"job {name!r} comes after {missing[0]!r}, which does not stand before it")
        known.add(name)
    if at_once == 1:  # in this thread: an interrupt ends the step that runs
        return {name: job.do() for name, job in jobs.items()}
    waiting, results = dict(jobs), dict[str, Any]()
    running: dict[Future[Any], str] = {}
    with ThreadPoolExecutor(at_once, thread_name_prefix="job") as pool:
        try:
            while waiting or running:
                ready = [n for n, j in waiting.items() if all(a in results for a in j.after)]
                for name in ready[: at_once - len(running)]:
                    running[pool.submit(waiting.pop(name).do)] = name
                over, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in over:
                    results[running[future]] = future.result()
                    del running[future]
        except BaseException as error:
            stop(not isinstance(error, Exception))
            raise
    return {name: results[name] for name in jobs}
