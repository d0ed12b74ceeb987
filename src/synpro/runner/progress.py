"""Progress for people: a bar for the run and one for the step, with the time left; plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

MIN_SHARE = 0.02
"""Share of a step from which its pace says how long the rest takes."""


class ProgressListener(Protocol):
    """Who is told how steps go: the display, or nobody."""

    def begin(self, step: str, expected_seconds: float | None) -> None:
        """A step starts."""

    def event(self, step: str, event: Mapping[str, Any]) -> None:
        """A running step sends progress (`done`, `total`, `label`) or a line (`log`)."""

    def end(self, step: str, seconds: float, reused: bool) -> None:
        """A step is done; `reused` when it was found done."""


class NullProgress:
    """Shows nothing: for tests and scripts."""

    def begin(self, step: str, expected_seconds: float | None) -> None: ...
    def event(self, step: str, event: Mapping[str, Any]) -> None: ...
    def end(self, step: str, seconds: float, reused: bool) -> None: ...


class ProgressDisplay:
    """Shows the steps of a run. Use as a context manager."""

    def __init__(self, steps: Sequence[str], expected: Callable[[str], float | None], max_parallel: int = 1) -> None:
        self.steps, self.expected, self.max_parallel = list(steps), expected, max_parallel
        self.console = Console()
        self.live = self.console.is_terminal
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            disable=not self.live,
        )
        self.run_bar = self.progress.add_task("run", total=len(self.steps), left="")
        self.running: dict[str, _RunningStep] = {}
        self.done: set[str] = set()

    def __enter__(self) -> ProgressDisplay:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for step in list(self.running):
            self._remove(step)
        self.progress.stop()

    def begin(self, step: str, expected_seconds: float | None) -> None:
        """Add the step's bar."""
        bar = self.progress.add_task(step, total=None, left=_time_left(expected_seconds))
        self.running[step] = _RunningStep(bar, time.monotonic(), expected_seconds)
        self._update_run_bar()
        if not self.live:
            about = f", about {duration(expected_seconds)}" if expected_seconds else ""
            self._print(f"[{len(self.done) + len(self.running)}/{len(self.steps)}] {step}{about}")

    def event(self, step: str, event: Mapping[str, Any]) -> None:
        """Update the step's bar, or print its line."""
        # Lines of steps that run in parallel would mix; then each names its step.
        prefix = f"{step}: " if self.max_parallel > 1 else ""
        if "log" in event:
            self._print(f"    {prefix}{event['log']}")
            return
        done, total = float(event.get("done", 0)), float(event.get("total", 0))
        running = self.running.get(step)
        if total <= 0 or running is None:
            return
        now = time.monotonic()
        if "startup" in event:  # the pace is that since then: opening a model is no work
            running.began, running.found = now - float(event["ago"]), done
        work = done - running.found
        left = (now - running.began) * (total - done) / work if work > MIN_SHARE * total else None
        label = str(event.get("label", ""))
        description = f"{step} {label}".strip()
        self.progress.update(running.bar, completed=done, total=total, left=_time_left(left), description=description)
        running.left = left or 0.0
        self._update_run_bar()
        if not self.live and now - running.printed > 15:
            running.printed = now
            self._print(f"    {prefix}{label} {done:.0f}/{total:.0f}" + (f", {_time_left(left)}" if left is not None else ""))

    def end(self, step: str, seconds: float, reused: bool) -> None:
        """Remove the step's bar and say how long it took."""
        self.done.add(step)
        self.progress.update(self.run_bar, completed=len(self.done))
        self._remove(step)
        what = "found done" if reused else f"done in {duration(seconds)}"
        self._print(f"[{len(self.done)}/{len(self.steps)}] {step}: {what}")

    def _remove(self, step: str) -> None:
        if (running := self.running.pop(step, None)) is not None:
            self.progress.remove_task(running.bar)

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _update_run_bar(self) -> None:
        running = dict(self.running)
        rest = [self.expected(s) for s in self.steps if s not in self.done and s not in running]
        known = [s for s in rest if s is not None]
        if known or not rest:
            now_running = sum(step.left or 0.0 for step in running.values())
            total = now_running + sum(known) + (len(rest) - len(known)) * (sum(known) / len(known) if known else 0)
            self.progress.update(self.run_bar, left=_time_left(total / self.max_parallel))


@dataclass
class _RunningStep:
    bar: TaskID
    began: float
    left: float | None
    """Seconds."""
    found: float = 0.0
    """What was done when its model was open: by an earlier attempt, or with another model."""
    printed: float = field(default_factory=time.monotonic)
    """When its last line was printed, where there is no terminal."""


def duration(seconds: float) -> str:
    """Seconds for people: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _time_left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"
