"""What the commands that run steps share: the locked run directory, and the loop with its progress on the terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from synpro.commands.check import preconditions, rounds_problem
from synpro.commands.machine import disk_bytes, disk_problem, memory_problems, planned_stages
from synpro.commands.run_dir import init_or_verify, note_environment
from synpro.config import ConfigError, RunConfig
from synpro.disk import naming
from synpro.loop import loop
from synpro.outline import outline
from synpro.runner.preloaded import Preloaded
from synpro.runner.progress import ProgressDisplay, ProgressListener
from synpro.runner.step import ExpectedSeconds, Steps, lock

R = TypeVar("R")


@contextlib.contextmanager
def locked_run_dir(cfg: RunConfig, runs: Path, *, elsewhere: bool = False) -> Iterator[Path]:
    """The directory of a run or comparison that can start, with its config in it, held for this process alone. `elsewhere`: its
    steps run on other machines.

    Raises ConfigError when the directory belongs to another config or this machine lacks something, StepError when another
    process holds it.
    """
    root = runs / cfg.name
    descriptor = lock(root)
    try:
        with naming(root):
            init_or_verify(cfg, root)
        if problems := preconditions(cfg, root, elsewhere=elsewhere):
            raise ConfigError(f"{cfg.name} cannot start:\n  " + "\n  ".join(problems))
        yield root
    finally:
        os.close(descriptor)


def execute_steps(
    cfg: RunConfig,
    root: Path,
    before: str | None = None,
    redo: str | None = None,
    watch: Callable[[ProgressListener], ProgressListener] = lambda display: display,
) -> dict[str, Any] | None:
    """Run the loop's steps that are not done, up to the one called `before`; return the inputs which that step would get, or
    None when the loop ended without asking for it.

    `redo`: the step to run again although it is done. `watch`: who hears of progress before the display does. Raises StepError
    when a step stops.
    """
    names = outline(cfg)
    shown = names if before is None else names[: names.index(before)]
    with shown_steps(cfg, root, shown) as steps:
        too_many_rounds = partial(rounds_problem, cfg, root) if "round-00/pretrain" in shown else list[str]
        steps.redo, steps.listener = redo, watch(steps.listener)

        def run_step(name: str, stage: Callable[..., R], cfg: object, *, seed_key: str | None = None, **inputs: object) -> R:
            if name == before:
                raise _Reached(inputs)
            if name != names[0] and (problems := too_many_rounds()):  # its corpus is counted now
                raise ConfigError(f"{root.name} cannot go on:\n  " + "\n  ".join(problems))
            return steps(name, stage, cfg, seed_key=seed_key, **inputs)

        try:
            loop(cfg, run_step)
        except _Reached as reached:
            return reached.inputs
    return None


@contextlib.contextmanager
def shown_steps(cfg: RunConfig, root: Path, names: Sequence[str], max_parallel: int = 1) -> Iterator[Steps]:
    """What runs the steps `names` of a run or comparison, with their progress on the terminal.

    Raises ConfigError for steps that need more memory than this machine has; too small a disk is a warning, and stops the step
    that has no room.
    """
    if problems := memory_problems(cfg, root, names):
        raise ConfigError(f"{cfg.name} cannot go on:\n  " + "\n  ".join(problems))
    expected, planned = ExpectedSeconds(root, cfg), planned_stages(cfg, root)
    preloaded = Preloaded()
    with contextlib.closing(preloaded), ProgressDisplay(names, expected, max_parallel) as display:
        if short := disk_problem(cfg, root, names):
            display.event("", {"log": f"WARNING: {short}"})
        needs = partial(disk_bytes, planned)
        steps = Steps(
            root,
            seed=cfg.seed,
            machine=cfg.machine,
            listener=display,
            expected=expected,
            disk_bytes=needs,
            preloaded=preloaded,
        )
        steps.on_first = partial(note_environment, root)
        yield steps


class _Reached(Exception):
    """The loop asks for the step before which it was to end."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        super().__init__()
        self.inputs = inputs


def step_after(name: str, names: Sequence[str]) -> str | None:
    """The step that follows another, or None after the last. Raises ConfigError for a step that is not in the config."""
    if name not in names:
        raise ConfigError(f"there is no step {name!r} in this config; its steps: {', '.join(names)}")
    return next(iter(names[names.index(name) + 1 :]), None)
