"""A stage for the tests of the runner: real process, real files, nothing to do with models."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from synpro.records import Evaluation, digest_files
from synpro.runner.context import StepContext


@dataclass(frozen=True)
class CountConfig:
    upto: int = 3
    trouble: str = ""


@dataclass(frozen=True)
class Bundle:
    """Inputs that travel together: a config and records."""

    cfg: CountConfig
    before: Evaluation | None
    after: Evaluation | None


def count(
    cfg: CountConfig,
    *,
    before: Evaluation | None = None,
    bundle: Bundle | None = None,
    ctx: StepContext,
) -> Evaluation:
    out, logger, seed = ctx.out, ctx.logger, ctx.seed
    if cfg.trouble == "raise":
        raise ValueError("the text file is not there; put it there")
    if cfg.trouble == f"raise in {os.environ.get('RANK')}":
        raise ValueError("this process has no such file")
    start = before.heldout_loss if before else 0.0
    if bundle is not None:
        start += bundle.cfg.upto + (bundle.before.heldout_loss if bundle.before else 0.0)
    logger.truncate({})
    for i in range(cfg.upto):
        logger.metrics(step=i, value=start + i)
        logger.progress(i + 1, cfg.upto, "counting")
    if cfg.trouble == "kill" and not (out / "scratch").exists():
        (out / "scratch").mkdir()
        os.kill(os.getpid(), signal.SIGKILL)
    (out / "total.txt").write_text(f"{start + cfg.upto} {seed}\n")
    return Evaluation(out, start + cfg.upto, 0.0, digest=digest_files(out, out / "total.txt"))
