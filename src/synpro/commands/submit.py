"""`synpro submit`: a run as a chain of Slurm jobs. Each runs the steps that need the same machines, and starts when the job
before it has succeeded.

So generation does not hold the nodes that pretraining needs. A job whose time is nearly over ends its step and queues itself
again, and the step resumes as it does when a run's command is given again.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synpro.commands.execution import locked_run_dir
from synpro.config import ConfigError, RunConfig
from synpro.outline import outline
from synpro.runner.artifacts import finished

Resources = Literal["cpu", "gpu", "workers", "rl", "all"]
"""What a job asks for: a machine without a GPU, one GPU, a GPU for each Ray worker (on as many nodes as hold them) or each
process of RL on one node, or all nodes and processes of `machine`."""
CPU_JOB_CPUS, CPU_JOB_GIB = 16, 64
"""What a job without a GPU asks for: `prepare` tokenizes in as many processes as it has threads."""
RAY_PORT = 26000
"""First of a thousand ports, as `MASTER_PORT` in runner/launch.py."""
WARNING_SECONDS = 300
"""How long before the end of its time a job gets USR1: its step has to end, and a checkpoint may have to be written."""


class SubmitError(RuntimeError):
    """A chain of jobs that cannot be queued; the message repeats what Slurm said."""


@dataclass(frozen=True)
class Batch:
    """The steps of one job."""

    steps: tuple[str, ...]
    resources: Resources

    @property
    def name(self) -> str:
        """The name of its first step, fit for a file and a job."""
        return self.steps[0].replace("/", "-")

    @property
    def description(self) -> str:
        """Its steps, for people."""
        return self.steps[0] if len(self.steps) == 1 else f"{self.steps[0]} to {self.steps[-1]}"


@dataclass(frozen=True)
class SlurmOptions:
    """What a site needs to know beside the config."""

    options: tuple[str, ...] = ()
    """Options of every job, as `sbatch` takes them: `--account=mine`."""
    gpu_options: tuple[str, ...] = ()
    """Further options of the jobs that need a GPU: `--partition=gpu`."""
    gpus: bool = True
    """Whether to ask for GPUs; False runs the steps on CPUs."""
    time: str = "24:00:00"
    """Longest time of a job, as `sbatch` takes it. A step that needs longer is carried on by the next one, if it can be."""
    cpus_per_gpu: int = 8
    """Cores for each GPU: those of a process that trains, or of a Ray worker."""
    gib_per_gpu: int = 96
    """Memory of the machine for each GPU, GiB."""

    def __post_init__(self) -> None:
        for option in (*self.options, *self.gpu_options):
            if not option.startswith("-") or "\n" in option:
                raise SubmitError(f"{option!r} is not an option of sbatch; write it as --option=--partition=gpu")


def resources_of(step: str, cfg: RunConfig) -> Resources:
    """What a step runs on."""
    kind = step.rpartition("/")[2]
    if kind == "prepare":
        return "cpu"
    machine = cfg.machine
    if kind.startswith("synthesize-") and machine.workers > 1 and not machine.address:  # the job starts its own Ray
        return "workers"
    if kind.startswith("train-") and machine.rl_processes > 1:
        return "rl"
    return "all" if kind == "pretrain" and machine.nodes * machine.processes > 1 else "gpu"


def batches(cfg: RunConfig, root: Path) -> list[Batch]:
    """The steps that are not done, neighbours with the same resources in one batch."""
    joined: list[Batch] = []
    for step in (s for s in outline(cfg) if not finished(root / s)):
        resources = resources_of(step, cfg)
        if joined and joined[-1].resources == resources:
            joined[-1] = Batch((*joined[-1].steps, step), resources)
        else:
            joined.append(Batch((step,), resources))
    return joined


def write_jobs(cfg: RunConfig, runs: Path, slurm: SlurmOptions) -> Path:
    """Write the jobs of what is left of a run, and `submit.sh`, into RUN/slurm: the path of that script.

    Raises what `synpro run` raises for a config that cannot start here, and ConfigError when nothing is left to do.
    """
    with locked_run_dir(cfg, runs.resolve(), elsewhere=True) as root:
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
            title = f"job {number} of {len(left)} of run {cfg.name}: {batch.description}"
            script.write_text(job_script(cfg, batch, script, slurm, title, last=number == len(left)), encoding="utf-8")
            after = "" if number == 1 else '--dependency="afterok:${job%%;*}" --kill-on-invalid-dep=yes '
            chain += [f"job=$(sbatch --parsable {after}{script.name})", f'echo "{title}: Slurm job ${{job%%;*}}"']
        path = folder / "submit.sh"
        path.write_text("\n".join(chain) + "\n", encoding="utf-8")
        path.chmod(0o755)
    return path


def job_script(cfg: RunConfig, batch: Batch, script: Path, slurm: SlurmOptions, title: str, *, last: bool) -> str:
    """The text of one job's script. The last job has no step to end after: it ends with the report."""
    root = script.parent.parent
    nodes, gpus = shape(cfg, batch.resources)
    cpus, memory = (slurm.cpus_per_gpu * gpus, slurm.gib_per_gpu * gpus) if gpus else (CPU_JOB_CPUS, CPU_JOB_GIB)
    options = [
        f"--job-name={cfg.name}-{script.stem}",
        f"--output={script.with_suffix('.log')}",
        "--open-mode=append",
        f"--chdir={Path.cwd()}",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={cpus}",
        f"--mem={memory}G",
        f"--time={slurm.time}",
        *slurm.options,
    ]
    if gpus:
        options += [f"--gpus-per-node={gpus}"] if slurm.gpus else []
        options += slurm.gpu_options
    options += ["--requeue", f"--signal=B:USR1@{WARNING_SECONDS}"]
    command = [sys.executable, "-m", "synpro.cli", "run", str(root / "config.toml"), "--runs", str(root.parent)]
    command += [] if last else ["--until", batch.steps[-1]]
    return "\n".join(
        [
            "#!/bin/bash",
            f"# Written by `synpro submit`; {title}.",
            *(f"#SBATCH {option}" for option in options),
            "",
            'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # srun does not take it over by itself',
            *(ray_lines(nodes) if batch.resources == "workers" and nodes > 1 else []),
            "again() {  # the time is nearly over: end the step, and queue this job again; it resumes",
            '    kill -TERM "$run" 2>/dev/null; wait "$run"; local code=$?',
            "    [ $code = 130 ] || exit $code  # done meanwhile, or it made no progress since the time before",
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


def shape(cfg: RunConfig, resources: Resources) -> tuple[int, int]:
    """Nodes of a job, and GPUs of each."""
    machine = cfg.machine
    match resources:
        case "cpu":
            return 1, 0
        case "all":
            return machine.nodes, machine.processes
        case "workers":
            nodes = -(-machine.workers // machine.gpus_per_node)
            return nodes, -(-machine.workers // nodes)
        case "rl":
            return 1, machine.rl_processes
    return 1, 1


def ray_lines(nodes: int) -> list[str]:
    """Lines of a script that start Ray on every node of its job; the steps find it by RAY_ADDRESS."""
    ray = shlex.join([sys.executable, "-m", "ray.scripts.scripts"])
    up = '(exec 3<> "/dev/tcp/${RAY_ADDRESS%:*}/${RAY_ADDRESS#*:}") 2> /dev/null'
    return [
        f'export RAY_ADDRESS="$(hostname -I | cut -d" " -f1):$(({RAY_PORT} + SLURM_JOB_ID % 1000))"',
        "export RAY_AUTH_MODE=token  # nobody else on the cluster may run code here",
        "export RAY_AUTH_TOKEN=\"$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')\"",
        f"srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 bash -c '",
        '    if [ "$SLURM_NODEID" = 0 ]; then',
        f'        exec {ray} start --head --port="${{RAY_ADDRESS#*:}}" --include-dashboard=false --block',
        "    fi",
        f"    until {up}; do sleep 1; done",
        f'    exec {ray} start --address="$RAY_ADDRESS" --block\' > "$SLURM_JOB_NAME.ray.log" 2>&1 &',
        "nodes=$!",
        "trap 'kill \"$nodes\"' EXIT",
        f'until {up}; do kill -0 "$nodes" || exit 1; sleep 1; done',
    ]


def queue_jobs(path: Path) -> list[str]:
    """Run `submit.sh`: what it printed, a line per job. Raises SubmitError with what Slurm said."""
    if shutil.which("sbatch") is None:
        raise SubmitError(f"sbatch is not on this machine; run {path} where Slurm is")
    done = subprocess.run([str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SubmitError(f"{path} ended with exit code {done.returncode}:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout.splitlines()


def submit(cfg: RunConfig, runs: Path, slurm: SlurmOptions, now: bool) -> list[str]:
    """Write a run's chain of jobs, queue it if `now`: lines that say what was written or queued.

    Raises as `write_jobs` and `queue_jobs`.
    """
    path = write_jobs(cfg, runs, slurm)
    jobs = sorted(p.name for p in path.parent.glob("*.sbatch"))
    lines = [f"{len(jobs)} jobs in {path.parent}:", *(f"  {name}" for name in jobs)]
    return [*lines, *(queue_jobs(path) if now else [f"queue them with {path}"])]
