"""A rubric that scores whole chunks of rewrites, in this process or in a Ray worker (`engines/parallel_map.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.operations.base import OperationConfig
from synpro.operations.registry import build_operation
from synpro.records import Rewrite
from synpro.rewards.faithfulness import Checked
from synpro.rewards.faithfulness import share as share_of
from synpro.rewards.filters import Scores
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring

BATCH = 64
"""Rewrites scored in one call."""
BROKEN_BY_TEXT = (ValueError, ArithmeticError, LookupError, TypeError)
"""What a judge raises over one odd text. A judge that is gone, or a full memory, raises something else, and ends the step."""


@dataclass(frozen=True)
class Scored:
    """Scores and claims of one rewrite."""

    scores: Scores
    """Raw rewards by name; faithfulness also where it has no weight, None where no claim of the text could be checked."""
    claims: list[dict[str, Any]]
    """Each claim with its verdict (`report/lineage.py` reads it)."""
    problem: str = ""
    """Why the text cannot be judged; empty for one that was."""


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
    corpus: Path
    """The corpus' folder: what a reward takes from it must not depend on the chunk."""

    def open(self, progress: Callable[[float], None]) -> RubricWorker:
        opened = Rubric.build(build_operation(self.operation), self.scoring, self.scratch)
        if opened.reads_corpus:
            from synpro.corpus.store import read_passages

            opened.prepare(read_passages(self.corpus))
        return RubricWorker(opened, progress)


class RubricWorker:
    """Scores chunks: raw rewards and checked claims of each rewrite, as plain data."""

    def __init__(self, rubric: Rubric, progress: Callable[[float], None]) -> None:
        self.rubric, self.progress = rubric, progress

    def __call__(self, some: Sequence[Rewrite], /) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for i in range(0, len(some), BATCH):
            rows += self._score(some[i : i + BATCH])
            self.progress(len(rows))
        return rows

    def _score(self, some: Sequence[Rewrite]) -> list[dict[str, Any]]:
        """Score rewrites together. A text that breaks a judge is found by halving, and is a row that says so."""
        try:
            scores, claims = self.rubric.score(some), self.rubric.claims(some)
        except BROKEN_BY_TEXT as problem:
            if len(some) > 1:
                half = len(some) // 2
                return self._score(some[:half]) + self._score(some[half:])
            return [{"scores": {}, "claims": [], "problem": f"{type(problem).__name__}: {problem}"}]
        rows: list[dict[str, Any]] = [
            {"scores": {**s, "faithfulness": share_of(checked) if checked else None}, "claims": claim_rows(checked)}
            for s, checked in zip(scores, claims, strict=True)
        ]
        for row, rewrite in zip(rows, some, strict=True):
            if not self.rubric.can_check(rewrite.passage):
                row["scores"].pop("faithfulness")  # it does not apply: nothing is dropped for want of a verdict
        return rows

    def close(self) -> None:
        self.rubric.close()
