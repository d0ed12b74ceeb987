"""The processes that share the work of one step: each takes its shard, and what each made reaches all.

`torchrun` and `accelerate launch` start them; `init_distributed` joins them once, before any library does.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others in a collective operation: evaluation and checkpoints of one take minutes."""
EXIT_TIMEOUT = timedelta(minutes=5)
"""How long rank 0 waits for the other processes to reach the end of the step."""


def _only_mine(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of its step."""

    rank: int = 0
    size: int = 1
    all_gather_object: Callable[[Any], list[Any]] = _only_mine
    """Every process calls it with an object; each gets the objects of all, in the order of ranks."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the step's files."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> list[T]:
        """This process's contiguous part of `items`; each item falls to exactly one process."""
        return list(items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size])

    def all_gather(self, part: Sequence[T]) -> list[T]:
        """The parts of all processes, joined in the order of ranks: shards come back in the order of the whole."""
        return [item for one in self.all_gather_object(list(part)) for item in one]


SINGLE_PROCESS = ProcessGroup()
"""A step that runs in one process."""


def init_distributed() -> ProcessGroup:
    """Join the processes that `torchrun` or `accelerate launch` started; SINGLE_PROCESS where there is only one.

    OLMo-core and TRL find the group joined and use it. Run directories are taken to be on a file system that all processes
    share. PyTorch is only imported where there are several processes.
    """
    if not _is_one_of_several():
        return SINGLE_PROCESS
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        for name in ("OLMO_SHARED_FS", "TORCH_NCCL_AVOID_RECORD_STREAMS", "TORCH_DIST_INIT_BARRIER"):
            os.environ.setdefault(name, "1")  # as OLMo-core's own init_distributed does
        gpu = torch.cuda.is_available()
        if gpu:  # before the group, or every process would open a context on GPU 0
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=COLLECTIVE_TIMEOUT)
    size = dist.get_world_size()

    def all_gather_object(value: Any) -> list[Any]:
        found: list[Any] = [None] * size
        dist.all_gather_object(found, value)
        return found

    return ProcessGroup(dist.get_rank(), size, all_gather_object)


def final_barrier(group: ProcessGroup) -> None:
    """Wait until every process has reached the end of the step, and rank 0 until all others know that; then leave the group.

    Without the second part, rank 0 could exit while others still read from its connections. Raises torch's DistStoreError when
    a process does not arrive within EXIT_TIMEOUT after the others.
    """
    if group.size == 1:
        return
    import torch.distributed as dist

    dist.barrier()
    store = dist.distributed_c10d._get_default_store()  # torchrun's, which outlives the processes
    if group.rank:
        store.set(f"left/{group.rank}", "")
    else:
        store.wait([f"left/{rank}" for rank in range(1, group.size)], EXIT_TIMEOUT)
    dist.destroy_process_group()


def exit_process(code: int = 0) -> None:
    """Where this process is one of several, end it here: in the rest of Python's shutdown, threads of the group, which outlive
    it, abort a process now and then."""
    if _is_one_of_several():
        end_process(code)


def end_process(code: int) -> NoReturn:
    """End this process without the rest of Python's shutdown: threads end, exit hooks run and output is flushed, but files that
    are still open lose what they have not written. A negative code ends it by that signal."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _is_one_of_several() -> bool:
    return int(os.environ.get("WORLD_SIZE") or 1) > 1
