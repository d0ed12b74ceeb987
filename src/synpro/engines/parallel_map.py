"""A function over many tasks, in this process or by the workers of a Ray cluster: the same results either way.

A worker opens what does the tasks once (a generator, a rubric) and has one task at a time, so nothing piles up. Workers are Ray
actors: Ray restarts one whose process is lost and does its task again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol, TypeVar

from synpro.plugins import load_files, loaded_files
from synpro.runner.launch import MachineConfig, environment, usable_cores

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")
Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)
Log = Callable[[str], None]
Opened = Callable[[float, float], None]
"""Told once, when the first worker is known to be open: seconds that it took, and for how many seconds it has worked since."""
MAX_WORKER_RESTARTS = 3
"""Workers that may be lost over one task; one more stops the step, because the task is what kills them."""
STALL_SECONDS = 300.0
"""If no task has ended for so long while a worker is idle, the idle worker is given up: its place may be the only one left for
a worker whose machine is gone."""


class ParallelMapError(RuntimeError):
    """Ray cannot be used, or a task kills its workers; the message says what to do."""


class Worker(Protocol[Task, Result]):
    """Does tasks, with models that it holds open."""

    def __call__(self, task: Task, /) -> Result: ...
    def close(self) -> None: ...


class WorkerFactory(Protocol[Task, Result]):
    """Opens a worker. It is sent to the worker's process, so it is plain data."""

    def open(self, progress: Callable[[float], None]) -> Worker[Task, Result]:
        """`progress` is called with the number of items of the current task that are done; by a worker elsewhere, never."""
        ...


def parallel_map(
    factory: WorkerFactory[T, R],
    tasks: Iterable[tuple[K, T]],
    *,
    machine: MachineConfig,
    progress: Callable[[float], None],
    log: Log,
    on_open: Opened = lambda seconds, ago: None,
) -> Iterator[tuple[K, R]]:
    """(name, result) of each task, in the order in which they end. A task is taken when a worker is free: an iterator that has
    ended is asked again after each result, which may have made more. Raises what a task raises, and ParallelMapError."""
    if machine.launcher == "local":
        yield from _here(factory, tasks, progress, on_open)
    else:
        yield from _on_ray(factory, tasks, machine, log, on_open=on_open)


def ordered_map(factory: WorkerFactory[T, R], tasks: Iterable[T], *, machine: MachineConfig, log: Log) -> Iterator[R]:
    """The results of tasks in their order, by Ray workers without a GPU. Tasks are taken from the iterable as there is room: at
    most two per worker are begun, or done and waiting for their turn. Raises as `parallel_map`."""
    waiting: dict[int, R] = {}
    turn = 0
    with closing(_on_ray(factory, enumerate(tasks), machine, log, look_ahead=2 * machine.workers, gpu=False)) as done:
        for number, result in done:
            waiting[number] = result
            while turn in waiting:
                yield waiting.pop(turn)
                turn += 1


def _here(
    factory: WorkerFactory[T, R], tasks: Iterable[tuple[K, T]], progress: Callable[[float], None], on_open: Opened
) -> Iterator[tuple[K, R]]:
    worker: Worker[T, R] | None = None
    try:
        for name, task in tasks:
            if worker is None:
                began = time.monotonic()
                worker = factory.open(progress)
                on_open(time.monotonic() - began, 0.0)
            yield name, worker(task)
    finally:
        if worker is not None:
            worker.close()


class _Actor:
    """A worker in a process of its own. Its answers carry the process id, which tells whether Ray has restarted it, and the
    seconds that the task took."""

    def __init__(self, files: Sequence[str], factory: bytes) -> None:
        from synpro.runner.launch import die_with_parent

        die_with_parent()
        self.files, self.factory = files, factory
        self.worker: Worker[Any, Any] | None = None

    def run(self, task: Any) -> tuple[int, float, Any]:
        if self.worker is None:  # here and not above, so that what opening raises is an error of the task
            from ray import cloudpickle

            load_files(self.files)  # first: the factory may hold an engine of theirs
            self.worker = cloudpickle.loads(self.factory).open(lambda done: None)
        began = time.monotonic()
        result = self.worker(task)
        return os.getpid(), time.monotonic() - began, result

    def process(self) -> int:
        return os.getpid()


def _on_ray(
    factory: WorkerFactory[T, R],
    tasks: Iterable[tuple[K, T]],
    machine: MachineConfig,
    log: Log,
    look_ahead: int | None = None,
    gpu: bool = True,
    on_open: Opened = lambda seconds, ago: None,
) -> Generator[tuple[K, R]]:
    began, reported = time.monotonic(), False
    queue, taken = iter(tasks), 0
    first = next(queue, None)
    if first is None:
        return
    ray = _connect(machine)
    from ray import cloudpickle
    from ray.exceptions import RayActorError, RayTaskError

    gpus = 1 if gpu and ray.cluster_resources().get("GPU") else 0
    resources = {"num_cpus": machine.threads or 1, "num_gpus": gpus}
    Actor = ray.remote(**resources, max_restarts=-1, max_task_retries=MAX_WORKER_RESTARTS)(_Actor)
    shared = ray.put(cloudpickle.dumps(factory))  # once on each node, however many workers
    idle: list[Any] = []
    busy: dict[Any, tuple[Any, int, K]] = {}  # by the reference of a result: worker, place and name of the task
    processes: dict[Any, Any] = {}  # by worker: the reference of its first process id
    try:
        while True:
            while idle or len(busy) < machine.workers:
                blocked = look_ahead is not None and busy and taken - min(at for _, at, _ in busy.values()) >= look_ahead
                pair = first if not taken else None if blocked else next(queue, None)
                if pair is None:
                    break
                if not idle:
                    idle.append(worker := Actor.remote(loaded_files(), shared))
                    processes[worker] = worker.process.remote()
                worker, (name, task) = idle.pop(), pair
                busy[worker.run.remote(task)] = worker, taken, name
                taken += 1
            if not busy:
                return
            done, _ = ray.wait(list(busy), num_returns=1, timeout=STALL_SECONDS if idle else None)
            if not done:
                processes.pop(idle.pop())  # an actor without a handle ends
                continue
            worker, _, name = busy.pop(done[0])
            try:
                process, took, result = ray.get(done[0])
                if process != ray.get(processes[worker]):
                    log(f"a worker was lost over task {name} or one before it; Ray has restarted it")
                    processes[worker] = ray.put(process)
            except RayTaskError as problem:
                raise problem.cause or problem from None
            except RayActorError as problem:
                raise ParallelMapError(
                    f"task {name} has lost {MAX_WORKER_RESTARTS + 1} workers; the usual cause is too little memory: lower "
                    f"the batch size of this stage, or machine.workers. Ray says: {problem}"
                ) from None
            idle.append(worker)
            if not reported:
                reported = True
                on_open(time.monotonic() - began - took, took)
            yield name, result
    finally:
        ray.shutdown()


def _connect(machine: MachineConfig) -> Any:
    """Ray, connected to the cluster that the config names, or to one of this machine's own. Raises ParallelMapError."""
    try:
        import ray
    except ImportError:
        raise ParallelMapError(
            "machine.launcher = \"ray\", but Ray is not installed: pip install '.[ray]' in SynPro's checkout"
        ) from None
    keep = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "PYTHONHASHSEED",
        "TOKENIZERS_PARALLELISM",
        "GOMP_SPINCOUNT",
        "GLIBC_TUNABLES",
    )
    address = machine.address or os.environ.get("RAY_ADDRESS", "")
    threads = machine.threads or max(1, usable_cores() // min(machine.workers, machine.gpus_per_node))
    env = {name: value for name, value in environment(threads).items() if name in keep}
    own: dict[str, Any] = {} if address else {"num_cpus": machine.workers * (machine.threads or 1), "include_dashboard": False}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no GPU asked for: what is visible stays visible
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would put its workers behind whatever else the machine does
    try:
        ray.init(address=address or "local", log_to_driver=False, runtime_env={"env_vars": env}, **own)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise ParallelMapError(f"machine.address = {address!r}: Ray cannot be reached there ({problem})") from problem
    return ray
