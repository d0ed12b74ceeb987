"""Tasks of a step, done here or by the workers of a Ray cluster: the same results, in whatever order they come.

A worker opens what does the tasks once (a generator, a rubric) and has one task at a time, so nothing piles up. A worker that
is lost is replaced, and its task is given out again.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Generic, Protocol, TypeVar

from synpro.run.launch import MachineConfig, environment

T = TypeVar("T")
R = TypeVar("R")
Task = TypeVar("Task", contravariant=True)
Result = TypeVar("Result", covariant=True)
LOSSES = 3
"""Workers that may be lost over one task; the next one stops the step, because the task is what kills them."""


class SpreadError(RuntimeError):
    """Work that cannot be spread, or that kills its workers; the message says what to do."""


class Doer(Protocol[Task, Result]):
    """Does tasks, with models that it holds open."""

    def __call__(self, task: Task, /) -> Result: ...
    def close(self) -> None: ...


class Maker(Protocol[Task, Result]):
    """Opens a doer. It travels to the worker, so it is plain data."""

    def open(self, progress: Callable[[float], None]) -> Doer[Task, Result]:
        """`progress` is told how many items of the task at hand are done; a worker elsewhere tells nobody."""
        ...


def spread(
    maker: Maker[T, R],
    tasks: Mapping[int, T],
    *,
    machine: MachineConfig,
    progress: Callable[[float], None],
    say: Callable[[str], None],
) -> Iterator[tuple[int, R]]:
    """The result of each task with its number, as they end. Raises what a task raises, and SpreadError."""
    if machine.launcher == "local" or not tasks:
        yield from _here(maker, tasks, progress)
    else:
        yield from _on_ray(maker, tasks.items(), machine, say)


def _here(maker: Maker[T, R], tasks: Mapping[int, T], progress: Callable[[float], None]) -> Iterator[tuple[int, R]]:
    doer: Doer[T, R] | None = None
    try:
        for number, task in tasks.items():
            doer = doer or maker.open(progress)
            yield number, doer(task)
    finally:
        if doer is not None:
            doer.close()


class _Worker:
    """Lives in a process of its own."""

    def __init__(self, maker: Maker[Any, Any]) -> None:
        from synpro.run.launch import die_with_parent

        die_with_parent()
        self.doer = maker.open(lambda done: None)

    def do(self, task: Any) -> Any:
        return self.doer(task)


def streamed(maker: Maker[T, R], tasks: Iterable[T], *, machine: MachineConfig, say: Callable[[str], None]) -> Iterator[R]:
    """The results of tasks in their order, by Ray's workers, which get no GPU for it. Tasks are taken as there is room: two for
    each worker are begun, or done and waiting for their turn. Raises as `spread`."""
    held: dict[int, R] = {}
    turn = 0
    with closing(_on_ray(maker, enumerate(tasks), machine, say, ahead=2 * machine.workers, gpu=False)) as done:
        for number, result in done:
            held[number] = result
            while turn in held:
                yield held.pop(turn)
                turn += 1


def _on_ray(
    maker: Maker[T, R],
    tasks: Iterable[tuple[int, T]],
    machine: MachineConfig,
    say: Callable[[str], None],
    ahead: int | None = None,
    gpu: bool = True,
) -> Generator[tuple[int, R]]:
    ray = _connected(machine)
    from ray.exceptions import RayActorError, RayTaskError

    gpus = 1 if gpu and ray.cluster_resources().get("GPU") else 0
    kind = ray.remote(num_cpus=machine.threads or 1, num_gpus=gpus, max_restarts=0)(_Worker)
    shared = ray.put(maker)  # once on each node, however many workers
    left, again, lost = _Left(tasks, ahead), deque[tuple[int, T]](), Counter[int]()
    idle, busy = list[Any](), dict[Any, tuple[Any, int, T]]()
    alive = 0
    try:
        while True:
            while idle or alive < machine.workers:
                oldest = min((number for _, number, _ in busy.values()), default=None)
                pair = again.popleft() if again else left.take(oldest)
                if pair is None:
                    break
                if not idle:
                    idle.append(kind.remote(shared))
                    alive += 1
                worker, (number, task) = idle.pop(), pair
                busy[worker.do.remote(task)] = worker, number, task
            if not busy:
                return
            [done], _ = ray.wait(list(busy), num_returns=1)
            worker, number, task = busy.pop(done)
            try:
                result = ray.get(done)
            except RayTaskError as problem:
                raise problem.cause or problem from None
            except RayActorError as problem:
                alive -= 1
                lost[number] += 1
                if lost[number] > LOSSES:
                    raise SpreadError(
                        f"task {number} has lost {lost[number]} workers; the usual cause is too little memory: lower the batch "
                        f"size of this stage, or machine.workers. Ray says: {problem}"
                    ) from None
                say(f"a worker was lost over task {number}; another one does it")
                again.append((number, task))
                continue
            idle.append(worker)
            yield number, result
    finally:
        ray.shutdown()


class _Left(Generic[T]):
    """Tasks that were not yet begun, taken one by one."""

    def __init__(self, tasks: Iterable[tuple[int, T]], ahead: int | None) -> None:
        self._tasks, self._ahead = iter(tasks), ahead
        self._next = 0

    def take(self, oldest: int | None) -> tuple[int, T] | None:
        """The next one; None when there is none, or while it would be `ahead` of the oldest that is not done."""
        if self._ahead is not None and oldest is not None and self._next - oldest >= self._ahead:
            return None
        pair = next(self._tasks, None)
        self._next += pair is not None
        return pair


def _connected(machine: MachineConfig) -> Any:
    """Ray, connected to the cluster that the config names, or to one of this machine's own. Raises SpreadError."""
    try:
        import ray
    except ImportError:
        raise SpreadError('machine.launcher = "ray", but Ray is not installed: pip install "synpro-lm[ray]"') from None
    keep = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED", "TOKENIZERS_PARALLELISM", "GOMP_SPINCOUNT")
    env = {name: value for name, value in environment(machine.threads, None).items() if name in keep}
    own: dict[str, Any] = (
        {} if machine.address else {"num_cpus": machine.workers * (machine.threads or 1), "include_dashboard": False}
    )
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no GPU asked for: what is visible stays visible
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray would put its workers behind whatever else the machine does
    try:
        ray.init(address=machine.address or None, log_to_driver=False, runtime_env={"env_vars": env}, **own)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise SpreadError(f"machine.address = {machine.address!r}: Ray cannot be reached there ({problem})") from problem
    return ray
