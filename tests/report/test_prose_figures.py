"""The intervals that people wrote into the pages of results are those of the files beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT

NUMBER = r"[-+]?\d+(?:\.\d+)?"
INTERVAL = re.compile(rf"({NUMBER})x?(?: times| points| nats)? ?(?:\(|, )({NUMBER})%? to ({NUMBER}|no bound)")
GENERATED = re.compile(r"<!-- (\S+) -->.*?<!-- /\1 -->", re.DOTALL)
Interval = tuple[float | None, ...]
ELSEWHERE: set[Interval] = {
    (0.80, 0.32, 0.97),  # partial rank correlations of the influence trial, computed by hand
    (0.71, 0.19, 0.91),
}
"""Intervals that no file of the pages has."""


def measured(node: Any) -> Iterator[tuple[float, float | None, float | None]]:
    """(value, lower end, upper end) of each interval in a file."""
    if isinstance(node, dict):
        if "low" in node and "high" in node:
            values = [v for k, v in node.items() if k not in ("low", "high") and isinstance(v, float)]
            yield from ((value, node["low"], node["high"]) for value in values)
        node = list(node.values())
    for child in node if isinstance(node, list) else ():
        yield from measured(child)


def as_written() -> set[Interval]:
    """Each measured interval as a number and in hundredths, to 0 to 4 places; and seen from the other arm, all signs turned."""
    found: set[Interval] = set()
    for path in (ROOT / "docs" / "results").glob("*/*.json"):
        for one in measured(json.loads(path.read_text(encoding="utf-8"))):
            for scale in (1, 100, -1, -100):
                for places in range(5):
                    mean, low, high = (None if v is None else round(v * scale, places) for v in one)
                    found |= {(mean, low, high), (mean, high, low)}
    return found


def prose(name: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page that people wrote and that tell today's comparisons."""
    text = (ROOT / name).read_text(encoding="utf-8")
    text = GENERATED.sub(lambda found: "\n" * found[0].count("\n"), text)
    if name == "README.md":
        text = "\n" * text[: text.index("**The comparison**")].count("\n") + text[text.index("**The comparison**") :]
    before = text.find("## The comparison before")
    yield from enumerate(text[: before if before >= 0 else None].splitlines(), 1)


@pytest.mark.parametrize("name", ["README.md", "docs/what-pays.md", "docs/results/README.md"])
def test_intervals_in_prose_are_measured(name: str) -> None:
    known, seen, wrong = as_written() | ELSEWHERE, 0, []
    for number, line in prose(name):
        for found in INTERVAL.finditer(line):
            seen += 1
            if tuple(None if part == "no bound" else float(part) for part in found.groups()) not in known:
                wrong.append(f"{name}:{number}: {found[0]}")
    assert seen > 10 and not wrong, "\n".join(wrong)
