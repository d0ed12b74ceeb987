"""SIGKILL a run at random moments, start it again each time, and compare its end with that of an undisturbed run.

    python -m benchmarks.kill --config tests/loop.toml --kills 20 --out /tmp/kill

Compares every file that a step's result covers (weights, shards, reject logs, tables) and every `result.json`, byte for byte,
and prints the moments, the step that was hit, and the verdict. Exit code 1 when anything differs.

`--change-execution`: each attempt runs under other execution keys (docs/execution.md), those that promise the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tomllib
from itertools import cycle
from pathlib import Path

EXECUTIONS = [
    ["pretrain.log_every=1", "pretrain.checkpoint_every=1", "probe.log_every=1"],
    ["machine.launcher=ray", "machine.workers=2", "pretrain.checkpoint_every=5"],
    ["synthesize.min_kept=0", "synthesize.max_failed=0.2", "pretrain.checkpoint_every=2"],
    ["machine.launcher=ray", "machine.workers=3", "pretrain.log_every=5", "machine.gpus_per_node=4"],
    ["machine.tracker=tensorboard", "machine.check_memory=false", "prepare.max_rejected=0.5", "judges.max_failed=0.5"],
]
"""Execution keys of one attempt after the other. None changes the order of sums, as `engine.batch_size` would."""


def run(config: Path, runs: Path, sets: list[str], seconds: float | None = None) -> int | None:
    """Start or resume a run; kill it after `seconds`. Returns its exit code, None when it was killed."""
    argv = [sys.executable, "-m", "synpro.cli", "run", str(config), "--runs", str(runs)]
    argv += [a for s in sets for a in ("--set", s)]
    with (runs / "output.txt").open("ab") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return None


def running(root: Path) -> str:
    """The step that a kill has hit: begun, not done."""
    begun = [p.parent for p in root.glob("round-*/*/request.json") if not (p.parent / "result.json").exists()]
    return ", ".join(sorted(p.relative_to(root).as_posix() for p in begun)) or "between steps"


def results(root: Path) -> dict[str, bytes]:
    """Every result.json and every file it covers, by name."""
    found = {}
    for result in sorted(root.glob("round-*/*/result.json")):
        for name in ["result.json", *json.loads(result.read_text())["files"]]:
            path = result.parent / name
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("tests/loop.toml"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--change-execution", action="store_true", help="other execution keys in every attempt")
    arguments = parser.parse_args()
    name = tomllib.loads(arguments.config.read_text())["name"]
    calm, stormy = arguments.out / "calm", arguments.out / "stormy"
    for folder in (calm, stormy):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(stormy / name, ignore_errors=True)

    if run(arguments.config, calm, arguments.sets) != 0:
        sys.exit(f"the undisturbed run failed; see {calm / 'output.txt'}")
    seconds = [json.loads(p.read_text())["seconds"] for p in (calm / name).glob("round-*/*/timing.json")]
    whole, longest = sum(seconds), max(seconds)
    print(f"undisturbed: {whole:.0f} s in {len(seconds)} steps, the longest {longest:.0f} s", flush=True)

    # A killed step may start over, so the moments are drawn from a stretch that lets the run get somewhere in between. A run
    # that finishes before the last kill is compared, and another one is begun.
    chance = random.Random(arguments.seed)
    one, kills, wrong = results(calm / name), 0, 0
    attempts = cycle(EXECUTIONS if arguments.change_execution else [[]])
    stretch = max(2.4 * whole / arguments.kills + 10, 1.6 * longest)  # a step longer than every wait would never end
    while kills < arguments.kills:
        wait: float | None = chance.uniform(0.5, stretch)
        sets = [*arguments.sets, *next(attempts)]
        code = run(arguments.config, stormy, sets, wait)
        if code is None:
            kills += 1
            print(f"kill {kills}: after {wait:.1f} s, in {running(stormy / name)}; {' '.join(sets)}", flush=True)
            code = run(arguments.config, stormy, [*arguments.sets, *next(attempts)]) if kills == arguments.kills else None
        if code is None:
            continue
        if code != 0:
            sys.exit(f"the run failed instead of carrying on (exit {code}); see {stormy / 'output.txt'}")
        wrong += compare(one, results(stormy / name), kills)
        if kills < arguments.kills:
            shutil.rmtree(stormy / name)
    sys.exit(1 if wrong else 0)


def compare(one: dict[str, bytes], other: dict[str, bytes], kills: int) -> int:
    """Print and count the files that differ."""
    different = sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))
    print(
        f"after {kills} kills: {len(one)} files, {sum(map(len, one.values())) / 1e6:.1f} MB; different: {len(different)}",
        flush=True,
    )
    for file in different:
        print(f"  {file}" + ("" if file in one and file in other else " (only in one of the two)"))
    return len(different)


if __name__ == "__main__":
    main()
