"""`synpro run`: start a run or resume it, then write its report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from synpro.commands.execution import execute_steps, locked_run_dir, step_after
from synpro.config import RunConfig
from synpro.outline import outline


@dataclass(frozen=True)
class RunResult:
    """What a call of `run` did."""

    dir: Path
    """The run directory."""
    seconds: float
    """How long this call took; steps that were found done took nothing."""
    next_step: str | None = None
    """Where the run resumes, when it was told to end before."""
    report: Path | None = None
    """`report.html`, when every step is done."""
    summary: tuple[str, ...] = ()
    """The report's headline numbers, as lines of text."""


def run(cfg: RunConfig, runs: Path | str = "runs", until: str | None = None) -> RunResult:
    """Run every step of a run that is not done yet, in `runs`/NAME, then write its report.

    `until`: the step to end after, without a report unless it is the last. Raises ConfigError when there is no such step, the
    directory belongs to another config, or this machine lacks something, and StepError when a step stops.
    """
    before = None if until is None else step_after(until, outline(cfg))
    began = time.monotonic()
    with locked_run_dir(cfg, Path(runs)) as root:
        execute_steps(cfg, root, before=before)
        if before is not None:
            return RunResult(root, time.monotonic() - began, next_step=before)
        from synpro.commands.report import write_report
        from synpro.report.page import summary

        report = write_report(root)
        return RunResult(root, time.monotonic() - began, report=report, summary=tuple(summary(root)))
