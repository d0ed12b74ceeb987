"""Starts a step in a process of its own, so that its memory goes back to the machine and a crash ends nothing else."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from synpro.runner.parent import die_with_parent
from synpro.runner.preloaded import Forked, Preloaded
from synpro.schema import setting

log = logging.getLogger(__name__)
MASTER_PORT = 29500
"""First of a thousand ports; the nodes of a job meet on the one that follows from the job's number."""
GRACE_SECONDS = 120.0
"""How long a step that is asked to end has before it is killed: a large model may have to be written."""
END = b"end\n"
"""Written into the progress pipe when the step has ended."""


class LaunchError(RuntimeError):
    """A step that cannot be started as its config says; the message says what is missing."""


@dataclass(frozen=True)
class MachineConfig:
    """Where and how wide steps run."""

    threads: int = setting(0, min=0, execution=True)
    """CPU threads per process; 0 takes all cores, divided among the processes on a machine. Another number may change the last
    bits of a result. `prepare` tokenizes in this many processes, which changes nothing."""
    processes: int = setting(1, min=1, execution=True)
    """Processes of `pretrain` on each node, one per GPU, started by torchrun when more than one."""
    nodes: int = setting(1, min=1, execution=True)
    """Machines that `pretrain` runs on. More than one only inside a Slurm job (`synpro submit` writes it), where `srun` starts
    it on each."""
    rl_processes: int = setting(1, min=1, execution=True)
    """Processes of `train_generator`, one per GPU of one machine, started by `accelerate launch` when more than one. Divides
    `train_generator.prompts_per_step`: the answers to a passage are generated, scored and learned from in one process."""
    launcher: Literal["local", "ray"] = setting("local", execution=True)
    """What runs the chunks of `synthesize`, and tokenizes a large corpus: the step's own process, or the workers of a Ray
    cluster."""
    workers: int = setting(1, min=1, execution=True)
    """Number of Ray workers. Each opens its own engine, and later its own judges, on a GPU where the cluster has any."""
    address: str = setting("", execution=True)
    """Address of a running Ray cluster (`auto`, `ray://HOST:10001`); empty takes that of the environment variable RAY_ADDRESS,
    and without one starts a cluster on this machine for the step."""
    gpus_per_node: int = setting(8, min=1, execution=True)
    """GPUs of one machine of the cluster: `synpro submit` asks for `workers / gpus_per_node` machines, rounded up, to generate
    text on."""
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = setting("none", execution=True)
    """Where metrics are sent besides `metrics.jsonl`, each step as a run of its own: TensorBoard (RUN/tensorboard), Weights &
    Biases, or trackio. Each is an extra of this name: `pip install ".[wandb]"`."""
    check_memory: bool = setting(True, execution=True)
    """Refuse to start where the plan says that a step needs more memory than this machine, or its GPU, has."""

    def __post_init__(self) -> None:
        if self.launcher == "local" and (self.workers > 1 or self.address):
            raise ValueError('workers: this key and address are for Ray; add launcher = "ray"')


LOCAL_MACHINE = MachineConfig()
"""One process on this machine."""


@dataclass(frozen=True)
class Usage:
    """What a process and its children used."""

    exit_code: int
    """Negative when a signal ended it: minus its number."""
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    """Largest resident memory of a single process."""


def torchrun_command(module: str, arguments: list[str], machine: MachineConfig) -> list[str]:
    """The command line of a step: plain Python for one process, torchrun for more, and torchrun by `srun` for more nodes.

    Raises LaunchError for more nodes outside a Slurm job, or in one that has fewer.
    """
    step = ["-m", module, *arguments]
    if machine.nodes == machine.processes == 1:
        return [sys.executable, *step]
    last = f"--shutdown-timeout={round(GRACE_SECONDS - 20)}"  # torchrun kills its workers before it would be killed itself
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={machine.processes}", last]
    if machine.nodes == 1:
        return [*torchrun, "--standalone", "--local-addr=127.0.0.1", *step]
    job, allocated = os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_JOB_NUM_NODES", "0"))
    if job is None or allocated < machine.nodes:
        where = "this is not a Slurm job" if job is None else f"this Slurm job has {allocated}"
        raise LaunchError(
            f"machine.nodes = {machine.nodes}, but {where}: start the run by `synpro submit CONFIG --slurm --now`, "
            "or set machine.nodes=1"
        )
    # Only a process knows which node it is on; torchrun reads PET_NODE_RANK as --node-rank. A job's script runs on its first
    # node, so rank 0 can write into this run's progress pipe.
    placed = f"--nodes={machine.nodes}", f"--ntasks={machine.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"
    meet = "export PET_NODE_RANK=$SLURM_NODEID PET_MASTER_ADDR=$SLURM_LAUNCH_NODE_IPADDR"
    port = f"--master-port={MASTER_PORT + int(job) % 1000}"
    nodes = [f"--nnodes={machine.nodes}", port]
    return ["srun", *placed, "bash", "-c", f'{meet}; exec "$@"', "synpro", *torchrun, *nodes, *step]


def rl_command(module: str, arguments: list[str], machine: MachineConfig) -> list[str]:
    """The command line of an RL step: plain Python for one process, `accelerate launch` for more.

    What is given here overrides the user's own configuration of `accelerate`, which is not part of the run's config.
    """
    if machine.rl_processes == 1:
        return [sys.executable, "-m", module, *arguments]
    settings = {
        "num_processes": machine.rl_processes,
        "num_machines": 1,
        "num_cpu_threads_per_process": machine.threads or usable_cores(),
        "mixed_precision": "no",  # TRL's arguments decide it
        "dynamo_backend": "no",
        "main_process_port": 0,  # any free port
    }
    # accelerate's name for several processes of torchrun; without a GPU they use gloo.
    options = ["--multi_gpu", *(f"--{name}={value}" for name, value in settings.items())]
    return [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", module, *arguments]


def usable_cores() -> int:
    """CPU cores that this process may use: a scheduler may have given it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(threads: int) -> dict[str, str]:
    """Environment variables of a step: a fixed thread count and hash seed (both can change results) and quiet libraries."""
    env = dict(os.environ)
    count = str(threads or usable_cores())
    env.update(OMP_NUM_THREADS=count, MKL_NUM_THREADS=count, PYTHONHASHSEED="0", TOKENIZERS_PARALLELISM="false")
    # Threads that spin for long while they wait slow a shared machine down; not spinning at all slows a free one (docs/LOG.md).
    if "OMP_WAIT_POLICY" not in env:
        env.setdefault("GOMP_SPINCOUNT", "20000")
    # Memory in pages of 2 MiB where Linux allows it (glibc 2.35 and later): weights that do not fit a core's cache are read
    # faster on a CPU. Not measured on machines with GPUs (docs/LOG.md, 2026-11-28).
    env.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    env.update(HF_HUB_DISABLE_TELEMETRY="1", TRANSFORMERS_NO_ADVISORY_WARNINGS="1", PYTHONUNBUFFERED="1")
    return env


def threads() -> int:
    """CPU threads that this step may use; 1 outside of a step."""
    given = os.environ.get("OMP_NUM_THREADS", "1")
    return int(given) if given.isdecimal() else 1


def launch(
    argv: list[str],
    log: Path,
    env: Mapping[str, str],
    on_event: Callable[[Mapping[str, Any]], None],
    preloaded: Preloaded | None = None,
) -> Usage:
    """Run a command in the environment `env`, its output appended to `log` and its progress events handed to `on_event`; end it
    when interrupted. `preloaded`: what steps are forked from where that is possible."""
    with tempfile.TemporaryDirectory(prefix="synpro-") as folder:
        # A named pipe, not a descriptor: torchrun closes what its workers would inherit.
        pipe = Path(folder) / "progress"
        os.mkfifo(pipe)
        with pipe.open("r+b", buffering=0) as pipe_end:  # open at both ends, so that neither side waits for the other
            reader = threading.Thread(target=_read_events, args=(pipe, on_event), daemon=True)
            reader.start()
            try:
                return _run(argv, log, {**env, "SYNPRO_PROGRESS": str(pipe)}, preloaded)
            finally:
                pipe_end.write(END)
                reader.join(timeout=5)


def _run(argv: list[str], log: Path, env: dict[str, str], preloaded: Preloaded | None) -> Usage:
    started, forked = time.monotonic(), preloaded.fork(argv, log, env) if preloaded else None
    pid = forked.pid if forked else _start(argv, log, env)
    _running[pid] = None
    try:
        code, cpu, peak = _wait(pid, forked)
    except BaseException:  # this process is interrupted
        _terminate(pid)
        with contextlib.suppress(ChildProcessError):  # it had ended when the interrupt came
            _wait(pid, forked)
        raise
    finally:
        if (killer := _running.pop(pid)) is not None:
            killer.cancel()
    return Usage(code, time.monotonic() - started, cpu, peak)


def _start(argv: list[str], log: Path, env: dict[str, str]) -> int:
    """Start a process that ends with this one, and return its id."""
    with log.open("ab") as output:
        tied = partial(die_with_parent, os.getpid())
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, preexec_fn=tied
        )
    process.returncode = 0  # it is reaped by `_wait`: Popen must not
    return process.pid


def _wait(pid: int, forked: Forked | None) -> tuple[int, float, int]:
    """Exit code, CPU seconds and peak memory of a step, once it has ended."""
    if forked:
        forked.ended.wait()
        return forked.exit_code, forked.cpu_seconds, forked.peak_rss_bytes
    _, status, used = os.wait4(pid, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * unit


_running: dict[int, threading.Timer | None] = {}
"""Process ids of the steps that run now, several where steps run in threads; with what will kill those asked to end."""


def _terminate(pid: int) -> None:
    """Ask a step to end, once, and kill it when it has not after GRACE_SECONDS."""
    if _running.get(pid, True) is not None:
        return
    killer = _running[pid] = threading.Timer(GRACE_SECONDS, os.kill, (pid, signal.SIGKILL))
    killer.daemon = True
    killer.start()
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(pid, signal.SIGTERM)


def end_running() -> None:
    """End the steps that other threads wait for: asked first, killed after a while. Returns when they are gone."""
    while running := list(_running):
        for pid in running:
            _terminate(pid)
        time.sleep(0.1)


def _read_events(pipe: Path, on_event: Callable[[Mapping[str, Any]], None]) -> None:
    """Hand events on until the step ends. A display that fails (a closed terminal) loses them, with one warning: a step whose
    pipe nobody reads would wait for ever."""
    failed = False
    with pipe.open("r", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.encode() == END:
                return
            try:
                event = json.loads(line)
            except json.JSONDecodeError:  # two workers wrote into one line; the next one is whole
                continue
            if isinstance(event, dict):
                try:
                    on_event(event)
                except Exception as problem:
                    if not failed:  # a closed terminal takes no warning either
                        log.warning("progress is not shown: %s: %s; the step goes on", type(problem).__name__, problem)
                    failed = True


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, for an error message; empty when there is no log."""
    if not log.exists():
        return ""
    with log.open(encoding="utf-8", errors="replace") as handle:
        return "".join(deque(handle, maxlen=lines))
