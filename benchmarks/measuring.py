"""What the speed benchmarks share: pairs measured in turns, the machine, and the table.

Two ways of doing the same are measured one after the other, several times, in one process (A B A B ...), and compared by their
ratio: a machine that slows down meanwhile slows both.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synpro.config import RunConfig, load_config
from synpro.records import Corpus, decode


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    what: str
    ours: float | None
    theirs: float | None
    unit: str
    ratio: float | None = None
    """Median over the pairs."""
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    bound: str = ""
    """The bound of the ratio, or of the value; empty where there is none."""
    met: bool | None = None
    note: str = ""


def measure_pairs(ours: Callable[[], float], theirs: Callable[[], float], count: int) -> tuple[list[float], list[float]]:
    """Call both in turns and collect what they return (work per second); which is first alternates from pair to pair."""
    a: list[float] = []
    b: list[float] = []
    for number in range(count):
        for mine in (True, False) if number % 2 == 0 else (False, True):
            (a if mine else b).append((ours if mine else theirs)())
    return a, b


def compare_pairs(
    what: str, unit: str, a: Sequence[float], b: Sequence[float], *, least: float | None = None, note: str = ""
) -> Measurement:
    """Compare measured pairs; `least` is the smallest median ratio that is accepted."""
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    ratio = statistics.median(ratios)
    bound, met = ("", None) if least is None else (f"at least {least:g}", ratio >= least)
    each = statistics.median(a), statistics.median(b)
    return Measurement(what, *each, unit, ratio, min(ratios), max(ratios), len(ratios), bound, met, note)


def open_run(run: Path) -> tuple[RunConfig, Corpus]:
    """Read the config and the corpus of a run."""
    corpus = decode(json.loads((run / "round-00/prepare/result.json").read_text(encoding="utf-8"))["record"], run)
    assert isinstance(corpus, Corpus)
    return load_config(run / "config.toml"), corpus


def machine() -> dict[str, Any]:
    """Describe the machine the numbers are measured on."""
    import torch

    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ": unknown"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "processor": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit or "unknown",
    }


def table(rows: Sequence[Measurement]) -> str:
    """Format the measurements as a Markdown table."""
    lines = ["| what | unit | ours | the other | ratio (range) | bound | |", "|---|---|--:|--:|---|---|---|"]
    for r in rows:
        ratio = "" if r.ratio is None else f"**{r.ratio:.3g}** ({r.low:.3g} to {r.high:.3g}, {r.pairs} pairs)"
        met = {None: "", True: " met", False: " **missed**"}[r.met]
        each = f"{_number(r.ours)} | {_number(r.theirs)}"
        lines.append(f"| {r.what} | {r.unit} | {each} | {ratio} | {r.bound}{met} | {r.note} |")
    return "\n".join(lines)


def as_json(rows: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Turn the measurements into data for JSON."""
    return [asdict(row) for row in rows]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
