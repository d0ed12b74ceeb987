"""A stage for the tests of the runner: real process, real files, nothing to do with models."""

from __future__ import annotations

import atexit
import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn

from synpro.records import Evaluation, digest_files
from synpro.runner.context import StepContext
from synpro.schema import setting


@dataclass(frozen=True)
class Pace:
    batch: int = setting(4, execution=True)
    style: str = "calm"


@dataclass(frozen=True)
class CountConfig:
    RENAMED: ClassVar[Mapping[str, str]] = {"limit": "upto", "colour": "", "harsh": "cfg.trouble"}

    upto: int = 3
    trouble: str = ""
    data: str = ""
    every: int = setting(1, execution=True)
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True)
class Bundle:
    """Inputs that travel together: a config and records."""

    cfg: CountConfig
    before: Evaluation | None
    after: Evaluation | None


class AbortsAtShutdown:
    """Aborts its process as Python shuts down, as threads do now and then that outlive a process group."""

    def __init__(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def __del__(self, abort: Callable[[], NoReturn] = os.abort) -> None:
        abort()


def _full(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


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
    logger.log(f"every {cfg.every}, batches of {cfg.pace.batch}, threads {os.environ['OMP_NUM_THREADS']}")
    logger.log(f"GPUs {os.environ['CUDA_VISIBLE_DEVICES']!r}")
    for i in range(cfg.upto):
        logger.metrics(step=i, value=start + i)
        logger.progress(i + 1, cfg.upto, "counting")
    if cfg.trouble.startswith("full") and not (out / "room").exists():
        if "no note" in cfg.trouble:
            sys.modules["__main__"].write_json = _full  # type: ignore[attr-defined]  # of the child
        _full()
    if cfg.trouble == "aborts at shutdown":
        sys.modules["__main__"].kept = AbortsAtShutdown()  # type: ignore[attr-defined]
    if cfg.trouble == "hook":
        atexit.register(print, "the exit hook ran")
        sys.stderr.write("half a line")
    if cfg.trouble == "interrupted":
        raise KeyboardInterrupt
    if cfg.trouble == "exits":
        sys.exit("no licence")
    if cfg.trouble == "private":
        (out / "private.bin").touch(0o600)
    if cfg.trouble == "waits":
        time.sleep(60)
    if cfg.trouble == "always killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if cfg.trouble == "kill" and not (out / "scratch").exists():
        (out / "scratch").mkdir()
        os.kill(os.getpid(), signal.SIGKILL)
    (out / "total.txt").write_text(f"{start + cfg.upto} {seed}\n")
    return Evaluation(out, start + cfg.upto, 0.0, digest=digest_files(out, out / "total.txt"))
