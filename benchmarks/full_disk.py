"""Fill the disk of a run in the middle of every step, and see that it stops with a sentence and carries on when there is room.

    python -m benchmarks.full_disk --out /tmp/full --megabytes 40 --wait 4 --set rounds=1 \\
        --set train_generator.lora_rank=2 --set 'train_generator.lora_modules=["q_proj","v_proj"]'

Mounts a tmpfs (as root; or name a small disk with --disk) and, for each step that is not done, starts the run, fills the disk
when the step has begun, and expects exit code 1, a sentence, no traceback, and no `result.json`. Then it starts the run on the
full disk (refused), makes room and goes on. At the end the results are compared with those of an undisturbed run, byte for
byte. Prints a row per step; exit code 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from benchmarks.kill import results

FILLER = "filler.bin"


def command(config: Path, runs: Path, sets: list[str]) -> list[str]:
    argv = [sys.executable, "-m", "synpro.cli", "run", str(config), "--runs", str(runs)]
    return [*argv, *(a for s in sets for a in ("--set", s))]


def fill(disk: Path) -> None:
    """Write until there is no room for another byte."""
    with (disk / FILLER).open("ab", buffering=0) as filler:
        for size in (2**20, 2**12, 1):
            try:
                while filler.write(bytes(size)):
                    pass
            except OSError:
                continue


def begun(root: Path) -> list[Path]:
    """Steps that have begun and are not done."""
    found = [p.parent for p in root.glob("round-*/*/timing.json") if not (p.parent / "result.json").exists()]
    return sorted(found, key=lambda p: (p / "timing.json").stat().st_mtime)


def disturbed(argv: list[str], root: Path, disk: Path, wait: float, tried: set[str]) -> tuple[str, int, str]:
    """Start a run and fill its disk `wait` seconds after a step begins that was not tried: the step, exit code, output."""
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    step = ""
    while process.poll() is None and not step:
        step = next((name for p in begun(root) if (name := p.relative_to(root).as_posix()) not in tried), "")
        time.sleep(0.01)
    if step:
        time.sleep(wait)
        fill(disk)
    output = process.communicate()[0]
    return step, process.returncode, output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("tests/loop.toml"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--disk", type=Path, help="a folder on a small disk; without it a tmpfs is mounted")
    parser.add_argument("--megabytes", type=int, default=160, help="size of the tmpfs")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds after a step has begun")
    parser.add_argument("--undisturbed", type=Path, help="run directory to compare with, if there is one already")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    arguments = parser.parse_args()
    disk = arguments.disk or arguments.out / "disk"
    disk.mkdir(parents=True, exist_ok=True)
    if arguments.disk is None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={arguments.megabytes}m", "tmpfs", str(disk)], check=True)
    try:
        sys.exit(1 if attack(arguments, disk) else 0)
    finally:
        if arguments.disk is None:
            subprocess.run(["umount", str(disk)], check=True)


def attack(arguments: argparse.Namespace, disk: Path) -> list[str]:
    """Disturb every step once: what went wrong."""
    name = tomllib.loads(arguments.config.read_text())["name"]
    argv, root = command(arguments.config, disk, arguments.sets), disk / name
    tried: set[str] = set()
    wrong: list[str] = []
    while True:
        step, code, output = disturbed(argv, root, disk, arguments.wait, tried)
        said = next((line for line in output.splitlines() if line.startswith("error: ")), output.strip().splitlines()[-1])
        full = (disk / FILLER).exists()
        tried.add(step)
        refused = subprocess.run(argv, capture_output=True, text=True, check=False) if full else None
        (disk / FILLER).unlink(missing_ok=True)
        print(json.dumps({"step": step, "exit": code, "said": said, "again": refused and refused.stderr.strip()}), flush=True)
        for text in (output, refused.stderr if refused else ""):
            if "Traceback" in text and "The end of" not in text:
                wrong.append(f"{step}: a traceback")
        if code not in (0, 1) or (refused and refused.returncode not in (0, 1)):
            wrong.append(f"{step}: exit code {code}")
        if not full:
            wrong += [f"not carried on, although nothing fills the disk: {said}"] if code else []
            break
    undisturbed = arguments.undisturbed
    if undisturbed is None:
        runs = arguments.out / "undisturbed"
        subprocess.run(command(arguments.config, runs, arguments.sets), check=True, stdout=subprocess.DEVNULL)
        undisturbed = runs / name
    mine, other = results(root), results(undisturbed)
    wrong += [
        f"{file}: differs from the undisturbed run" for file in sorted({*mine, *other}) if mine.get(file) != other.get(file)
    ]
    print(f"{len(tried - {''})} steps disturbed, {len(mine)} files compared, {len(wrong)} wrong", *wrong, sep="\n  ")
    return wrong


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
