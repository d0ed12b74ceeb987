"""`synpro train-verifier`: run a run's steps up to its faithfulness verifier, and tell how good it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from synpro.commands.execution import execute_steps, locked_run_dir, step_after
from synpro.config import ConfigError, RunConfig
from synpro.outline import outline

VERIFIER = "round-00/verifier"


def train_verifier(cfg: RunConfig, runs: Path) -> tuple[Path, dict[str, Any] | None]:
    """Run the steps up to the verifier that are not done: its folder, and its report.

    The report is None where no verifier is trained (`train_verifier.kind = "none"`). Raises as `run`.
    """
    if not cfg.rounds:
        raise ConfigError("rounds: a run of 0 rounds has no generators and trains no verifier; use 1 or more")
    with locked_run_dir(cfg, runs) as root:
        execute_steps(cfg, root, before=step_after(VERIFIER, outline(cfg)))
    report = root / VERIFIER / "report.json"
    return root / VERIFIER, json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
