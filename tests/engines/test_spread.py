"""Tasks spread over workers: the same results as here, lost workers replaced, errors in their own words."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from synpro.engines.spread import SpreadError, spread, streamed
from synpro.run.launch import WORKERS, MachineConfig, environment

RAY = MachineConfig(threads=1, launcher="ray", workers=2)


@dataclass(frozen=True)
class Squares:
    """Squares numbers; one of them kills the worker until `folder` holds enough marks, one cannot be squared."""

    folder: Path
    deadly: int = -1
    lives: int = 0
    bad: int = -1

    def open(self, progress: Callable[[float], None]) -> Squaring:
        return Squaring(self)


class Squaring:
    def __init__(self, about: Squares) -> None:
        self.about = about

    def __call__(self, number: int, /) -> tuple[int, int]:
        if number == self.about.bad:
            raise ZeroDivisionError(f"{number} cannot be squared")
        marks = len(list(self.about.folder.glob("mark-*")))
        if number == self.about.deadly and marks < self.about.lives:
            (self.about.folder / f"mark-{marks}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number, os.getpid()

    def close(self) -> None:
        (self.about.folder / "closed").touch()


def done(maker: Squares, machine: MachineConfig, said: list[str] | None = None) -> dict[int, tuple[int, int]]:
    say = (said if said is not None else []).append
    return dict(spread(maker, {n: n for n in range(8)}, machine=machine, progress=lambda part: None, say=say))


def test_here_the_doer_is_opened_when_it_is_needed_and_closed(tmp_path: Path) -> None:
    assert [n for n, _ in done(Squares(tmp_path), MachineConfig()).values()] == [n * n for n in range(8)]
    assert (tmp_path / "closed").exists()
    (tmp_path / "closed").unlink()
    assert dict(spread(Squares(tmp_path), {}, machine=RAY, progress=print, say=print)) == {}
    assert not (tmp_path / "closed").exists()


def test_workers_give_the_same_and_one_that_is_lost_is_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    found = done(Squares(tmp_path, deadly=3, lives=1), RAY, said)
    assert {n: square for n, (square, _) in found.items()} == {n: n * n for n in range(8)}
    assert os.getpid() not in {pid for _, pid in found.values()} and len({pid for _, pid in found.values()}) >= 2
    assert said == ["a worker was lost over task 3; another one does it"]


def test_a_task_that_kills_every_worker_stops_the_step(tmp_path: Path) -> None:
    with pytest.raises(SpreadError, match=r"task 3 has lost 4 workers; the usual cause is too little memory"):
        done(Squares(tmp_path, deadly=3, lives=99), RAY)


def test_an_error_of_a_task_is_the_one_it_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="5 cannot be squared"):
        done(Squares(tmp_path, bad=5), RAY)


def test_streamed_results_come_in_order_and_tasks_are_taken_as_there_is_room(tmp_path: Path) -> None:
    taken, given, said, most = 0, list[int](), list[str](), 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(40):
            taken += 1
            yield number

    for square, _ in streamed(Squares(tmp_path, deadly=3, lives=1), tasks(), machine=RAY, say=said.append):
        most = max(most, taken - len(given))
        given.append(square)
    assert given == [n * n for n in range(40)] and taken == 40
    assert most <= 2 * RAY.workers and said == ["a worker was lost over task 3; another one does it"]
    assert list(streamed(Squares(tmp_path), [], machine=RAY, say=said.append)) == []


def test_without_ray_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SpreadError, match=r"pip install .synpro-lm\[ray\]"):
        done(Squares(tmp_path), RAY)


def test_a_step_is_told_who_does_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS, environment(1, None, RAY)[WORKERS])
    assert MachineConfig.here() == RAY
    assert WORKERS not in environment(1, None), "a step that is not spread does not inherit it"
    monkeypatch.delenv(WORKERS)
    assert MachineConfig.here() == MachineConfig()


@pytest.mark.parametrize(("given", "told"), [({"workers": 0}, "use 1 or more"), ({"workers": 2}, "are for Ray")])
def test_bad_settings_are_refused(given: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MachineConfig(**given)
