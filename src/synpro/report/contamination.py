"""Evaluation items found in training text, over all rounds: the table, the flags and some examples."""

from __future__ import annotations

from synpro.corpus.contamination import TaskContamination
from synpro.report.run_data import Json, RunData
from synpro.runner.artifacts import read_table

MAX_EXAMPLES = 12
"""Matches shown in full."""


def contamination(data: RunData) -> tuple[TaskContamination, ...]:
    """Sum the tables of all rounds. Organic text is searched once, synthetic text in its own round."""
    found: dict[str, TaskContamination] = {}
    for row in (row for e in data.evaluated for row in e.overlap):
        mine = found.setdefault(row["group"], TaskContamination(row["group"], row["items"], row["tested"], {}))
        for kind, count in row["hit"].items():
            mine.hit[kind] = mine.hit.get(kind, 0) + count
    return tuple(found.values())


def contamination_examples(data: RunData) -> list[Json]:
    """The first matches, as `evaluate` stored them."""
    rows: list[Json] = []
    for e in data.evaluated:
        if len(rows) < MAX_EXAMPLES and any(any(row["hit"].values()) for row in e.overlap):
            path = data.run / f"round-{e.round:02d}/evaluate/overlap.parquet"
            columns = ["task", "item", "kind", "document", "share", "words"]
            rows += read_table(path, columns, head=MAX_EXAMPLES - len(rows))
    return rows
