"""A rubric that scores whole chunks of rewrites, in this process or in a Ray worker (`engines/parallel_map.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.operations.base import OperationConfig
from synpro.operations.registry import build_operation
from synpro.records import Passage, Rewrite
from synpro.rewards.faithfulness import Checked
from synpro.rewards.faithfulness import share as share_of
from synpro.rewards.filters import Scores
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring

BATCH = 64
"""Rewrites scored in one call."""


@dataclass(frozen=True)
class Scored:
    """Scores and claims of one rewrite."""

    scores: Scores
    """Raw rewards by name; faithfulness also where it has no weight."""
    claims: list[dict[str, Any]]
    """Each claim with its verdict (`report/lineage.py` reads it)."""


def claim_rows(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """Convert claims to plain data: claim, label, probability, and the passage's sentence that supports it with its place."""
    rows = []
    for c in checked:
        s = c.verdict.support
        place = {"support": s.text, "start": s.start, "end": s.end} if s else {"support": None, "start": None, "end": None}
        rows.append({"claim": c.claim, "label": c.verdict.label, "probability": round(c.verdict.probability, 6), **place})
    return rows


@dataclass(frozen=True)
class RubricSpec:
    """Makes a rubric that scores chunks, wherever it is opened."""

    operation: OperationConfig
    scoring: Scoring
    scratch: Path
    passages: Sequence[Passage]
    """All passages: what a reward takes from the corpus must not depend on the chunk."""

    def open(self, progress: Callable[[float], None]) -> RubricWorker:
        opened = Rubric.build(build_operation(self.operation), self.scoring, self.scratch)
        opened.prepare(self.passages)
        return RubricWorker(opened, progress)


class RubricWorker:
    """Scores chunks: raw rewards and checked claims of each rewrite, as plain data."""

    def __init__(self, rubric: Rubric, progress: Callable[[float], None]) -> None:
        self.rubric, self.progress = rubric, progress

    def __call__(self, some: Sequence[Rewrite], /) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for i in range(0, len(some), BATCH):
            part = some[i : i + BATCH]
            for s, checked in zip(self.rubric.score(part), self.rubric.claims(part), strict=True):
                rows.append({"scores": {**s, "faithfulness": share_of(checked)}, "claims": claim_rows(checked)})
            self.progress(len(rows))
        return rows

    def close(self) -> None:
        self.rubric.close()
