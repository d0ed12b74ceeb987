"""Jobs that do not depend on each other, several at a time: for a machine that one step does not fill.

Each job runs in a thread of this process, which mostly waits: steps have processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """A few steps, one after the other."""

    run: Callable[..., Any]
    """Called with what the jobs in `after` returned, in their order."""
    after: tuple[str, ...] = ()
    """Jobs that must be done before this one; they come earlier in the mapping."""
    wait: tuple[str, ...] = ()
    """Further jobs that must be done before, whose results it does not need."""


def run_jobs(jobs: Mapping[str, Job], max_parallel: int, stop: Callable[[bool], None]) -> dict[str, Any]:
    """Run all jobs, at most `max_parallel` at a time; what they return, by name.

    They start in their order, each when the jobs in its `after` are done. When one raises, or this process is interrupted,
    `stop(interrupted)` must make the running ones end soon; the first error is raised when they have. Raises ValueError for a
    job whose `after` names one that does not come before it.
    """
    results: dict[str, Any] = {}
    known: set[str] = set()
    for name, job in jobs.items():
        if missing := [a for a in (*job.after, *job.wait) if a not in known]:
            raise ValueError(f"job {name!r} comes after {missing[0]!r}, which is not listed before it")
        known.add(name)
    if max_parallel == 1:  # in this thread: an interrupt ends the step that runs
        for name, job in jobs.items():
            results[name] = job.run(*(results[a] for a in job.after))
        return results
    waiting = dict(jobs)
    running: dict[Future[Any], str] = {}
    with ThreadPoolExecutor(max_parallel, thread_name_prefix="job") as pool:
        try:
            while waiting or running:
                ready = [n for n, j in waiting.items() if all(a in results for a in (*j.after, *j.wait))]
                for name in ready[: max_parallel - len(running)]:
                    job = waiting.pop(name)
                    running[pool.submit(job.run, *(results[a] for a in job.after))] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    results[running[future]] = future.result()
                    del running[future]
        except BaseException as error:
            stop(interrupted := not isinstance(error, Exception))
            while interrupted and wait(running, timeout=0.2).not_done:
                stop(interrupted)  # a step that was about to start has started since
            raise
    return {name: results[name] for name in jobs}
