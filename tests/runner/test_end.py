"""Steps that other threads wait for are ended by an interrupt: asked once, and gone when the call returns."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from synpro.runner import launch


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
