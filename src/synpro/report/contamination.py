"""Evaluation items that stand in training text, over all rounds: the table, the flags and some finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from synpro.report.gather import Contents, Row
from synpro.run.reading import read_table

MOST_FINDS = 12
"""Finds shown in full."""


@dataclass
class Found:
    """One task's items."""

    group: str
    """The task; reading passages are a row of their own."""
    items: int
    tested: int
    """Items long enough to be looked for."""
    hit: dict[str, int] = field(default_factory=dict)
    """Kind of text -> items found in it, the rounds added up."""

    @property
    def flagged(self) -> bool:
        return any(self.hit.values())


def contamination(contents: Contents) -> tuple[Found, ...]:
    """The rounds' tables as one. Organic text is looked through once, synthetic text in its own round."""
    found: dict[str, Found] = {}
    for row in (row for e in contents.evaluated for row in e.overlap):
        mine = found.setdefault(row["group"], Found(row["group"], row["items"], row["tested"]))
        for kind, count in row["hit"].items():
            mine.hit[kind] = mine.hit.get(kind, 0) + count
    return tuple(found.values())


def finds(contents: Contents) -> list[Row]:
    """The first finds, as `evaluate` wrote them."""
    rows: list[Row] = []
    for e in contents.evaluated:
        if len(rows) < MOST_FINDS and any(any(row["hit"].values()) for row in e.overlap):
            path = contents.run / f"round-{e.round:02d}/evaluate/overlap.parquet"
            columns = ["task", "item", "kind", "document", "share", "words"]
            rows += read_table(path, columns, head=MOST_FINDS - len(rows))
    return rows
