"""A stage that does nothing but score, for the tests of rewards in a step's own process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from synpro.judges.base import JudgesConfig
from synpro.operations.base import OperationConfig
from synpro.operations.table import build
from synpro.records import Evaluation, digest_files
from synpro.rewards.rubric import Rubric, RubricConfig
from synpro.run.journal import Journal
from tests.rewards.honest import REPHRASED, SOURCES, answered, passage


@dataclass(frozen=True)
class ScoreConfig:
    name: str


def score(cfg: ScoreConfig, *, rubric: RubricConfig, out: Path, journal: Journal, seed: int) -> Evaluation:
    operation = build(OperationConfig("rephrase"))
    rewards = Rubric.build(operation, rubric, JudgesConfig(), None)
    rewards.prepare([passage(n) for n in SOURCES])
    scores = rewards.score([answered(operation, cfg.name, f"Rephrased:\n{REPHRASED[cfg.name]}")])
    (out / "scores.json").write_text(json.dumps(scores))
    return Evaluation(out, 0.0, 0.0, digest=digest_files(out, out / "scores.json"))
