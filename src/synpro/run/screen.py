"""Progress for people: a bar for the run and one for the step, with the time left; plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Screen:
    """Watches the steps of a run and shows them. Use as a context manager."""

    def __init__(self, steps: Sequence[str], expected: Callable[[str], float | None]) -> None:
        self.steps, self.expected = list(steps), expected
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
        self.step_bar: Any = None
        self.began = 0.0
        self.spoke = 0.0
        self.done: set[str] = set()

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.step_bar is not None:
            self.progress.remove_task(self.step_bar)
            self.step_bar = None
        self.progress.stop()

    def begin(self, step: str, expected_seconds: float | None) -> None:
        self.began = self.spoke = time.monotonic()
        self.step_bar = self.progress.add_task(step, total=None, left=_left(expected_seconds))
        self._run_left(step, 0.0)
        if not self.live:
            about = f", about {duration(expected_seconds)}" if expected_seconds else ""
            self.console.print(
                f"[{len(self.done) + 1}/{len(self.steps)}] {step}{about}", markup=False, highlight=False, soft_wrap=True
            )

    def event(self, step: str, event: Mapping[str, Any]) -> None:
        """A progress event (`done`, `total`, `label`) or a line (`say`) of the running step."""
        if "say" in event:
            self._print(f"    {event['say']}")
            return
        done, total = float(event.get("done", 0)), float(event.get("total", 0))
        if total <= 0 or self.step_bar is None:
            return
        now = time.monotonic()
        spent = now - self.began
        left = spent * (total - done) / done if done > 0 else None
        label = str(event.get("label", ""))
        self.progress.update(
            self.step_bar, completed=done, total=total, left=_left(left), description=f"{step} {label}".strip()
        )
        self._run_left(step, left or 0.0)
        if not self.live and now - self.spoke > 15:
            self.spoke = now
            self.console.print(
                f"    {label} {done:.0f}/{total:.0f}, {_left(left)}", markup=False, highlight=False, soft_wrap=True
            )

    def end(self, step: str, seconds: float, reused: bool) -> None:
        self.done.add(step)
        self.progress.update(self.run_bar, completed=len(self.done))
        if self.step_bar is not None:
            self.progress.remove_task(self.step_bar)
            self.step_bar = None
        what = "found done" if reused else f"done in {duration(seconds)}"
        self.progress.console.print(
            f"[{len(self.done)}/{len(self.steps)}] {step}: {what}", markup=False, highlight=False, soft_wrap=True
        )

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _run_left(self, step: str, left_here: float) -> None:
        rest = [self.expected(s) for s in self.steps if s not in self.done and s != step]
        known = [s for s in rest if s is not None]
        if known or not rest:
            total = left_here + sum(known) + (len(rest) - len(known)) * (sum(known) / len(known) if known else 0)
            self.progress.update(self.run_bar, left=_left(total))


class Silent:
    """Watches and shows nothing: for tests and scripts."""

    def begin(self, step: str, expected_seconds: float | None) -> None: ...
    def event(self, step: str, event: Mapping[str, Any]) -> None: ...
    def end(self, step: str, seconds: float, reused: bool) -> None: ...


def duration(seconds: float) -> str:
    """Seconds for people: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration(seconds)} left"
