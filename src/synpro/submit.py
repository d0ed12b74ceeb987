"""A run as a chain of Slurm jobs: each does the steps that need the same machines, and begins when the one before ended well.

Generation does not hold the nodes that pretraining needs. A job whose time is nearly over ends its step and queues itself
again, and the step carries on as it does when a run's command is given again.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synpro.config import ConfigError, RunConfig
from synpro.loop import outline
from synpro.run.step import is_done
from synpro.session import opened

Needs = Literal["cpu", "gpu", "workers", "rl", "all"]
"""A machine without a GPU, one GPU, a GPU for each Ray worker or each process of RL on one node, or all nodes and processes of
`machine`."""
WARNING = 300
"""Seconds before the end of its time at which a job is told, by USR1: a step has to be ended and a checkpoint written."""


class SubmitError(RuntimeError):
    """A chain that cannot be queued; the message says what Slurm said."""


@dataclass(frozen=True)
class Batch:
    """The steps of one job."""

    steps: tuple[str, ...]
    needs: Needs

    @property
    def name(self) -> str:
        """Of its first step, fit for a file and a job."""
        return self.steps[0].replace("/", "-")

    @property
    def about(self) -> str:
        """Its steps, for people."""
        return self.steps[0] if len(self.steps) == 1 else f"{self.steps[0]} to {self.steps[-1]}"


@dataclass(frozen=True)
class Slurm:
    """What a site asks for, beside what the config tells."""

    options: tuple[str, ...] = ()
    """Of every job, as `sbatch` takes them: `--account=mine`."""
    gpu_options: tuple[str, ...] = ()
    """Of the jobs that need a GPU: `--partition=gpu`."""
    gpus: bool = True
    """False: no GPU is asked for, the steps run on processors."""

    def __post_init__(self) -> None:
        for option in (*self.options, *self.gpu_options):
            if not option.startswith("-") or "\n" in option:
                raise SubmitError(f"{option!r} is no option of sbatch; write it as --option=--partition=gpu")


def needs(step: str, cfg: RunConfig) -> Needs:
    """What a step runs on."""
    kind = step.rpartition("/")[2]
    if kind == "prepare":
        return "cpu"
    machine = cfg.machine
    if kind.startswith("synthesize-") and machine.workers > 1 and not machine.address:  # a Ray of the job's own
        return "workers"
    if kind.startswith("train-") and machine.rl_processes > 1:
        return "rl"
    return "all" if kind == "pretrain" and machine.nodes * machine.processes > 1 else "gpu"


def batches(cfg: RunConfig, root: Path) -> list[Batch]:
    """The steps that are left to do, joined where neighbours need the same."""
    joined: list[Batch] = []
    for step in (s for s in outline(cfg) if not is_done(root, s)):
        here = needs(step, cfg)
        if joined and joined[-1].needs == here:
            joined[-1] = Batch((*joined[-1].steps, step), here)
        else:
            joined.append(Batch((step,), here))
    return joined


def write(cfg: RunConfig, runs: Path, slurm: Slurm) -> Path:
    """Claim the run directory, write its jobs and `submit.sh` into RUN/slurm, and give the path of that script.

    Raises what `synpro run` raises for a config that cannot start here, and ConfigError when nothing is left to do.
    """
    with opened(cfg, runs.resolve()) as root:
        left = batches(cfg, root)
        if not left:
            raise ConfigError(f"{root}: every step is done; `synpro report {root}` writes its report")
        folder = root / "slurm"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.sbatch"):
            old.unlink()
        chain = ["#!/bin/bash", f"# Queues what is left of run {cfg.name}, each job after the one before.", "set -euo pipefail"]
        chain.append('cd "$(dirname "${BASH_SOURCE[0]}")"')
        for number, batch in enumerate(left, start=1):
            script = folder / f"{number:02d}-{batch.name}.sbatch"
            about = f"job {number} of {len(left)} of run {cfg.name}: {batch.about}"
            script.write_text(job(cfg, batch, script, slurm, about, last=number == len(left)), encoding="utf-8")
            after = "" if number == 1 else '--dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes '
            chain += [f"job=$(sbatch --parsable {after}{script.name})", f'echo "{about}: Slurm job ${{job%%;*}}"']
        path = folder / "submit.sh"
        path.write_text("\n".join(chain) + "\n", encoding="utf-8")
        path.chmod(0o755)
    return path


def job(cfg: RunConfig, batch: Batch, script: Path, slurm: Slurm, about: str, *, last: bool) -> str:
    """The text of one job's script. The last one has no step to stop at: it ends with the report."""
    root = script.parent.parent
    machine = cfg.machine
    layouts = {"all": (machine.nodes, machine.processes), "workers": (1, machine.workers), "rl": (1, machine.rl_processes)}
    nodes, processes = layouts.get(batch.needs, (1, 1))
    options = [
        f"--job-name={cfg.name}-{script.stem}",
        f"--output={script.with_suffix('.log')}",
        "--open-mode=append",
        f"--chdir={Path.cwd()}",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        *slurm.options,
    ]
    if batch.needs != "cpu":
        options += [f"--gpus-per-node={processes}"] if slurm.gpus else []
        options += slurm.gpu_options
    options += ["--requeue", f"--signal=B:USR1@{WARNING}"]
    command = [sys.executable, "-m", "synpro.cli", "run", str(root / "config.toml"), "--runs", str(root.parent)]
    command += [] if last else ["--until", batch.steps[-1]]
    return "\n".join(
        [
            "#!/bin/bash",
            f"# Written by `synpro submit`; {about}.",
            *(f"#SBATCH {option}" for option in options),
            "",
            "again() {  # the time is nearly over: end the step, and queue this job again; it carries on",
            '    kill -TERM "$run" 2>/dev/null && wait "$run"',
            '    scontrol requeue "$SLURM_JOB_ID"',
            "    exit 1",
            "}",
            "trap again USR1",
            shlex.join(command) + " &",
            "run=$!",
            'wait "$run"',
            "",
        ]
    )


def queue(path: Path) -> list[str]:
    """Run `submit.sh`; what it printed, a line per job. Raises SubmitError with what Slurm said."""
    if shutil.which("sbatch") is None:
        raise SubmitError(f"sbatch is not on this machine; run {path} where Slurm is")
    done = subprocess.run([str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SubmitError(f"{path} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout.splitlines()


def submit(cfg: RunConfig, runs: Path, options: Sequence[str], gpu_options: Sequence[str], gpus: bool, now: bool) -> list[str]:
    """Write a run's chain of jobs, queue it if `now`, and give the lines to print. Raises as `write` and `queue`."""
    path = write(cfg, runs, Slurm(tuple(options), tuple(gpu_options), gpus))
    jobs = sorted(p.name for p in path.parent.glob("*.sbatch"))
    lines = [f"{len(jobs)} jobs in {path.parent}:", *(f"  {name}" for name in jobs)]
    return [*lines, *(queue(path) if now else [f"queue them with {path}"])]
