"""`synpro step`: run one step again, and compare its files with those of before."""

from __future__ import annotations

from pathlib import Path

from synpro.commands.execution import execute_steps, locked_run_dir, step_after
from synpro.config import RunConfig
from synpro.outline import outline
from synpro.runner.artifacts import read_json
from synpro.runner.request import changes


def rerun_step(cfg: RunConfig, runs: Path, name: str) -> list[str] | None:
    """Run one step again from its recorded inputs: what differs from its earlier result, file by file.

    An empty list: every file is the same to the byte. None: the step had no result. Raises as `run`.
    """
    before = step_after(name, outline(cfg))
    with locked_run_dir(cfg, runs) as root:
        result = root / name / "result.json"
        old = read_json(result) if result.exists() else None
        execute_steps(cfg, root, before=before, redo=name)
        new = read_json(result)
    return None if old is None else changes(old["files"], new["files"])
