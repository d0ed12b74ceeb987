"""Steps that other threads wait for are ended by an interrupt: asked once, and gone when the call returns."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from synpro.runner import launch


def test_a_display_that_fails_does_not_hold_the_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """More events than a pipe takes: a step whose events nobody reads would wait for ever."""
    code = "import os\nwith open(os.environ['SYNPRO_PROGRESS'], 'w') as pipe: pipe.writelines(['{\"done\": 1}\\n'] * 9000)"
    used = list[launch.Usage]()

    def closed(event: object) -> None:
        raise BrokenPipeError

    def run() -> None:
        used.append(launch.launch([sys.executable, "-c", code], tmp_path / "log.txt", os.environ, closed))

    waiting = threading.Thread(target=run, daemon=True)
    waiting.start()
    waiting.join(20)
    launch.end_running()
    assert [u.exit_code for u in used] == [0]
    assert caplog.messages == ["progress is not shown: BrokenPipeError: ; the step goes on"], "told once"


def test_running_steps_are_asked_to_end_once(tmp_path: Path) -> None:
    code = (
        "import signal, time\n"
        "heard = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: (heard.append(1), print('asked', flush=True)))\n"
        "print('up', flush=True)\n"
        "while not heard: time.sleep(0.05)\n"
        "time.sleep(1.0)\n"
    )
    log, used = tmp_path / "log.txt", []
    waiting = threading.Thread(
        target=lambda: used.append(launch.launch([sys.executable, "-c", code], log, os.environ, lambda event: None))
    )
    waiting.start()
    while not log.exists() or "up" not in log.read_text():
        time.sleep(0.05)
    launch.end_running()
    waiting.join(10)
    assert [u.exit_code for u in used] == [0] and log.read_text().split() == ["up", "asked"]


def test_an_interrupt_just_as_a_step_ends_is_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = os.wait4

    def interrupted(pid: int, options: int) -> object:
        wait(pid, options)
        monkeypatch.setattr(os, "wait4", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "wait4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch.launch([sys.executable, "-c", ""], tmp_path / "log.txt", os.environ, lambda event: None)
