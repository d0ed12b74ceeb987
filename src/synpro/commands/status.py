"""`synpro status`: where a run or comparison is, step by step, and how long it has left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synpro.commands.configs import is_comparison, steps_of
from synpro.commands.run_dir import open_run
from synpro.compare.config import CompareConfig
from synpro.config import load_stored
from synpro.runner.artifacts import finished, read_json, read_lines
from synpro.runner.progress import duration
from synpro.runner.step import ExpectedSeconds, is_locked


@dataclass(frozen=True)
class StepStatus:
    """One step of a run."""

    name: str
    state: Literal["done", "failed", "begun", "to come"]
    seconds: float | None
    """How long it took, if it is done; else how long a step of this kind took before, or None."""
    peak_rss_bytes: int
    """Largest resident memory of one of its processes; 0 if it is not done."""


def status(root: Path) -> list[StepStatus]:
    """The steps of a run or comparison, in order. A comparison's search may end before the last trial that is listed."""
    config = root / "config.toml"
    cfg = load_stored(CompareConfig, config) if is_comparison(config) else open_run(root)
    expected = ExpectedSeconds(root, cfg)
    return [_step_status(root / name, name, expected(name)) for name in steps_of(cfg)]


def _step_status(folder: Path, name: str, expected: float | None) -> StepStatus:
    timing = read_json(folder / "timing.json") if (folder / "timing.json").exists() else {}
    if finished(folder):
        return StepStatus(name, "done", timing.get("seconds", 0.0), timing.get("peak_rss_bytes", 0))
    state: Literal["failed", "begun", "to come"] = "begun" if timing else "to come"
    return StepStatus(name, "failed" if (folder / "error.json").exists() else state, expected, 0)


def format_status(root: Path, steps: Sequence[StepStatus]) -> list[str]:
    """A line per step, then the time left or the place of the report."""
    lines, left, unknown = [], 0.0, 0
    for step in steps:
        if step.state == "done":
            lines.append(f"done     {step.name:32s} {duration(step.seconds or 0):>14s}  {step.peak_rss_bytes / 2**30:4.1f} GiB")
            continue
        left, unknown = left + (step.seconds or 0), unknown + (step.seconds is None)
        lines.append(f"{step.state:8s} {step.name:32s} {('about ' + duration(step.seconds)) if step.seconds else '?':>14s}")
    if all(step.state == "done" for step in steps):
        page = "compare.html" if is_comparison(root / "config.toml") else "report.html"
        return [*lines, f"finished; report: {root / page}"]
    more = f", and {unknown} steps of a kind that was not run yet" if unknown else ""
    return [*lines, f"left: about {duration(left)}{more}"]


def watch(root: Path, seconds: float = 2.0) -> None:
    """Show the steps on the terminal, renewed every few seconds, until all are done, a step has failed, or the process that ran
    them has ended (not between the jobs of `synpro submit`). Without a terminal, they are printed again when they have changed.
    Raises as `status`."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console, shown, was_running = Console(), "", False
    with Live(console=console, auto_refresh=False) as live:
        while True:
            running = is_locked(root)  # before the steps are read: the last of them may be done in between
            steps = status(root)
            text = "\n".join([*format_status(root, steps), *_last_metrics(root, steps)])
            if console.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != shown:
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            if all(step.state == "done" for step in steps):
                return
            is_over = was_running and not (root / "slurm").is_dir()  # else the next job of a chain may wait in the queue
            if not running and (is_over or any(step.state == "failed" for step in steps)):
                console.print("no process is running it any more; the command that began it resumes it", soft_wrap=True)
                return
            if not running and not shown:
                console.print("no process is running it; this waits for one (Ctrl-C ends it)", soft_wrap=True)
            shown, was_running = text, running
            time.sleep(seconds)


def _last_metrics(root: Path, steps: Sequence[StepStatus]) -> list[str]:
    """The newest row of metrics of each step that was begun."""
    lines = []
    for step in steps:
        file = root / step.name / "metrics.jsonl"
        if step.state == "begun" and file.exists() and (rows := deque(read_lines(file, whole=False), maxlen=1)):
            values = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[0].items() if v is not None)
            lines.append(f"{step.name}: {', '.join(values)}")
    return lines
