"""What every stage is given besides its config and inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from synpro.runner.launch import LOCAL_MACHINE, MachineConfig
from synpro.runner.logger import StepLogger
from synpro.runner.process_group import SINGLE_PROCESS, ProcessGroup


@dataclass(frozen=True)
class StepContext:
    """Where a stage writes and reports, its seed, and what it may spread its work over."""

    out: Path
    """The step's folder."""
    logger: StepLogger
    seed: int
    group: ProcessGroup = field(default=SINGLE_PROCESS)
    """The processes that run this stage together."""
    root: Path | None = None
    """The run directory, where steps may share what they need not each make; None for a stage that is called directly."""
    workers: MachineConfig = field(default=LOCAL_MACHINE)
    """Who does chunks of work: this process, or Ray workers. LOCAL_MACHINE unless the stage is placed on workers."""

    @classmethod
    def local(cls, out: Path, seed: int = 0, logger: StepLogger | None = None) -> StepContext:
        """A context for calling a stage directly, in this process and on this machine."""
        return cls(out, logger or StepLogger(out), seed)
