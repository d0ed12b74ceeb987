"""A run on given GPUs: whether every stage fits, how long it takes, and what it costs.

Only pretraining uses all GPUs, and synthesis if Ray spreads it; RL has those of `machine.rl_processes`, every other step one.
Hours follow from FLOPs and a utilisation (MFU) that is assumed and printed, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from synpro.config import RunConfig
from synpro.planning.memory import GPUS_PER_NODE, RESERVED_GPU_BYTES, stage_bytes, suggestions, with_settings
from synpro.planning.plan import Cost, StageEstimate
from synpro.schema import SchemaError

GIB = 2**30
USABLE_SHARE = 0.85
"""Share of a GPU's memory that a plan may fill."""
DISPATCH_SECONDS = 0.019
"""One decoding step of the transformers engine on a GPU, whatever its batch: Python's dispatch of a 1B model's kernels
(docs/LOG.md)."""


class GpuPlanError(ValueError):
    """GPUs that a run does not fit on, or that are not known; the message says what would fit."""


@dataclass(frozen=True)
class GPU:
    """A kind of accelerator."""

    name: str
    peak: float
    """FLOP/s of dense bfloat16 matrix products, by its data sheet."""
    memory: float
    """Bytes a process sees."""


GPUS = {g.name: g for g in (GPU("a100", 312e12, 79 * GIB), GPU("h100", 989e12, 79 * GIB), GPU("h200", 989e12, 140 * GIB))}


@dataclass(frozen=True)
class GpuPlan:
    """The GPUs of a run, and how well they are assumed to be used."""

    gpus: int
    gpu: GPU
    mfu: float = 0.4
    """Share of `peak` that training and reading prompts reach. Assumed."""
    decode_mfu: float = 0.05
    """The same while text is generated token by token. Assumed."""
    price: float | None = None
    """Price of a GPU-hour, in any currency."""

    def __post_init__(self) -> None:
        if self.gpus < 1 or (self.gpus > GPUS_PER_NODE and self.gpus % GPUS_PER_NODE):
            raise GpuPlanError(f"--gpus {self.gpus}: give 1 to {GPUS_PER_NODE}, or whole nodes of {GPUS_PER_NODE}")
        for option, share in (("--mfu", self.mfu), ("--decode-mfu", self.decode_mfu)):
            if not 0 < share <= 1:
                raise GpuPlanError(
                    f"{option} {share}: is a share of a GPU's peak, above 0 and at most 1; the defaults are 0.4 and 0.05"
                )
        if self.price is not None and not self.price >= 0:
            raise GpuPlanError(f"--price {self.price}: give what a GPU-hour costs")

    @property
    def settings(self) -> str:
        """The GPUs as keys of the config."""
        return f"machine.processes={min(self.gpus, GPUS_PER_NODE)} and machine.nodes={-(-self.gpus // GPUS_PER_NODE)}"

    def gpus_of(self, cfg: RunConfig, stage: str) -> int:
        """GPUs that a stage uses: all for pretraining, for synthesis where Ray has a worker on each, for RL its processes."""
        if stage.startswith("synthesize-") and cfg.machine.launcher == "ray":
            return min(self.gpus, cfg.machine.workers)
        if stage.startswith("train-"):
            return min(self.gpus, cfg.machine.rl_processes)
        return {"pretrain": self.gpus, "prepare": 0}.get(stage, 1)

    @property
    def usable(self) -> float:
        """Bytes of a GPU that a plan fills: what fragments and differs from step to step needs the rest."""
        return USABLE_SHARE * self.gpu.memory

    def part_hours(self, part: Cost) -> float:
        """GPU-hours of a part of a row, without the work of the host."""
        decode = max(part.decode_flops / self.decode_mfu / self.gpu.peak, part.decode_steps * DISPATCH_SECONDS)
        peak = self.gpu.peak / 2 if part.is_tf32 else self.gpu.peak
        return ((part.flops - part.decode_flops) / self.mfu / peak + decode) / 3600

    def hours(self, row: StageEstimate, gpus: int = 1) -> float:
        """GPU-hours of a row of the plan on so many GPUs, which share its work and all wait for the host."""
        return sum(map(self.part_hours, row.work.values())) + gpus * row.host_seconds / 3600

    def wall_hours(self, cfg: RunConfig, row: StageEstimate) -> float:
        """Hours of a row by the clock."""
        gpus = max(1, self.gpus_of(cfg, row.stage))  # `prepare` has none
        return self.hours(row, gpus) / gpus

    def stage_bytes(self, cfg: RunConfig, stage: str) -> float:
        """Bytes that a stage takes on each of its GPUs."""
        return stage_bytes(cfg, stage, self.gpus_of(cfg, stage), self.usable - RESERVED_GPU_BYTES) + RESERVED_GPU_BYTES


def gpu_by_name(name: str) -> GPU:
    """A GPU by its name. Raises GpuPlanError."""
    if name.lower() not in GPUS:
        raise GpuPlanError(f"--gpu {name}: is not known; use one of {', '.join(GPUS)}")
    return GPUS[name.lower()]


def check_fit(cfg: RunConfig, plan: GpuPlan, stages: Sequence[str]) -> None:
    """Raise GpuPlanError where a stage does not fit or the batch does not divide; the message says what would."""
    problems = []
    if not _divides(cfg, plan.gpus):
        usable = [n for n in (2**i for i in range(10)) if _divides(cfg, n)]
        micro = min(cfg.pretrain.hardware.micro_batch_size, max(1, cfg.pretrain.batch_size // plan.gpus))
        problems.append(
            f"pretrain: {cfg.pretrain.batch_size} sequences do not divide over {plan.gpus} GPUs in microbatches of {micro}; "
            f"these numbers of GPUs divide them: {', '.join(map(str, usable))}"
        )
    for stage in stages:
        needed = plan.stage_bytes(cfg, stage)
        if plan.gpus_of(cfg, stage) and needed > plan.usable:
            alike = [s for s in stages if s.partition("-")[0] == stage.partition("-")[0]]  # one setting serves all operations
            found = _suggestion(cfg, plan, alike)
            problems.append(
                f"{stage}: needs {needed / GIB:.0f} GiB on each GPU, of {plan.usable / GIB:.0f} ({USABLE_SHARE:.0%} of it); "
                + (found if found else "no setting makes it fit: use GPUs with more memory, or a smaller model")
            )
    if problems:
        raise GpuPlanError(f"{cfg.name} does not fit on {plan.gpus} x {plan.gpu.name}:\n  " + "\n  ".join(problems))


def _divides(cfg: RunConfig, gpus: int) -> bool:
    """Whether the batch of pretraining divides over GPUs, in microbatches that fill each one's share."""
    p = cfg.pretrain
    share = p.batch_size // gpus
    return p.batch_size % gpus == 0 and share % min(p.hardware.micro_batch_size, share) == 0


def _suggestion(cfg: RunConfig, plan: GpuPlan, stages: Sequence[str]) -> str | None:
    """The first settings that make stages of one kind fit, as `--set` takes them, and how much they then need."""
    for settings in suggestions(cfg, stages[0]):
        try:
            other = with_settings(cfg, settings)
        except SchemaError:  # a half that divides nothing
            continue
        needed = max(plan.stage_bytes(other, stage) for stage in stages)
        if needed <= plan.usable:
            words = (f"--set {key}={str(value).lower()}" for key, value in settings.items())
            return f"{' '.join(words)} needs {math.ceil(needed / GIB)} GiB"
    return None
