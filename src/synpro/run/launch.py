"""A step in a process of its own: its memory goes back to the machine, and a crash of it is only its own."""

from __future__ import annotations

import contextlib
import json
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

PR_SET_PDEATHSIG = 1
MASTER_PORT = 29500
"""First of the thousand ports on which the nodes of a job meet; which one follows from the job's number."""
GRACE = 120.0
"""Seconds a step that is told to end has before it is killed: a large model may have to be written."""
WORKERS = "SYNPRO_WORKERS"
"""Environment variable that tells a step who does its chunks."""
END = b"end\n"
"""Written into the progress pipe when the step is over."""


class LaunchError(RuntimeError):
    """A step that cannot be started as its config says; the message says what is missing."""


@dataclass(frozen=True)
class MachineConfig:
    """Where steps run."""

    threads: int = 0
    """CPU threads per process; 0 takes all cores. Part of the result: another number may change the last bits. So many
    processes tokenize in `prepare`, which changes nothing."""
    processes: int = 1
    """Processes of `pretrain` on each node, one per GPU, started by torchrun when more than one."""
    nodes: int = 1
    """Machines that `pretrain` runs on. More than one only inside a Slurm job (`synpro submit` writes it), which `srun` spreads
    them over."""
    rl_processes: int = 1
    """Processes of `train_generator`, one per GPU of one machine, started by `accelerate launch` when more than one. Divides
    `train_generator.prompts_per_step`: the answers to a passage are written, scored and learned from in one process."""
    launcher: Literal["local", "ray"] = "local"
    """Who does the chunks of `synthesize`, and tokenizes a large corpus: the step's own process, or the workers of a Ray
    cluster."""
    workers: int = 1
    """Ray workers, each with an engine, and later with judges, of its own; a GPU each where the cluster has any."""
    address: str = ""
    """Of a running Ray cluster (`auto`, `ray://HOST:10001`); empty starts one on this machine for the step."""

    @classmethod
    def here(cls) -> MachineConfig:
        """Of the step that this process is: what the run was given, without what it does not concern."""
        return cls(**json.loads(os.environ.get(WORKERS, "{}")))

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers: {self.workers} do nothing; use 1 or more")
        if self.launcher == "local" and (self.workers > 1 or self.address):
            raise ValueError('workers: and address are for Ray; add launcher = "ray"')
        if self.threads < 0 or self.processes < 1 or self.rl_processes < 1:
            raise ValueError("processes: at least one process (and of rl_processes), and threads of 0 (all cores) or more")
        if self.nodes < 1:
            raise ValueError("nodes: at least one")


ALONE = MachineConfig()
"""One process on this machine: most steps."""


@dataclass(frozen=True)
class Usage:
    """What a process and its children took."""

    exit_code: int
    """Negative: ended by that signal."""
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    """Largest resident memory of a single process."""


def die_with_parent(parent: int | None = None) -> None:
    """Ask Linux to end this process when its parent ends, so that a killed run leaves nothing writing behind it; end it now if
    `parent`, a process id, is its parent no more."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent not in (None, os.getppid()):
            os._exit(1)


def command(module: str, arguments: list[str], machine: MachineConfig) -> list[str]:
    """The command line of a step: plain Python for one process, torchrun for more, and torchrun by `srun` for more nodes.

    Raises LaunchError for more nodes outside a Slurm job, or in one that has fewer.
    """
    step = ["-m", module, *arguments]
    if machine.nodes == machine.processes == 1:
        return [sys.executable, *step]
    last = f"--shutdown-timeout={round(GRACE - 20)}"  # torchrun kills its workers before it would be killed itself
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={machine.processes}", last]
    if machine.nodes == 1:
        return [*torchrun, "--standalone", "--local-addr=127.0.0.1", *step]
    job, held = os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_JOB_NUM_NODES", "0"))
    if job is None or held < machine.nodes:
        where = "this is no Slurm job" if job is None else f"this Slurm job has {held}"
        raise LaunchError(
            f"machine.nodes = {machine.nodes}, but {where}: start the run by `synpro submit CONFIG --submit`, "
            "or set machine.nodes=1"
        )
    # Which node a process is on, only the process knows; torchrun reads PET_NODE_RANK as --node-rank. A job's script runs on
    # its first node, so rank 0 can write into this run's progress pipe.
    spread = f"--nodes={machine.nodes}", f"--ntasks={machine.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"
    meet = "export PET_NODE_RANK=$SLURM_NODEID PET_MASTER_ADDR=$SLURM_LAUNCH_NODE_IPADDR"
    port = f"--master-port={MASTER_PORT + int(job) % 1000}"
    nodes = [f"--nnodes={machine.nodes}", port]
    return ["srun", *spread, "bash", "-c", f'{meet}; exec "$@"', "synpro", *torchrun, *nodes, *step]


def rl_command(module: str, arguments: list[str], machine: MachineConfig) -> list[str]:
    """The command line of an RL step: plain Python for one process, `accelerate launch` for more.

    A configuration of `accelerate` that the user has is not read for what is said here: it is no part of the run's config.
    """
    if machine.rl_processes == 1:
        return [sys.executable, "-m", module, *arguments]
    said = {
        "num_processes": machine.rl_processes,
        "num_machines": 1,
        "num_cpu_threads_per_process": machine.threads or os.cpu_count() or 1,
        "mixed_precision": "no",  # TRL's arguments say it
        "dynamo_backend": "no",
        "main_process_port": 0,  # any that is free
    }
    # `--multi_gpu` is its name for several processes of torchrun; without a GPU they are gloo's.
    options = ["--multi_gpu", *(f"--{name}={value}" for name, value in said.items())]
    return [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", module, *arguments]


def environment(threads: int, progress: Path | None, workers: MachineConfig | None = None) -> dict[str, str]:
    """The variables a step sees: a fixed thread count and hash seed (both can change results), quiet libraries, and who does
    its chunks."""
    env = {name: value for name, value in os.environ.items() if name != WORKERS}
    if workers is not None:
        env[WORKERS] = json.dumps({k: getattr(workers, k) for k in ("threads", "launcher", "workers", "address")})
    count = str(threads or os.cpu_count() or 1)
    env.update(OMP_NUM_THREADS=count, MKL_NUM_THREADS=count, PYTHONHASHSEED="0", TOKENIZERS_PARALLELISM="false")
    # Threads that wait by spinning for long make a shared machine crawl; not spinning at all slows a free one (docs/LOG.md).
    if "OMP_WAIT_POLICY" not in env:
        env.setdefault("GOMP_SPINCOUNT", "20000")
    env.update(HF_HUB_DISABLE_TELEMETRY="1", TRANSFORMERS_NO_ADVISORY_WARNINGS="1", PYTHONUNBUFFERED="1")
    if progress is not None:
        env["SYNPRO_PROGRESS"] = str(progress)
    return env


def threads() -> int:
    """CPU threads that the step which this process is may use; 1 outside of a step."""
    given = os.environ.get("OMP_NUM_THREADS", "1")
    return int(given) if given.isdecimal() else 1


def launch(
    argv: list[str],
    log: Path,
    threads: int,
    on_event: Callable[[Mapping[str, Any]], None],
    workers: MachineConfig | None = None,
) -> Usage:
    """Run a command, its output appended to `log`, its progress events handed to `on_event`. Ends it when interrupted."""
    with tempfile.TemporaryDirectory(prefix="synpro-") as folder:
        # A named pipe, not a descriptor: torchrun closes what its workers would inherit.
        pipe = Path(folder) / "progress"
        os.mkfifo(pipe)
        with pipe.open("r+b", buffering=0) as ours:  # held open at both ends, so that nobody waits for the other side
            reader = threading.Thread(target=_read_events, args=(pipe, on_event), daemon=True)
            reader.start()
            try:
                return _run(argv, log, environment(threads, pipe, workers))
            finally:
                ours.write(END)
                reader.join(timeout=5)


def _run(argv: list[str], log: Path, env: dict[str, str]) -> Usage:
    started, tied = time.monotonic(), partial(die_with_parent, os.getpid())
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=env, preexec_fn=tied
        )
    _running.add(process.pid)
    try:
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    finally:
        _running.discard(process.pid)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    seconds = time.monotonic() - started
    return Usage(process.returncode, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * unit)


_running: set[int] = set()
"""Process ids of the steps that run now; more than one where steps are done in threads."""


def end_running() -> None:
    """End the steps that other threads wait for: asked first, killed after a while. Returns when they are gone."""
    began, asked = time.monotonic(), set[int]()
    while running := list(_running):
        late = time.monotonic() - began > GRACE
        for pid in running if late else [p for p in running if p not in asked]:
            asked.add(pid)
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.2)


def _read_events(pipe: Path, on_event: Callable[[Mapping[str, Any]], None]) -> None:
    with pipe.open("r", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.encode() == END:
                return
            try:
                event = json.loads(line)
            except json.JSONDecodeError:  # two workers wrote into each other's line; the next one is whole
                continue
            if isinstance(event, dict):
                on_event(event)


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, for an error message."""
    if not log.exists():
        return ""
    with log.open(encoding="utf-8", errors="replace") as handle:
        return "".join(deque(handle, maxlen=lines))
