"""Everything that a GPU has to show, in under 8 minutes on one card of 80 GB, without network: random weights at real shapes.

    python benchmarks/gpu.py --out gpu.jsonl            # on the GPU
    python benchmarks/gpu.py --tiny --only engine       # any machine: the same code, tiny shapes

Each part (benchmarks/gpu_parts.py) is a process of its own with a time limit, and one line of JSON: a part that crashes, hangs
or runs out of memory loses nothing but what it had not yet measured. Exit code 1 when a part has an error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
LIMITS = {
    "pretrain-400m": 150,
    "influence": 60,
    "grpo": 75,
    "engine": 60,
    "judges": 75,
    "sft": 60,
    "pretrain-1b": 60,
    "pretrain-2b": 60,
}
"""Seconds that each part may take, the most important first; a card of 80 GB takes about half of them."""
BUDGET = 460
"""Seconds for all parts together."""


def run_part(name: str, seconds: float, tiny: bool) -> dict[str, Any]:
    """The row of a part that is run in a process of its own: what it measured, and `error` unless it came to its end."""
    argv = [sys.executable, "-m", "benchmarks.gpu_parts", name, *(["--tiny"] if tiny else [])]
    path = os.pathsep.join([str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    began, error = time.monotonic(), ""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as scratch:
        # In a session of its own: what it started ends with it.
        process = subprocess.Popen(
            argv, cwd=scratch, env={**environment, "TMPDIR": scratch}, stdout=out, stderr=log, start_new_session=True
        )
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            error = f"stopped after {seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
                process.wait()
        for file in (out, log):
            file.seek(0)
        rows = [line for line in out if line.startswith("{")]
        if process.returncode and not error:
            error = f"exit code {process.returncode}: " + "".join(log.readlines()[-12:])[-1500:]
    row = json.loads(rows[-1]) if rows else {}
    return {"part": name, "wall": round(time.monotonic() - began, 1), **row, **({"error": error} if error else {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=LIMITS, action="append", help="this part (as often as needed); default all")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, for a machine without a GPU")
    parser.add_argument("--out", type=Path, help="file to which the lines are added too")
    parser.add_argument("--limit", type=float, help="seconds for each part instead of its own limit")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for all parts together")
    a = parser.parse_args()
    if not (a.tiny or torch.cuda.is_available()):
        parser.error("there is no GPU, and the real shapes take tens of GB of main memory; add --tiny, or run it on a GPU")
    end, failed = time.monotonic() + a.budget, False
    for name in a.only or LIMITS:
        left = end - time.monotonic()
        row: dict[str, Any] = {"part": name, "error": "no time was left"}
        if left > 10:
            row = run_part(name, min(a.limit or LIMITS[name], left), a.tiny)
        failed |= "error" in row
        line = json.dumps(row)
        print(line, flush=True)
        if a.out:
            with a.out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
