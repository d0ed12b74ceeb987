"""What the benchmarks read off a run, on numbers worked by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.reward_time import Spent, spent

ROOT = Path(__file__).parents[1]


def run_with(folder: Path, reward: float) -> Path:
    for name, steps in (("train-reformat", 2), ("train-rephrase", 1)):
        step = folder / "round-01" / name
        step.mkdir(parents=True)
        row = {"seconds": 10.0, "seconds/generate": 6.0, "seconds/reward": reward}
        (step / "metrics.jsonl").write_text("".join(json.dumps({"step": i, **row}) + "\n" for i in range(steps)))
    return folder


def command(run: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "benchmarks/reward_time.py", str(run)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_reward_time_sums_the_steps_of_a_run_and_fails_above_its_limit(tmp_path: Path) -> None:
    good = run_with(tmp_path / "good", 1.5)
    assert spent(good)[0] == Spent("round-01/train-reformat", 2, 20.0, 12.0, 3.0)
    assert spent(good)[0].share == 0.15
    done = command(good)
    assert done.returncode == 0 and "rewards take 15.0% of a GRPO step" in done.stdout
    assert command(run_with(tmp_path / "bad", 2.5)).returncode == 1
    (tmp_path / "none").mkdir()
    empty = command(tmp_path / "none")
    assert empty.returncode == 1 and "no GRPO step has been done here" in empty.stderr
