"""Tasks over workers: the same results as in this process, lost workers restarted, errors in their own words."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from synpro.engines.base import EngineError
from synpro.engines.parallel_map import ParallelMapError, _Actor, ordered_map, parallel_map
from synpro.runner.launch import MachineConfig

RAY = MachineConfig(threads=1, launcher="ray", workers=2)


@dataclass(frozen=True)
class Squares:
    """Squares numbers; one kills the worker until `folder` holds enough marks, one cannot be squared, one takes long."""

    folder: Path
    deadly: int = -1
    lives: int = 0
    bad: int = -1
    slow: int = -1
    shut: bool = False

    def open(self, progress: Callable[[float], None]) -> Squaring:
        if self.shut:
            raise EngineError("the model does not open")
        return Squaring(self)


class Squaring:
    def __init__(self, about: Squares) -> None:
        self.about = about
        (about.folder / "began-with").write_bytes(Path("/proc/self/environ").read_bytes())

    def __call__(self, number: int, /) -> tuple[int, int]:
        if number == self.about.bad:
            raise ZeroDivisionError(f"{number} cannot be squared")
        if number == self.about.slow:
            time.sleep(3)
        marks = len(list(self.about.folder.glob("mark-*")))
        if number == self.about.deadly and marks < self.about.lives:
            (self.about.folder / f"mark-{marks}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, os.getpid()

    def close(self) -> None:
        (self.about.folder / "closed").touch()


LOST = "a worker was lost over task 3 or one before it; Ray has restarted it"


def done(squares: Squares, machine: MachineConfig, said: list[str] | None = None) -> dict[int, tuple[int, int]]:
    say = (said if said is not None else []).append
    told: list[tuple[float, float]] = []
    tell = lambda *seconds: told.append(seconds)  # noqa: E731
    tasks = {n: n for n in range(8)}
    found = dict(parallel_map(squares, tasks.items(), machine=machine, progress=lambda part: None, log=say, on_open=tell))
    ((seconds, ago),) = told
    assert seconds >= 0 and (ago == 0 if machine.launcher == "local" else 0 <= ago < 3), "opening is told once, work is not it"
    return found


def test_here_the_worker_is_opened_when_it_is_needed_and_closed(tmp_path: Path) -> None:
    assert [n for n, _ in done(Squares(tmp_path), MachineConfig()).values()] == [n * n for n in range(8)]
    assert (tmp_path / "closed").exists()
    (tmp_path / "closed").unlink()
    assert dict(parallel_map(Squares(tmp_path), [], machine=RAY, progress=print, log=print)) == {}
    assert not (tmp_path / "closed").exists()


def test_workers_give_the_same_and_one_that_is_lost_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    found = done(Squares(tmp_path, deadly=3, lives=1), RAY, said)
    assert {n: square for n, (square, _) in found.items()} == {n: n * n for n in range(8)}
    assert os.getpid() not in {pid for _, pid in found.values()} and len({pid for _, pid in found.values()}) >= 2
    assert said == [LOST]
    began_with = (tmp_path / "began-with").read_bytes().split(b"\0")
    assert {b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1", b"OMP_NUM_THREADS=1"} <= set(began_with), "as steps have them"


def test_a_task_that_kills_every_worker_stops_the_step(tmp_path: Path) -> None:
    with pytest.raises(ParallelMapError, match=r"task 3 has lost 4 workers; the usual cause is too little memory"):
        done(Squares(tmp_path, deadly=3, lives=99), RAY)


def test_an_error_of_a_task_is_the_one_it_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="5 cannot be squared"):
        done(Squares(tmp_path, bad=5), RAY)
    with pytest.raises(EngineError, match="does not open"):
        done(Squares(tmp_path, shut=True), RAY)


def test_a_file_of_ones_own_that_is_not_there_is_an_error_of_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synpro.runner.launch.die_with_parent", lambda: None)  # this process is no worker
    worker = _Actor(["nowhere.py"], b"")  # Ray would call an error here a lost worker
    with pytest.raises(ValueError, match=r"'nowhere\.py' is no Python file"):
        worker.run(1)


def test_an_idle_worker_makes_room_when_nothing_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synpro.engines.parallel_map.STALL_SECONDS", 0.5)
    found = list(ordered_map(Squares(tmp_path, slow=0), range(9), machine=RAY, log=print))
    assert [square for square, _ in found] == [n * n for n in range(9)]
    assert len({pid for _, pid in found}) == 3, "one was given up while the first task was slow, and another one opened later"


def test_ordered_results_come_in_order_and_tasks_are_taken_as_there_is_room(tmp_path: Path) -> None:
    taken, given, said, most = 0, list[int](), list[str](), 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    for square, _ in ordered_map(Squares(tmp_path, deadly=3, lives=1), tasks(), machine=RAY, log=said.append):
        most = max(most, taken - len(given))
        given.append(square)
    assert given == [n * n for n in range(40)] and taken == 40
    assert most <= 2 * RAY.workers and said == [LOST]
    assert list(ordered_map(Squares(tmp_path), [], machine=RAY, log=said.append)) == []


def test_without_ray_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ParallelMapError, match=r"pip install .\.\[ray\]"):
        done(Squares(tmp_path), RAY)


def test_workers_are_for_ray() -> None:
    with pytest.raises(ValueError, match="are for Ray"):
        MachineConfig(workers=2)
