"""A rubric that scores whole chunks of rewrites, wherever `engines/spread.py` opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpro.judges.base import JudgesConfig
from synpro.operations.base import OperationConfig
from synpro.operations.table import build
from synpro.records import Passage, Probe, Rewrite, Verifier
from synpro.rewards.checks import Scores
from synpro.rewards.faithfulness import Checked
from synpro.rewards.faithfulness import share as share_of
from synpro.rewards.rubric import Rubric, RubricConfig

TOGETHER = 64
"""Rewrites scored in one go."""


@dataclass(frozen=True)
class Scored:
    """What was found of one rewrite."""

    scores: Scores
    """Raw rewards by name; faithfulness also where it is not paid for."""
    claims: list[dict[str, Any]]
    """Each claim with its verdict (`run/lineage.py` reads it)."""


def told(checked: Sequence[Checked]) -> list[dict[str, Any]]:
    """Claims as plain data: claim, label, probability, and the passage's sentence that supports it with its place."""
    rows = []
    for c in checked:
        s = c.verdict.support
        place = {"support": s.text, "start": s.start, "end": s.end} if s else {"support": None, "start": None, "end": None}
        rows.append({"claim": c.claim, "label": c.verdict.label, "probability": round(c.verdict.probability, 6), **place})
    return rows


@dataclass(frozen=True)
class Judging:
    """Opens a rubric, which scores chunks."""

    operation: OperationConfig
    rubric: RubricConfig
    judges: JudgesConfig
    probe: Probe
    verifier: Verifier
    scratch: Path
    passages: Sequence[Passage]
    """All: what a reward takes from the corpus must not hang on the chunk."""

    def open(self, progress: Callable[[float], None]) -> Judge:
        opened = Rubric.build(build(self.operation), self.rubric, self.judges, self.probe, self.verifier, self.scratch)
        opened.prepare(self.passages)
        return Judge(opened, progress)


class Judge:
    """Scores chunks: raw rewards and checked claims of each rewrite, as plain data."""

    def __init__(self, rubric: Rubric, progress: Callable[[float], None]) -> None:
        self.rubric, self.progress = rubric, progress

    def __call__(self, some: Sequence[Rewrite], /) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for i in range(0, len(some), TOGETHER):
            part = some[i : i + TOGETHER]
            for s, checked in zip(self.rubric.score(part), self.rubric.claims(part), strict=True):
                rows.append({"scores": {**s, "faithfulness": share_of(checked)}, "claims": told(checked)})
            self.progress(len(rows))
        return rows

    def close(self) -> None:
        self.rubric.close()
