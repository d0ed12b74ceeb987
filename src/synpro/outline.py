"""The names of a run's steps, by walking the loop without running anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from synpro.config import RunConfig
from synpro.loop import loop


@dataclass(frozen=True)
class NotRun:
    """Placeholder for the record of a step that was not run, with what the loop and a comparison read of records."""

    step: str
    reference_loss: float
    """Falls from step to step, so that a search for settings goes on to its last trial."""
    tokens_seen: int = 0
    diverged: bool = False
    text_tokens: int = 1
    """Another number for each step, so that arms differ in it."""
    tokens: Mapping[str, float] = field(default_factory=lambda: {"train": math.inf})


def outline(cfg: RunConfig) -> list[str]:
    """The names of the steps of a run, in order. A run ends sooner when its token budget is used up."""
    return step_names(lambda run_step: loop(cfg, run_step))


def step_names(run_all: Callable[[Any], object]) -> list[str]:
    """The names of the steps that `run_all` asks its `run_step` for, in order."""
    names: list[str] = []

    def note(name: str, stage: Callable[..., Any], cfg: object, *, seed_key: str | None = None, **inputs: object) -> Any:
        names.append(name)
        return cast(Any, NotRun(name, -float(len(names)), text_tokens=len(names)))

    run_all(note)
    return names
