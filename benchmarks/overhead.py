"""The overhead of the loop: a run's first steps done again, the command's seconds against those of its steps."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import Measurement

UNTIL = "round-01/train-rephrase"


def measure(run: Path, pairs: int = 1, until: str = UNTIL) -> list[Measurement]:
    """The loop's share of the seconds of a run up to `until`, and the seconds of the same command when all is done."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-m", "synpro.cli", "run", str(run / "config.toml"), "--runs", folder, "--until", until]
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            subprocess.run(argv, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        steps = [json.loads(path.read_text())["seconds"] for path in Path(folder).rglob("timing.json")]
    share = (seconds[0] - sum(steps)) / seconds[0]
    note = f"{len(steps)} steps, {sum(steps):.0f} s in them, {seconds[0]:.1f} s in all"
    return [
        Measurement("loop outside its steps", 100 * share, None, "% of a run", bound="under 2", met=share < 0.02, note=note),
        Measurement(
            "the same command when all is done", seconds[1], None, "s", note="start-up, and the hashes of every result checked"
        ),
    ]
