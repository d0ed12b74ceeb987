"""A stage that writes the prompt of an operation, for the tests of operations in a step's own process."""

from __future__ import annotations

from dataclasses import dataclass

from synpro.operations.base import OperationConfig
from synpro.operations.registry import build_operation
from synpro.records import Evaluation, Passage, digest_files
from synpro.runner.context import StepContext


@dataclass(frozen=True)
class PromptConfig:
    """The passage that is asked about."""

    text: str


def ask(cfg: PromptConfig, *, operation: OperationConfig, ctx: StepContext) -> Evaluation:
    """Write `prompt.txt`."""
    passage = Passage("d#0", "d", 0, 0, len(cfg.text), cfg.text)
    (ctx.out / "prompt.txt").write_text(build_operation(operation).prompt(passage)[-1]["content"])
    return Evaluation(ctx.out, 0.0, 0.0, digest=digest_files(ctx.out, ctx.out / "prompt.txt"))
