"""A rehearsal: every stage of a run with its models, shapes and machines, and few counts. What is made smaller, what is
measured, what must hold, and what the whole run would then take.

A stage's work is what its row of the plan takes on one H100 (`GpuPlan.hours`), wherever it runs: the ratio of two rows tells
how much more of the same is to be done. So the whole run takes the start-up of each step, and for the rest as much longer as
there is more work.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from synpro.config import RunConfig
from synpro.engines.base import EngineSpec, Role
from synpro.engines.vllm import MEMORY_UTILIZATION, VLLMConfig
from synpro.measure.influence_validation import proportion
from synpro.planning.gpu_plan import GPUS, GpuPlan
from synpro.planning.memory import language_judges, with_settings
from synpro.planning.plan import StageEstimate, estimate_stages
from synpro.runner.artifacts import finished, read_json, read_lines, read_table
from synpro.runner.progress import duration
from synpro.runner.step import REHEARSAL, rates_digest

STEPS = 12
"""Optimizer steps of a round of pretraining, with one checkpoint before the forced stop."""
DOCUMENTS, SPLIT_SHARE = 2000, 0.01
"""Documents that fill the reference and held-out splits, each with so large a share of them."""
MAX_MEMORY, MIN_KEPT = 0.9, 0.2
"""Share of the memory that a step may fill, and of the answers that the filters must keep."""
BESIDE_VLLM = 0.05
"""Share of a GPU that may be in use beside what vLLM reserves, however large that is."""
STRESS = "stress-"
"""What ids of documents begin with that are there because they are odd; their texts do not count as kept or dropped."""
RESUMED = ("prepare", "pretrain", "train", "synthesize")
"""Stages that go on where they were stopped; another one starts over, and has to end within a job's time."""
GIB = 2**30

SHRUNK: dict[str, Callable[[RunConfig], Any]] = {
    "rounds": lambda cfg: min(cfg.rounds, 2),
    "prepare.train_words": lambda cfg: min(_rehearsed_words(cfg), cfg.prepare.train_words or 10**12),
    "prepare.sample_words": lambda cfg: "none",
    "prepare.reference_share": lambda cfg: max(cfg.prepare.reference_share, SPLIT_SHARE),
    "prepare.heldout_share": lambda cfg: max(cfg.prepare.heldout_share, SPLIT_SHARE),
    "pretrain.round_tokens": lambda cfg: [min(STEPS, cfg.pretrain.steps) * cfg.pretrain.tokens_per_step],
    "pretrain.total_tokens": lambda cfg: "none",
    "pretrain.evaluate_every": lambda cfg: min(cfg.pretrain.evaluate_every, STEPS // 2),
    "pretrain.checkpoint_every": lambda cfg: min(cfg.pretrain.checkpoint_every or STEPS, STEPS // 3),
    "probe.steps": lambda cfg: min(cfg.probe.steps, STEPS),
    "train_generator.validation_passages": lambda cfg: min(cfg.train_generator.validation_passages, 8),
    "evaluate.max_items": lambda cfg: min(cfg.evaluate.max_items or 50, 50),
    "evaluate.max_documents": lambda cfg: min(cfg.evaluate.max_documents or 200, 200),
}
"""The counts of a rehearsal. Nothing else differs from the run: not the models, sequence, micro batch, world, context, group
size, new tokens, judges, engines, or the length of a passage."""
OPERATION_STEPS = 2
"""GRPO steps of each operation."""


def _rehearsed_words(cfg: RunConfig) -> int:
    """Words of two chunks for each worker, and at least those of the documents that fill the small splits."""
    chunks = 2 * cfg.machine.workers * cfg.synthesize.chunk_size
    limits = cfg.prepare.passages
    words = min(limits.target_words or limits.max_words or limits.max_characters, limits.max_characters // 7)
    return max(chunks * words, DOCUMENTS * 100)


def rehearsal_config(cfg: RunConfig, stress: Path | None, stress_words: int = 0) -> RunConfig:
    """The config of a run's rehearsal. `stress`: a file of odd documents (columns `id`, `text`), read before the sources."""
    settings = {"name": cfg.name + REHEARSAL, **{key: value(cfg) for key, value in SHRUNK.items()}}
    settings |= {f"operations.{name}.steps": min(op.steps, OPERATION_STEPS) for name, op in cfg.operations.items()}
    settings["prepare.train_words"] += stress_words
    small = with_settings(cfg, settings)
    if stress is None:
        return small
    source = type(cfg.prepare.sources[0])(path=str(stress), id_column="id")
    return replace(small, prepare=replace(small.prepare, sources=(source, *small.prepare.sources)))


@dataclass(frozen=True)
class Watched:
    """What was seen of a step while it ran."""

    seconds: float
    startup: float
    """Seconds that are not spent on its work: the start of the process, its libraries, and its models."""
    gpu_bytes: float = 0.0
    """Largest memory in use on one GPU of this machine; 0 without one."""
    work: float = 1.0
    """Share of the step's work that was done: less than all by an attempt that went on from a checkpoint."""


def startup_seconds(seconds: float, first: float, share: float) -> float:
    """Start-up of a step of `seconds` that had done a share of its work after `first` of them, at an even pace. 0 where all
    progress came at the end: nothing tells start-up from work then, and no rate must be too high."""
    return max(0.0, (first - share * seconds) / (1 - share)) if share < 1 else 0.0


@dataclass(frozen=True)
class Machine:
    """What a rehearsal runs on, and how a plan foretells it."""

    ram_bytes: float
    gpu_bytes: float
    """Memory of the smallest GPU; 0 without one."""
    planned: Mapping[str, float]
    """Seconds of one step of each stage in the whole run, by the plan; empty where nothing was calibrated."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    """GPUs of each stage, where this machine has any."""
    device: str = ""
    """Name of the GPU, or of the processor."""


@dataclass(frozen=True)
class StageMeasurement:
    """One stage of a rehearsal, and of the run it foretells."""

    stage: str
    count: int
    """Steps of it in the run."""
    planned: float | None
    """Seconds of one step in the run, by the plan alone."""
    seconds: float
    """That of the slowest step of the rehearsal."""
    startup: float
    gpus: int
    """That it ran on; 0 where this machine has none."""
    rate: float
    """Work done per second: H100-seconds of the plan."""
    extrapolated: float
    """Seconds of one step in the run."""
    planned_bytes: float
    ram_bytes: float
    """That of the largest process."""
    gpu_bytes: float
    disk_bytes: float
    """What the step left, in the rehearsal."""
    device: str = ""
    """Name of the GPU that it ran on, or of the processor."""


@dataclass(frozen=True)
class Kept:
    """The answers of one operation, all rounds together, without those to odd documents."""

    operation: str
    answers: int
    kept: int
    reasons: dict[str, int]
    """Why the others were dropped, the most frequent first."""
    zero_std: float | None
    """Share of the groups of GRPO whose rewards had no spread: nothing is learned from them."""

    @property
    def at_most(self) -> float:
        """Upper end of the interval (Wilson, 95%) of the share that is kept."""
        return proportion(self.kept, self.answers).high if self.answers else 1.0


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found."""

    name: str
    stages: tuple[StageMeasurement, ...]
    kept: tuple[Kept, ...]
    problems: tuple[str, ...] = field(default=())
    config: str = ""
    """Digest of the config that it was measured for."""

    def to_json(self) -> dict[str, Any]:
        """As `rehearsal.json` holds it."""
        rows = {s.stage: asdict(s) for s in self.stages}
        kept, problems = [asdict(k) for k in self.kept], list(self.problems)
        return {"name": self.name, "config": self.config, "stages": rows, "kept": kept, "problems": problems}


def read_results(
    cfg: RunConfig, small: RunConfig, root: Path, watched: Mapping[str, Watched], machine: Machine, job_seconds: float
) -> Rehearsal:
    """What the finished steps of a rehearsal in `root` say about the run `cfg`. `watched`: by step; what is missing of a step
    is read from its folder. Raises PlanError."""
    run_root = root.with_name(cfg.name)
    rows = {row.stage: row for row in estimate_stages(cfg, run_root, None)}
    rehearsed = {row.stage: row for row in estimate_stages(small, root, None)}
    stages = []
    for stage, row in rows.items():
        folders = sorted(f for f in root.glob(f"round-*/{stage}") if finished(f))
        if not folders or not row.count or not rehearsed[stage].count:
            continue
        stages.append(_measured(row, rehearsed[stage], folders, watched, machine))
    kept = tuple(_kept(root, name) for name in cfg.operations) if small.rounds else ()
    found = Rehearsal(cfg.name, tuple(stages), kept, config=rates_digest(cfg))
    return replace(found, problems=tuple(gate_problems(cfg, found, machine, job_seconds)))


def _measured(
    row: StageEstimate, small: StageEstimate, folders: Sequence[Path], watched: Mapping[str, Watched], machine: Machine
) -> StageMeasurement:
    timings = {f"{f.parent.name}/{f.name}": read_json(f / "timing.json") for f in folders}
    seen = {step: watched.get(step) or Watched(t["seconds"], 0.0) for step, t in timings.items()}
    slowest = max(seen.values(), key=lambda w: w.seconds)
    busy = max(slowest.seconds - slowest.startup, 0.01 * slowest.seconds, 1e-3)
    rate = max(slowest.work * work_seconds(small), 1e-9) / busy
    disk = sum(file.stat().st_size for file in folders[-1].rglob("*") if file.is_file())
    return StageMeasurement(
        row.stage,
        row.count,
        machine.planned.get(row.stage),
        slowest.seconds,
        slowest.startup,
        machine.gpus.get(row.stage, 0),
        rate,
        slowest.startup + work_seconds(row) / rate,
        row.memory,
        max(t.get("peak_rss_bytes", 0) for t in timings.values()),
        max(w.gpu_bytes for w in seen.values()),
        disk,
        machine.device,
    )


def work_seconds(row: StageEstimate) -> float:
    """Work of one step of a row: seconds on one H100 by the plan. A stage without counted work takes the same everywhere."""
    return GpuPlan(1, GPUS["h100"]).hours(row) * 3600 / max(1, row.count) or 1.0


def rehearsed_seconds(row: StageEstimate, stages: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Seconds of a row at the rate that a rehearsal measured (`read_rehearsal`); None where it did not."""
    found = stages.get(row.stage)
    return row.count * (found["startup"] + work_seconds(row) / found["rate"]) if found else None


def _kept(root: Path, operation: str) -> Kept:
    reasons: Counter[str] = Counter()
    answers = kept = 0
    for file in sorted(root.glob(f"round-*/synthesize-{operation}/rewrites.parquet")):
        for row in read_table(file, ["document", "kept", "reason"]):
            if not row["document"].startswith(STRESS):
                answers, kept = answers + 1, kept + row["kept"]
                reasons.update([] if row["kept"] else [row["reason"]])
    files = root.glob(f"round-*/train-{operation}/metrics.jsonl")
    spread = [r["zero_std"] for f in files for r in read_lines(f, whole=True) if r.get("zero_std") is not None]
    return Kept(operation, answers, kept, dict(reasons.most_common()), sum(spread) / len(spread) if spread else None)


def reserved_share(cfg: RunConfig, stage: str) -> float:
    """Share of its GPU that vLLM reserves for a stage as soon as it opens, used or not: 0 without vLLM."""

    def share(engine: EngineSpec, role: Role) -> float:
        return (engine.gpu_memory_utilization or MEMORY_UTILIZATION[role]) if isinstance(engine, VLLMConfig) else 0.0

    kind, _, operation = stage.partition("-")
    if kind not in ("train", "synthesize"):
        return share(cfg.judges.verifier.engine, "judge") if kind == "verifier" else 0.0
    judges = sum(share(judge.engine, "judge") for judge in language_judges(cfg, operation))
    if kind == "train":
        return judges + share(cfg.train_generator.engine, "judge")
    return max(judges, share(cfg.synthesize.engine, "generator"))  # closed before the judges open


def gate_problems(cfg: RunConfig, found: Rehearsal, machine: Machine, job_seconds: float) -> list[str]:
    """What the run must not be started with, each with what to do."""
    problems = []
    for s in found.stages:
        on_gpu = max(MAX_MEMORY, reserved_share(cfg, s.stage) + BESIDE_VLLM)
        for kind, used, there, most in (
            ("memory", s.ram_bytes, machine.ram_bytes, MAX_MEMORY),
            ("GPU memory", s.gpu_bytes, machine.gpu_bytes, on_gpu),
        ):
            if there and used > most * there:
                problems.append(
                    f"{s.stage}: took {used / GIB:.1f} of {there / GIB:.1f} GiB of {kind}, above {most:.0%}: lower its"
                    " micro batch or batch size, or vLLM's gpu_memory_utilization"
                )
        resumes = s.stage.partition("-")[0] in RESUMED and (s.stage != "pretrain" or cfg.pretrain.checkpoint_every)
        if not resumes and s.extrapolated > job_seconds:
            problems.append(
                f"{s.stage}: would take {duration(s.extrapolated)}, more than --time ({duration(job_seconds)}), and starts over"
                " when a job ends: give it more time, or more processes"
            )
    for k in found.kept:
        if k.at_most < MIN_KEPT:
            why = ", ".join(f"{reason} {n}" for reason, n in list(k.reasons.items())[:3])
            problems.append(
                f"synthesize-{k.operation}: {k.kept} of {k.answers} answers are kept, under {MIN_KEPT:.0%} (dropped: {why}):"
                f" use a stronger generator, or loosen [filters] or the limits of [operations.{k.operation}]"
            )
    return problems


def surprises(found: Rehearsal) -> list[str]:
    """The three largest ratios of what was measured to what was planned."""
    out = []
    for s in found.stages:
        if s.planned:
            longer = f"{s.stage}: {duration(s.extrapolated)} a step, planned {duration(s.planned)}"
            out.append((s.extrapolated / s.planned, longer))
        used = s.gpu_bytes or s.ram_bytes
        if used and s.planned_bytes:
            out.append((used / s.planned_bytes, f"{s.stage}: {used / GIB:.1f} GiB, planned {s.planned_bytes / GIB:.1f}"))
    out.sort(key=lambda pair: -abs(math.log(pair[0])))
    return [f"{text} ({ratio:.2g} times)" for ratio, text in out[:3]]


def format_rehearsal(found: Rehearsal) -> list[str]:
    """The table planned / measured / extrapolated, what was kept, and the surprises."""
    columns = ("planned", "measured", "start-up", "extrapolated", "memory", "planned", "disk")
    widths = (16, 13, 10, 16, 10, 10, 10)
    out = [f"{'stage':<22}{'times':>6}" + "".join(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True))]
    for s in found.stages:
        cells = (
            duration(s.planned * s.count) if s.planned is not None else "-",
            duration(s.seconds),
            duration(s.startup),
            duration(s.extrapolated * s.count),
            f"{(s.gpu_bytes or s.ram_bytes) / GIB:.1f} GiB",
            f"{s.planned_bytes / GIB:.1f} GiB",
            f"{s.disk_bytes / 2**20:.0f} MiB",
        )
        out.append(f"{s.stage:<22}{s.count:>6}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    planned = [s.planned * s.count for s in found.stages if s.planned is not None]
    whole = sum(s.extrapolated * s.count for s in found.stages)
    total = duration(sum(planned)) if planned else "-"
    out.append(f"{'whole run':<28}{total:>16}{'':>23}{duration(whole):>16}")
    out.append("planned and extrapolated: all steps of the run; measured and start-up: the slowest step of the rehearsal")
    for k in found.kept:
        why = ", ".join(f"{reason} {n}" for reason, n in k.reasons.items())
        flat = "" if k.zero_std is None else f"; {k.zero_std:.0%} of the groups of GRPO have no spread"
        out.append(f"{k.operation}: {k.kept} of {k.answers} answers kept" + (f"; dropped: {why}" if why else "") + flat)
    if largest := surprises(found):
        out += ["largest surprises:", *(f"  {line}" for line in largest)]
    return out
