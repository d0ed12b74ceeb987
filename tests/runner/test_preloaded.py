"""Steps forked from a process that has the libraries: the same bytes, errors and ends as steps in new processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from synpro.runner import launch
from synpro.runner import preloaded as preloading
from synpro.runner.launch import MachineConfig, end_running
from synpro.runner.preloaded import CHILD, Forked, Preloaded
from synpro.runner.progress import NullProgress
from synpro.runner.step import StepError, Steps
from tests.runner.counting import CountConfig, count

FEW = ("synpro.runner.child", "decimal")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(preloading, "has_gpu", lambda: False)  # where these tests run on a machine with one


def wait(for_what: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not for_what():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def steps(root: Path, preloaded: Preloaded | None = None, machine: MachineConfig | None = None) -> Steps:
    return Steps(root, seed=7, machine=machine or MachineConfig(threads=1), listener=NullProgress(), preloaded=preloaded)


class Recorded(Preloaded):
    """Keeps what was forked: None for each step that was a new process."""

    def __init__(self) -> None:
        super().__init__(FEW)
        self.forks: list[Forked | None] = []

    def fork(self, argv: list[str], log: Path, env: Mapping[str, str]) -> Forked | None:
        self.forks.append(super().fork(argv, log, env))
        return self.forks[-1]


def ready(root: Path) -> tuple[Steps, Recorded, psutil.Process]:
    """A run whose next steps are forked."""
    preloaded = Recorded()
    run_step = steps(root, preloaded)
    for name in ("one", "two"):
        run_step(name, count, CountConfig())
    wait(lambda: preloaded._connection)
    found = [p for p in psutil.Process().children() if "synpro.runner.preloaded" in p.cmdline()]
    return run_step, preloaded, max(found, key=lambda p: p.pid)


def files(step: Path) -> dict[str, bytes]:
    kept = {p.name: p.read_bytes() for p in step.iterdir() if p.is_file()}
    return {name: body for name, body in kept.items() if name not in ("timing.json", "log.txt")}


def test_forked_steps_end_in_the_same_bytes(tmp_path: Path) -> None:
    run_step, preloaded, process = ready(tmp_path / "forked")
    forked = preloaded.fork([sys.executable, "-m", CHILD], tmp_path / "log.txt", os.environ)
    assert forked is None, "another environment: a new process"
    for name in ("three", "four"):
        for made in (run_step, steps(tmp_path / "new")):
            made(name, count, CountConfig(upto=5))
        assert files(tmp_path / "forked" / name) == files(tmp_path / "new" / name)
    assert all(preloaded.forks[-2:]), "both were forked"
    timing = json.loads((tmp_path / "forked/three/timing.json").read_text())
    assert timing["peak_rss_bytes"] > 2**20 and timing["seconds"] < 20
    assert process.is_running() and not process.children(), "forked steps have ended and are reaped"
    preloaded.close()
    wait(lambda: not runs(process))


@pytest.mark.parametrize("trouble", ["hook", "interrupted", "exits", "raise"])
def test_a_forked_step_ends_and_says_what_one_in_a_new_process_does(tmp_path: Path, trouble: str) -> None:
    ended = []
    around = re.compile(r'  File ".*(preloaded|runpy|process_group|child|<frozen).*\n.*\n(    \^.*\n)?')  # the stage's call
    run_forked, preloaded, _ = ready(tmp_path / "forked")
    for root, run_step in ((tmp_path / "forked", run_forked), (tmp_path / "new", steps(tmp_path / "new"))):
        said, log = "", root / "step/log.txt"
        try:
            run_step("step", count, CountConfig(trouble=trouble))
        except StepError as problem:
            said = str(problem)
        ended.append([around.sub("", text).replace(str(root), "") for text in (said.split("The end of")[0], log.read_text())])
        ended[-1].append(oct(log.stat().st_mode))
    assert ended[0] == ended[1]
    written = {"hook": "the exit hook ran", "interrupted": "KeyboardInterrupt", "exits": "no licence", "raise": "put it there"}
    assert written[trouble] in ended[0][1]
    assert ("signal 2" in ended[0][0]) == (trouble == "interrupted")
    assert preloaded.forks[-1], "it was forked"
    preloaded.close()


def test_nothing_is_forked_from_another_folder_or_of_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_step, preloaded, process = ready(tmp_path)
    argv, env = [sys.executable, "-m", CHILD], dict(preloaded._given["env"])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as a terminal or a scheduler sends them to all
        process.send_signal(number)
    assert (begun := preloaded.fork([*argv, "nowhere", "nowhere"], tmp_path / "log.txt", env)) and begun.ended.wait(20)
    with monkeypatch.context() as other:
        other.chdir(tmp_path)
        assert preloaded.fork(argv, tmp_path / "log.txt", env) is None
    with monkeypatch.context() as other:
        other.setattr(preloading, "code_files", lambda: [("preloaded.py", 0, 0)])
        assert preloaded.fork(argv, tmp_path / "log.txt", env) is None
    preloaded.close()
    wait(lambda: not runs(process))
    assert run_step("closed", count, CountConfig()) and preloaded.forks[-1] is None, "a new process"


def test_a_forked_step_is_killed_ended_and_told_of_as_another(tmp_path: Path) -> None:
    run_step, preloaded, process = ready(tmp_path)
    with pytest.raises(StepError, match="signal 9"):
        run_step("killed", count, CountConfig(trouble="kill"))
    assert run_step("killed", count, CountConfig(trouble="kill")), "it kills itself once"
    with pytest.raises(StepError) as problem:
        run_step("raises", count, CountConfig(trouble="raise"))
    assert "Traceback" not in str(problem.value) and "Traceback" in (tmp_path / "raises/log.txt").read_text()

    said: list[BaseException] = []

    def slow() -> None:
        try:
            run_step("slow", count, CountConfig(trouble="waits"))
        except StepError as error:
            said.append(error)

    waiting = threading.Thread(target=slow)
    waiting.start()
    wait(lambda: launch._running)  # a moment later than there is a process
    end_running()
    waiting.join(20)
    assert len(preloaded.forks) == 6 and all(preloaded.forks[2:])
    assert "signal 15" in str(said[0]) and not process.children()

    waiting = threading.Thread(target=slow)
    waiting.start()
    wait(process.children)
    (step,) = process.children()
    process.kill()  # as a kernel without memory would
    waiting.join(20)
    assert "signal 9" in str(said[1])
    wait(lambda: not runs(step))
    assert run_step("after", count, CountConfig()), "steps are new processes again"
    assert preloaded.forks[-1] is None and preloaded._connection is None


def test_gpus_and_several_processes_are_never_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, preloaded, process = ready(tmp_path)
    asked, argv = preloaded._asked, [sys.executable, "-m", CHILD, str(tmp_path), str(tmp_path)]
    several = [sys.executable, "-m", "torch.distributed.run", *argv[1:]]
    assert preloaded.fork(several, tmp_path / "log.txt", {}) is None
    monkeypatch.undo()
    monkeypatch.setattr(preloading, "GPU_DEVICES", (str(tmp_path),))
    assert preloading.has_gpu() and preloaded.fork(argv, tmp_path / "log.txt", {}) is None
    assert preloaded._asked == asked
    preloaded.close()
    wait(lambda: not runs(process))


def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tests.runner.test_preloaded import *\n"
        f"run_step, preloaded, process = ready(Path({str(tmp_path)!r}))\n"
        "threading.Thread(target=lambda: run_step('slow', count, CountConfig(trouble='waits'))).start()\n"
        "wait(process.children)\n"
        "print(process.pid, process.children()[0].pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        left = [psutil.Process(int(pid)) for pid in run.stdout.readline().split()]
        assert len(left) == 2 and all(p.is_running() for p in left)
        os.kill(run.pid, signal.SIGKILL)
    wait(lambda: not any(map(runs, left)))
