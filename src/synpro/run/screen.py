"""Progress for people: a bar for the run and one for the step, with the time left; plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Screen:
    """Watches the steps of a run and shows them. Use as a context manager."""

    def __init__(self, steps: Sequence[str], expected: Callable[[str], float | None], at_once: int = 1) -> None:
        self.steps, self.expected, self.at_once = list(steps), expected, at_once
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
        self.running: dict[str, Running] = {}
        self.done: set[str] = set()

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for step in list(self.running):
            self._remove(step)
        self.progress.stop()

    def begin(self, step: str, expected_seconds: float | None) -> None:
        bar = self.progress.add_task(step, total=None, left=_left(expected_seconds))
        self.running[step] = Running(bar, time.monotonic(), expected_seconds)
        self._run_left()
        if not self.live:
            about = f", about {duration(expected_seconds)}" if expected_seconds else ""
            self._print(f"[{len(self.done) + len(self.running)}/{len(self.steps)}] {step}{about}")

    def event(self, step: str, event: Mapping[str, Any]) -> None:
        """A progress event (`done`, `total`, `label`) or a line (`say`) of the running step."""
        # Lines of steps that run side by side would mix: then each says whose it is.
        whose = f"{step}: " if self.at_once > 1 else ""
        if "say" in event:
            self._print(f"    {whose}{event['say']}")
            return
        done, total = float(event.get("done", 0)), float(event.get("total", 0))
        at = self.running.get(step)
        if total <= 0 or at is None:
            return
        now = time.monotonic()
        left = (now - at.began) * (total - done) / done if done > 0 else None
        label = str(event.get("label", ""))
        self.progress.update(at.bar, completed=done, total=total, left=_left(left), description=f"{step} {label}".strip())
        at.left = left or 0.0
        self._run_left()
        if not self.live and now - at.spoke > 15:
            at.spoke = now
            self._print(f"    {whose}{label} {done:.0f}/{total:.0f}, {_left(left)}")

    def end(self, step: str, seconds: float, reused: bool) -> None:
        self.done.add(step)
        self.progress.update(self.run_bar, completed=len(self.done))
        self._remove(step)
        what = "found done" if reused else f"done in {duration(seconds)}"
        self._print(f"[{len(self.done)}/{len(self.steps)}] {step}: {what}")

    def _remove(self, step: str) -> None:
        if (at := self.running.pop(step, None)) is not None:
            self.progress.remove_task(at.bar)

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _run_left(self) -> None:
        running = dict(self.running)
        rest = [self.expected(s) for s in self.steps if s not in self.done and s not in running]
        known = [s for s in rest if s is not None]
        if known or not rest:
            here = sum(at.left or 0.0 for at in running.values())
            total = here + sum(known) + (len(rest) - len(known)) * (sum(known) / len(known) if known else 0)
            self.progress.update(self.run_bar, left=_left(total / self.at_once))


@dataclass
class Running:
    """What the screen knows of a step that runs."""

    bar: TaskID
    began: float
    left: float | None
    """Seconds."""
    spoke: float = field(default_factory=time.monotonic)


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
