"""How the steps of a run were run: what changed from one attempt to the next, and from one step of a kind to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.runner.artifacts import operation_of, read_json
from synpro.runner.request import changes


@dataclass(frozen=True)
class ExecutionChange:
    """Execution settings of an attempt that are not those of the attempt at such a step before it."""

    step: str
    attempt: int
    changes: tuple[str, ...]
    """`KEY: BEFORE -> NOW`."""


def execution_changes(run: Path, steps: Sequence[str]) -> list[ExecutionChange]:
    """What changed in how steps are run, in their order. Raises CorruptRun for an `execution.json` that cannot be read."""
    known: dict[tuple[str, str | None], dict[str, Any]] = {}
    found = []
    for step in steps:
        file = run / step / "execution.json"
        for attempt in read_json(file).get("attempts", []) if file.exists() else []:
            now = _flat(attempt)
            before = known.setdefault(operation_of(step), now)
            if different := changes(before, now):
                found.append(ExecutionChange(step, attempt["attempt"], tuple(different)))
            known[operation_of(step)] = now
    return found


def _flat(attempt: Mapping[str, Any]) -> dict[str, Any]:
    machine = {f"machine.{name}": value for name, value in attempt["machine"].items()}
    return {**machine, **attempt["settings"], "host": attempt["host"]}
