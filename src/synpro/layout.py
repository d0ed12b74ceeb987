"""A run on given GPUs: whether every stage fits, how long it takes, and what it costs.

Only pretraining uses all GPUs, and writing if Ray spreads it; RL has those of `machine.rl_processes`, every other step one.
Hours follow from operations and a utilisation that is assumed and printed, not measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synpro.config import RunConfig
from synpro.memory import NODE, RESERVED, changed, of_stage, remedies
from synpro.plan import Cost, costs
from synpro.plan import lines as plan_lines
from synpro.schema import SchemaError

GIB = 2**30


class LayoutError(ValueError):
    """GPUs that a run does not fit on, or that are not known; the message says what would fit."""


@dataclass(frozen=True)
class GPU:
    """One accelerator."""

    name: str
    peak: float
    """FLOP/s of dense bfloat16 matrix products, by its data sheet."""
    memory: float
    """Bytes a process sees."""


GPUS = {g.name: g for g in (GPU("a100", 312e12, 79 * GIB), GPU("h100", 989e12, 79 * GIB), GPU("h200", 989e12, 140 * GIB))}


@dataclass(frozen=True)
class Layout:
    """The GPUs, and how well they are taken to be used."""

    gpus: int
    gpu: GPU
    training: float = 0.4
    """Share of `peak` that training and reading reach. Assumed."""
    writing: float = 0.05
    """The same while text is written token by token. Assumed."""
    price: float | None = None
    """Of a GPU-hour, in any currency."""

    def __post_init__(self) -> None:
        if self.gpus < 1 or (self.gpus > NODE and self.gpus % NODE):
            raise LayoutError(f"--gpus {self.gpus}: give 1 to {NODE}, or whole nodes of {NODE}")
        for option, share in (("--utilisation", self.training), ("--writing", self.writing)):
            if not 0 < share <= 1:
                raise LayoutError(
                    f"{option} {share}: is a share of what the GPU can do; use 0.4 for training, 0.05 for writing"
                )
        if self.price is not None and not self.price >= 0:
            raise LayoutError(f"--price {self.price}: give what a GPU-hour costs")

    @property
    def settings(self) -> str:
        """The same as the config says it."""
        return f"machine.processes={min(self.gpus, NODE)} and machine.nodes={-(-self.gpus // NODE)}"

    def of(self, cfg: RunConfig, stage: str) -> int:
        """GPUs that a stage uses: all for pretraining, for writing where Ray has a worker on each, for RL its processes."""
        if stage.startswith("synthesize-") and cfg.machine.launcher == "ray":
            return min(self.gpus, cfg.machine.workers)
        if stage.startswith("train-"):
            return min(self.gpus, cfg.machine.rl_processes)
        return {"pretrain": self.gpus, "prepare": 0}.get(stage, 1)

    def hours(self, cost: Cost) -> float:
        """GPU-hours of a row of the plan, however many GPUs share them."""
        return ((cost.flops - cost.written) / self.training + cost.written / self.writing) / self.gpu.peak / 3600


def named(name: str) -> GPU:
    """A GPU by its name. Raises LayoutError."""
    if name.lower() not in GPUS:
        raise LayoutError(f"--gpu {name}: is not known; use one of {', '.join(GPUS)}")
    return GPUS[name.lower()]


def check(cfg: RunConfig, layout: Layout, stages: Sequence[str]) -> None:
    """Raises LayoutError where a stage does not fit, or the batch does not divide, with what would."""
    problems = []
    p = cfg.pretrain
    micro = min(p.hardware.microbatch, max(1, p.batch // layout.gpus))
    if p.batch % layout.gpus or (p.batch // layout.gpus) % micro:
        usable = [n for n in (2**i for i in range(10)) if p.batch % n == 0 and (p.batch // n) % min(micro, p.batch // n) == 0]
        problems.append(
            f"pretrain: {p.batch} sequences do not divide over {layout.gpus} GPUs in microbatches of {micro}; "
            f"these numbers of GPUs divide them: {', '.join(map(str, usable))}"
        )
    for stage in stages:
        needed = _needed(cfg, layout, stage)
        if layout.of(cfg, stage) and needed > layout.gpu.memory:
            alike = [s for s in stages if s.partition("-")[0] == stage.partition("-")[0]]  # one setting serves all operations
            found = _remedy(cfg, layout, alike)
            problems.append(
                f"{stage}: needs {needed / GIB:.0f} GiB on each GPU, of {layout.gpu.memory / GIB:.0f}; "
                + (found if found else "no setting makes it fit: use GPUs with more memory, or a smaller model")
            )
    if problems:
        raise LayoutError(f"{cfg.name} does not fit on {layout.gpus} x {layout.gpu.name}:\n  " + "\n  ".join(problems))


def _needed(cfg: RunConfig, layout: Layout, stage: str) -> float:
    """Bytes of a GPU that a stage takes."""
    beside = cfg.train_generator.vllm_memory if stage.startswith("train-") and cfg.train_generator.engine == "vllm" else 0.0
    return of_stage(cfg, stage, layout.of(cfg, stage)) + beside * layout.gpu.memory + RESERVED


def _remedy(cfg: RunConfig, layout: Layout, stages: Sequence[str]) -> str | None:
    """The first settings that make stages of one kind fit, as `--set` takes them, and how much they then need."""
    for settings in remedies(cfg, stages[0]):
        try:
            other = changed(cfg, settings)
        except SchemaError:  # a half that divides nothing
            continue
        needed = max(_needed(other, layout, stage) for stage in stages)
        if needed <= layout.gpu.memory:
            words = (f"--set {key}={str(value).lower()}" for key, value in settings.items())
            return f"{' '.join(words)} needs {math.ceil(needed / GIB)} GiB"
    return None


def lines(cfg: RunConfig, root: Path, layout: Layout) -> list[str]:
    """A run's plan, and GPU-hours, hours and money. Raises PlanError, and LayoutError where a stage does not fit."""
    rows = costs(cfg, root, None)
    check(cfg, layout, [r.stage for r in rows])
    out = [*plan_lines(cfg, root, calibrate=False), "", f"on {layout.gpus} x {layout.gpu.name}, {layout.settings}:", ""]
    out.append(f"{'stage':<22}{'GPUs':>6}{'GiB per GPU':>14}{'GPU-hours':>12}{'hours':>10}")
    busy = wall = 0.0
    for row in rows:
        gpus, hours = layout.of(cfg, row.stage), layout.hours(row)
        needed = _needed(cfg, layout, row.stage) / GIB if gpus else 0.0
        took = hours / max(1, gpus)
        busy, wall = busy + hours, wall + took
        out.append(f"{row.stage:<22}{gpus:>6}{needed:>14.0f}{hours:>12.1f}{took:>10.1f}")
    out.append(f"{'whole run':<22}{'':>6}{'':>14}{busy:>12.1f}{wall:>10.1f}")
    out.append("")
    if layout.price is not None:
        out.append(f"cost: {busy * layout.price:,.0f} at {layout.price:g} a GPU-hour, while other GPUs are given back")
    if cfg.machine.rl_processes == 1 and layout.gpus > 1:
        more = min(layout.gpus, NODE)
        out.append(f"generators are trained on one GPU: --set machine.rl_processes={more} spreads that over a node")
    if cfg.machine.launcher == "local" and layout.gpus > 1:
        out.append("texts are written on one GPU: --set machine.launcher=ray --set machine.workers=N spreads them over N")
    out.append(
        f"assumed, not measured: {layout.training:.0%} of {layout.gpu.peak / 1e12:.0f} TFLOP/s training and reading, "
        f"{layout.writing:.0%} writing; queues, checkpoints and start-up take none"
    )
    return out
