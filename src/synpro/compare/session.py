"""What the command `compare` does with a comparison: start it or carry it on, write its numbers, page and published results."""

from __future__ import annotations

import json
import os
import shutil
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synpro.compare.comparison import compare, outline
from synpro.compare.config import CompareConfig
from synpro.config import ConfigError, RunConfig, load_as
from synpro.run.child import write_json
from synpro.run.screen import Screen, duration
from synpro.run.step import StepError, Steps, expected_seconds
from synpro.session import check as check_run
from synpro.session import opened
from synpro.session import status as run_status

NUMBERS = "compare.json"


def load(path: Path, sets: Sequence[str] = ()) -> CompareConfig:
    """The config of a comparison. Raises ConfigError."""
    return load_as(CompareConfig, path, sets)


def run(cfg: CompareConfig, runs: Path, results: Path | None = None, jobs: int | None = None) -> Path:
    """Do every step of a comparison that is not done yet, then write `compare.json` and `compare.html`. Returns its directory.

    `jobs` steps run side by side where none waits for another (None: `side_by_side`); results do not depend on it. With
    `results`, settings, numbers, pictures and the table are copied there too. Raises ConfigError when the directory belongs
    to another config, StepError when a step stops.
    """
    at_once = side_by_side(cfg) if jobs is None else jobs
    if at_once < 1 or (at_once > 1 and not cfg.machine.threads):
        raise ConfigError(
            f"{at_once} jobs: at least one"
            if at_once < 1
            else f"{at_once} jobs with all the cores each would get in each other's way: say how many threads a step has, "
            f"for example --set machine.threads={max(1, (os.cpu_count() or 1) // at_once)} (part of the result), or --jobs 1"
        )
    with opened(cfg, runs) as root:
        began = time.monotonic()
        known = Expected(root)
        with Screen(outline(cfg), known, at_once) as screen:
            steps = Steps(root, seed=cfg.seed, machine=cfg.machine, watcher=screen)
            steps.expected = known

            def do(name: str, *given: Any, **inputs: Any) -> Any:
                record = steps(name, *given, **inputs)
                known.forget()
                return record

            done = compare(cfg, do, at_once)
        from synpro.compare.tally import tally
        from synpro.report.comparison import publish, summary, write_page

        numbers = tally(cfg, done, root)
        write_json(root / NUMBERS, numbers)
        page = write_page(root, numbers)
        print(f"\nthe comparison took {duration(time.monotonic() - began)} this time\n")
        for line in summary(numbers):
            print(line)
        print(f"\nnumbers: {root / NUMBERS}\nreport: {page}")
        if results is not None:
            print(f"published: {publish(root, numbers, results)}")
    return root


def side_by_side(cfg: CompareConfig) -> int:
    """Steps that the cores hold beside each other, at most four (each may open a generator); one where a step takes them all,
    or where a GPU is: steps would share it."""
    taken = cfg.machine.threads * cfg.machine.processes
    if not taken or cfg.machine.nodes > 1 or shutil.which("nvidia-smi"):
        return 1
    return max(1, min(4, (os.cpu_count() or 1) // taken))


class Expected:
    """Seconds that a step of a kind took before in this comparison, looked up once between two steps: the screen asks often."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[tuple[str, str], float | None] = {}

    def __call__(self, step: str) -> float | None:
        kind = (step.partition("/")[0], step.rpartition("/")[2])
        found = self._known.get(kind, -1.0)
        if found == -1.0:
            found = self._known[kind] = expected_seconds(self._root, step)
        return found

    def forget(self) -> None:
        """Look again: another step is done."""
        self._known.clear()


def is_comparison(config: Path) -> bool:
    """Whether a file is a config with a [compare] table."""
    try:
        return "compare" in tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever loads it says what is wrong
        return False


def check(path: Path, sets: Sequence[str], fetch: bool) -> None:
    """`synpro check`, for a run or a comparison. Raises ConfigError."""
    if not is_comparison(path):
        check_run(load_as(RunConfig, path, sets), fetch)
        return
    cfg = load(path, sets)
    check_run(cfg, fetch, outline(cfg))


def write_report(root: Path) -> Path:
    """`synpro report`, for a run or a comparison: the path of the page. Raises StepError for a comparison without numbers."""
    from synpro.report.comparison import write_page
    from synpro.report.page import write_report as write_run_report

    if not is_comparison(root / "config.toml"):
        return write_run_report(root)
    if not (root / NUMBERS).exists():
        raise StepError(
            f"{root} has no {NUMBERS} yet: it is written when every step is done; `synpro status {root}` shows them"
        )
    return write_page(root, json.loads((root / NUMBERS).read_text(encoding="utf-8")))


def status(root: Path) -> list[str]:
    """Lines of `synpro status`, for a run or a comparison. A search may end before the last trial it lists."""
    if not is_comparison(root / "config.toml"):
        return run_status(root)
    return [line.replace("report.html", "compare.html") for line in run_status(root, outline(load(root / "config.toml")))]
