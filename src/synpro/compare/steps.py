"""Steps of a comparison: each runs once, whichever arm asks for it first, and several may run in parallel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from synpro.records import digest_of, encode
from synpro.runner.launch import end_running
from synpro.runner.step import RunStep

R = TypeVar("R")


class Stopped(RuntimeError):
    """No further step is started: another one failed, or the comparison was interrupted."""


class DedupSteps:
    """Runs a step unless one with the same stage, config, inputs and seed was asked for under another name. Thread-safe."""

    def __init__(self, run_step: RunStep) -> None:
        self._run_step = run_step
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Future[Any]]] = {}
        self._stopped = False
        self.used: list[str] = []
        """The names under which steps were asked for and run, in order: a step that several ask for, several times."""

    def __call__(self, name: str, stage: Callable[..., R], cfg: object, *, seed_key: str | None = None, **inputs: object) -> R:
        """The record of a step, as `RunStep`. Raises Stopped after `stop`."""
        return self.run(name, stage, cfg, seed_key or name, inputs)[1]

    def run(self, name: str, stage: Callable[..., R], cfg: object, seed_key: str, inputs: dict[str, object]) -> tuple[str, R]:
        """The name under which a step was run, and its record. Of several threads that ask, the first runs it."""
        key = digest_of(encode([stage.__module__, stage.__qualname__, cfg, inputs, seed_key], Path("/")))
        with self._lock:
            if self._stopped:
                raise Stopped(f"{name} was not started")
            first = key not in self._known
            if first:
                self._known[key] = (name, Future())
            place, record = self._known[key]
            self.used.append(place)
        if first:
            try:
                record.set_result(self._run_step(name, stage, cfg, seed_key=seed_key, **inputs))
            except BaseException as error:
                record.set_exception(error)
                raise
        return place, record.result()

    def stop(self, interrupted: bool) -> None:
        """Start no further step. Running ones end by themselves and their results are kept; an interrupt ends them."""
        with self._lock:
            self._stopped = True
        if interrupted:
            end_running()

    def within(self, folder: str, draw: int = 0) -> FolderSteps:
        """Runs steps in a folder of the run directory.

        A step's seed is drawn from its name below `folder`, so steps of the same name in two folders are paired. A `draw` above
        0 has a folder of its own below that, and other seeds; the generators of the first round are those of draw 0.
        """
        return FolderSteps(self, folder, draw)


class FolderSteps:
    """Runs steps in a folder, and remembers where they really are."""

    def __init__(self, steps: DedupSteps, folder: str, draw: int) -> None:
        self._steps, self._folder, self._draw = steps, folder, draw
        self.places: list[str] = []
        """Names of the steps that were run, or found under the name another arm gave them."""

    def __call__(self, name: str, stage: Callable[..., R], cfg: object, *, seed_key: str | None = None, **inputs: object) -> R:
        """The record of a step, as `RunStep`."""
        is_shared = name.startswith(("round-00/", "round-01/train-"))
        own = f"draw-{self._draw}/{name}" if self._draw and not is_shared else name
        place, record = self._steps.run(f"{self._folder}/{own}", stage, cfg, seed_key or own, inputs)
        self.places.append(place)
        return record
