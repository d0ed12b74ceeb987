"""A stage for the tests of the runner: real process, real files, nothing to do with models."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from synpro.operations.base import OperationConfig
from synpro.records import Evaluation, digest_files
from synpro.run.journal import Journal


@dataclass(frozen=True)
class CountConfig:
    upto: int = 3
    trouble: str = ""


def count(
    cfg: CountConfig,
    *,
    before: Evaluation | None = None,
    operation: OperationConfig | None = None,
    out: Path,
    journal: Journal,
    seed: int,
) -> Evaluation:
    if cfg.trouble == "raise":
        raise ValueError("the text file is not there; put it there")
    if cfg.trouble == f"raise in {os.environ.get('RANK')}":
        raise ValueError("this process has no such file")
    start = before.heldout_loss if before else 0.0
    journal.rewind({})
    for i in range(cfg.upto):
        journal.metrics(step=i, value=start + i)
        journal.progress(i + 1, cfg.upto, "counting")
    if cfg.trouble == "kill" and not (out / "scratch").exists():
        (out / "scratch").mkdir()
        os.kill(os.getpid(), signal.SIGKILL)
    (out / "total.txt").write_text(f"{start + cfg.upto} {seed}\n")
    return Evaluation(out, start + cfg.upto, 0.0, digest=digest_files(out, out / "total.txt"))
