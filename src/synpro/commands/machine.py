"""What a run needs of this machine, by its plan, against what there is: disk and memory."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from synpro.config import RunConfig
from synpro.disk import free_bytes
from synpro.planning.gpu_plan import GPU, GpuPlan, GpuPlanError, check_fit
from synpro.planning.plan import PlanError, StageEstimate, estimate_stages
from synpro.runner.artifacts import finished
from synpro.runner.step import MIN_FREE_BYTES

UNPLANNED_BYTES = 2 * 2**30
"""Free disk that a run needs where its plan cannot say."""
GIB = 2**30


def disk_problem(cfg: RunConfig, root: Path, steps: Sequence[str]) -> str | None:
    """What is said where the steps of a run that are not done need more disk than is free; None where they do not."""
    left = [step for step in steps if not finished(root / step)]
    rows = planned_stages(cfg, root)
    stay = sum(disk_bytes(rows, step, until_it_ends=False) for step in left)
    most = max((disk_bytes(rows, step) - disk_bytes(rows, step, until_it_ends=False) for step in left), default=0.0)
    need = stay + most + MIN_FREE_BYTES if rows else UNPLANNED_BYTES
    free = free_bytes(root)
    if not left or free >= need:
        return None
    return (
        f"{root}: {free / GIB:.2f} GiB of its disk are free, and the steps that are left need about {need / GIB:.2f} GiB "
        "(`synpro plan` says which; 10% is added to what stays); make room, or keep run directories elsewhere (--runs FOLDER)"
    )


def memory_problems(cfg: RunConfig, root: Path, steps: Sequence[str]) -> list[str]:
    """The steps of a run that are not done and need more memory than this machine, or its GPU, has."""
    stages = {step.rpartition("/")[2] for step in steps if not finished(root / step)}
    rows = planned_stages(cfg, root)
    known = [stage for stage in rows if stage in stages and stage != "prepare"]
    gpus = gpu_bytes()
    if not cfg.machine.check_memory or not known:
        return []
    if gpus:
        try:
            plan = GpuPlan(cfg.machine.processes * cfg.machine.nodes, GPU("GPUs like these", 1.0, min(gpus)))
        except GpuPlanError:  # a number of GPUs that plans do not know
            return []
        try:
            check_fit(cfg, plan, known)
        except GpuPlanError as problem:
            return [f"{problem}\n  (machine.check_memory = false starts it all the same)"]
        return []
    total = ram_bytes()
    return [
        f"{stage}: needs about {rows[stage].memory / GIB:.1f} GiB of memory, and this machine has {total / GIB:.1f} GiB; use a "
        "smaller model or batch, or another machine (machine.check_memory = false starts it all the same)"
        for stage in known
        if total and rows[stage].memory > total
    ]


def planned_stages(cfg: RunConfig, root: Path) -> dict[str, StageEstimate]:
    """The rows of a run's plan by stage; none where the plan does not know a model or the corpus, or for a comparison."""
    if type(cfg) is not RunConfig:
        return {}
    try:
        return {row.stage: row for row in estimate_stages(cfg, root, None)}
    except PlanError:
        return {}


def disk_bytes(rows: Mapping[str, StageEstimate], step: str, until_it_ends: bool = True) -> float:
    """Bytes of disk that one step takes while it runs, or that stay of it, and a tenth more; 0 where the plan does not say."""
    row = rows.get(step.rpartition("/")[2])
    if row is None or not row.count:
        return 0.0
    return 1.1 * row.disk / row.count + (row.scratch if until_it_ends else 0.0)


def gpu_bytes(what: Literal["memory.total", "memory.used"] = "memory.total") -> list[float]:
    """Memory of each GPU of this machine, asked of its driver: PyTorch would take a second to import."""
    try:
        return [float(line) * 2**20 for line in _ask_driver(what)]
    except ValueError:
        return []


def device_name() -> str:
    """Name of this machine's GPUs, or of its processor."""
    return ", ".join(sorted(set(_ask_driver("name")))) or platform.processor() or platform.machine()


def _ask_driver(what: str) -> list[str]:
    """A line for each GPU of this machine."""
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return []
    query = [program, f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip().splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def ram_bytes() -> float:
    """Memory of this machine, or of the container that this process is in; 0 where neither is known."""
    try:
        total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limit = Path("/sys/fs/cgroup/memory.max")
        bound = limit.read_text().strip() if limit.exists() else "max"
        return min(total, float(bound)) if bound != "max" else total
    except (OSError, ValueError):
        return 0.0
