"""A rubric that scores whole chunks of rewrites, in this process or in a Ray worker (`engines/parallel_map.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.engines.base import Unanswered
from synpro.operations.base import OperationConfig
from synpro.operations.registry import build_operation
from synpro.records import Rewrite, digest_of
from synpro.rewards.faithfulness import Checked
from synpro.rewards.faithfulness import share as share_of
from synpro.rewards.filters import Scores
from synpro.rewards.rubric import Rubric, score_each
from synpro.rewards.scoring import Scoring

BATCH = 64
"""Rewrites scored in one call."""


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
    share: float = 1.0
    """Share of the rewrites that all rewards are computed of; of the others only faithfulness is."""

    def open(self, progress: Callable[[float], None]) -> RubricWorker:
        return RubricWorker(Rubric.build(build_operation(self.operation), self.scoring, self.scratch), progress, self.share)


class RubricWorker:
    """Scores chunks of rewrites that pass the rules: raw rewards and checked claims of each, as plain data."""

    def __init__(self, rubric: Rubric, progress: Callable[[float], None], share: float = 1.0) -> None:
        self.rubric, self.progress, self.share = rubric, progress, share

    def __call__(self, some: Sequence[Rewrite], /) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for i in range(0, len(some), BATCH):
            for row in score_each(self._score, some[i : i + BATCH]):
                rows.append({"scores": {}, "claims": [], "problem": row.reason} if isinstance(row, Unanswered) else row)
            self.progress(len(rows))
        return rows

    def _score(self, some: Sequence[Rewrite]) -> list[dict[str, Any]]:
        chosen = [self.is_drawn(r) for r in some]
        full = iter(self.rubric.score_valid([r for r, every in zip(some, chosen, strict=True) if every]))
        claims = self.rubric.claims(some)
        rows: list[dict[str, Any]] = [
            {
                "scores": {**(next(full) if every else {}), "faithfulness": share_of(checked) if checked else None},
                "claims": claim_rows(checked),
            }
            for every, checked in zip(chosen, claims, strict=True)
        ]
        for row, rewrite in zip(rows, some, strict=True):
            if not self.rubric.can_check(rewrite.passage):
                row["scores"].pop("faithfulness")  # it does not apply: nothing is dropped for want of a verdict
        return rows

    def is_drawn(self, rewrite: Rewrite) -> bool:
        """Whether all rewards are computed of a rewrite: by a hash of passage and answer, whatever chunk it is in."""
        return self.share >= 1 or int(digest_of([rewrite.passage.id, rewrite.answer])[:12], 16) < self.share * 16**12

    def close(self) -> None:
        self.rubric.close()
