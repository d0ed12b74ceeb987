"""`synpro compare`: start a comparison or resume it, then write its numbers, its page and the published results."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.commands.arguments import check_folder
from synpro.commands.execution import locked_run_dir, shown_steps
from synpro.commands.run_dir import note_environment
from synpro.compare.comparison import compare, comparison_outline
from synpro.compare.config import CompareConfig
from synpro.compare.summary import summarize
from synpro.config import ConfigError
from synpro.runner.artifacts import write_json
from synpro.runner.launch import usable_cores

NUMBERS = "compare.json"
"""File of a comparison's numbers, written when every step is done."""
MAX_PARALLEL = 4
"""Most steps in parallel where nobody says how many: each may open a generator."""


@dataclass(frozen=True)
class CompareResult:
    """What a call of `run_comparison` did."""

    dir: Path
    """The comparison's run directory."""
    seconds: float
    """How long this call took."""
    numbers: dict[str, Any]
    """The content of `compare.json`."""
    report: Path
    """`compare.html`."""
    published: Path | None
    """The folder with table, numbers and pictures, where one was asked for."""


def run_comparison(
    cfg: CompareConfig, runs: Path | str = "runs", results: Path | None = None, jobs: int | None = None
) -> CompareResult:
    """Run every step of a comparison that is not done yet, then write `compare.json` and `compare.html`.

    At most `jobs` steps run in parallel (None: what the cores hold); results do not depend on it. With `results`, settings,
    numbers, pictures and the table are copied there too. Raises ConfigError when the directory belongs to another config or
    `jobs` does not fit, ArgumentError when `results` cannot be written, StepError when a step stops.
    """
    from synpro.report.comparison import publish, write_page

    max_parallel = default_parallel(cfg) if jobs is None else jobs
    if max_parallel < 1:
        raise ConfigError(f"--jobs {max_parallel}: give at least 1")
    if max_parallel > 1 and not cfg.machine.threads:
        raise ConfigError(
            f"--jobs {max_parallel}: each step would take all cores (machine.threads = 0). Say how many threads a step "
            f"has: --set machine.threads={max(1, usable_cores() // max_parallel)} (its last bits depend on it), or use --jobs 1"
        )
    check_folder("--results", results)
    began = time.monotonic()
    with locked_run_dir(cfg, Path(runs)) as root:
        with shown_steps(cfg, root, comparison_outline(cfg), max_parallel) as steps:
            done = compare(cfg, steps, max_parallel)
        if results is not None:  # its numbers and pages are made by this version
            note_environment(root)
        numbers = summarize(cfg, done, root)
        write_json(root / NUMBERS, numbers)
        page = write_page(root, numbers)
        published = None if results is None else publish(root, numbers, results)
    return CompareResult(root, time.monotonic() - began, numbers, page, published)


def default_parallel(cfg: CompareConfig) -> int:
    """How many steps the cores hold in parallel. One where a step takes all cores, or where there is a GPU, which steps would
    have to share."""
    per_step = cfg.machine.threads * cfg.machine.processes
    if not per_step or cfg.machine.nodes > 1 or shutil.which("nvidia-smi"):
        return 1
    return max(1, min(MAX_PARALLEL, usable_cores() // per_step))
