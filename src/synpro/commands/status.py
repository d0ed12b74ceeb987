"""`synpro status`: where a run or comparison is, step by step, and how long it has left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synpro.commands.configs import is_comparison, load_any_config, steps_of
from synpro.commands.run_dir import open_run
from synpro.runner.artifacts import finished, read_json
from synpro.runner.progress import duration
from synpro.runner.step import ExpectedSeconds


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
    cfg = load_any_config(config) if is_comparison(config) else open_run(root)
    expected = ExpectedSeconds(root)
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
