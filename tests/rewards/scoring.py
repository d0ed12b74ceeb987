"""A stage that does nothing but score, for the tests of rewards in a step's own process."""

from __future__ import annotations

import json
from dataclasses import dataclass

from synpro.operations.base import OperationConfig
from synpro.operations.registry import build_operation
from synpro.records import Evaluation, digest_files
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring
from synpro.runner.context import StepContext
from tests.rewards.reference import REPHRASED, answered


@dataclass(frozen=True)
class ScoreConfig:
    name: str


def score(cfg: ScoreConfig, *, operation: OperationConfig, scoring: Scoring, ctx: StepContext) -> Evaluation:
    op = build_operation(operation)
    rewards = Rubric.build(op, scoring)
    scores = rewards.score([answered(op, cfg.name, f"Rephrased:\n{REPHRASED[cfg.name]}")])
    (ctx.out / "scores.json").write_text(json.dumps(scores))
    return Evaluation(ctx.out, 0.0, 0.0, digest=digest_files(ctx.out, ctx.out / "scores.json"))
