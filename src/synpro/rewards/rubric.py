"""The rubric: which rewards an operation has, and with what weight. Importing this opens no model.

Values stay raw here; `advantages.py` compares them within a group. An answer that a rule of synthesis drops (not in form,
truncated, a copy, ...) fails every reward, and no judge sees it: what is trained towards is what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from synpro.engines.base import Unanswered
from synpro.engines.failures import MAX_FAILED_SHARE, FailureCount
from synpro.faithfulness.registry import open_judges
from synpro.operations.base import Operation
from synpro.records import Passage, Rewrite
from synpro.rewards.base import FAILED, Reward, RewardContext
from synpro.rewards.faithfulness import Checked, Faithfulness
from synpro.rewards.filters import Sample, rule_failure
from synpro.rewards.registry import REWARDS
from synpro.rewards.scoring import Scoring

BROKEN_BY_TEXT = (ValueError, ArithmeticError, LookupError, TypeError, RecursionError)
"""What a judge raises over one odd text. A judge that is gone, or a full memory, raises something else, and ends the step."""
T = TypeVar("T")


def score_each(score: Callable[[Sequence[Rewrite]], Sequence[T]], rewrites: Sequence[Rewrite]) -> list[T | Unanswered]:
    """Score rewrites together. A text that breaks a judge is found by halving, and has the reason in its place."""
    try:
        return list(score(rewrites))
    except BROKEN_BY_TEXT as problem:
        if len(rewrites) == 1:
            return [Unanswered(f"{type(problem).__name__}: {problem}")]
        half = len(rewrites) // 2
        return score_each(score, rewrites[:half]) + score_each(score, rewrites[half:])


class Rubric:
    """The rewards of one operation with their weights."""

    def __init__(self, rewards: Sequence[Reward], weights: Mapping[str, float], context: RewardContext | None = None) -> None:
        """`context` is what the rewards were made of; its judges are closed with them."""
        self.rewards = tuple(rewards)
        self.weights = {reward.name: weights[reward.name] for reward in rewards}
        self._context = context
        most = MAX_FAILED_SHARE if context is None else context.judges.cfg.max_failed
        self.failures = FailureCount("rewards: answers", most, "judges.max_failed")

    @classmethod
    def build(cls, operation: Operation, scoring: Scoring, state_dir: Path | None = None) -> Rubric:
        """The rubric of an operation, with the weights of its config.

        Args:
            state_dir: a folder of the step in which it remembers which weights its servers had.

        Raises ValueError when no reward has a weight, and what a judge that cannot be opened raises.
        """
        weights, probe = operation.config.weights, scoring.probe
        names = [n for n, w in weights.items() if w > 0 and ("probe" not in REWARDS[n].needs or probe is not None)]
        if not names:
            raise ValueError(f"operations.{operation.name}.weights: no reward that can be computed here has a weight above 0")
        judges = open_judges(scoring.judges, state_dir, scoring.verifier)
        context = RewardContext(scoring.rubric, operation, judges, probe, scoring.filters)
        try:
            return cls([REWARDS[name].from_context(context) for name in names], weights, context)
        except BaseException:
            context.judges.close()
            raise

    @property
    def names(self) -> list[str]:
        """The rewards in use, in the order of the config."""
        return [reward.name for reward in self.rewards]

    def score(self, rewrites: Sequence[Rewrite]) -> list[dict[str, float | None]]:
        """Raw values by reward name, one dict per rewrite: None = does not apply, FAILED = fails the reward; FAILED in all
        = rejected by a rule, or an answer that a judge cannot read, or gives NaN for; these are counted in `failures`.
        Raises TooManyFailures, and when a judge fails.

        Rewards that wait for a server are scored side by side, in threads, while the others are scored here one by one.
        """
        allowed = [self._passes(r) for r in rewrites]
        some = [r for r, ok in zip(rewrites, allowed, strict=True) if ok]
        scored = score_each(self.score_valid, some)
        self.failures.add(scored)
        failed: dict[str, float | None] = dict.fromkeys(self.names, FAILED)
        rows = ({**failed} if isinstance(row, Unanswered) else row for row in scored)
        return [next(rows) if ok else {**failed} for ok in allowed]

    def _passes(self, rewrite: Rewrite) -> bool:
        if self._context is None:  # made without an operation's limits
            return rewrite.text is not None
        return rule_failure(Sample(rewrite, self._context.operation.config), self._context.filters) is None

    def score_valid(self, rewrites: Sequence[Rewrite]) -> list[dict[str, float | None]]:
        """As `score`, of rewrites that are known to pass the rules. Raises what a judge raises, and ValueError for NaN."""
        if not rewrites:
            return []
        waiting = [reward for reward in self.rewards if reward.is_remote]
        with ThreadPoolExecutor(max(1, len(waiting)), thread_name_prefix="synpro-reward") as pool:
            promised = {reward.name: pool.submit(reward.score, rewrites) for reward in waiting}
            here = {reward.name: reward.score(rewrites) for reward in self.rewards if reward.name not in promised}
            columns = {name: here[name] if name in here else promised[name].result() for name in self.names}
        if broken := [name for name, values in columns.items() if any(v is not None and not v < math.inf for v in values)]:
            raise ValueError(f"reward {broken[0]!r} is no number (NaN or infinite); its model overflows, or is damaged")
        worst = {reward.name: reward.worst for reward in self.rewards}
        return [
            {name: FAILED if (v := values[i]) is not None and v <= worst[name] else v for name, values in columns.items()}
            for i in range(len(rewrites))
        ]

    def claims(self, rewrites: Sequence[Rewrite]) -> list[list[Checked]]:
        """Every claim of each rewrite with its verdict, also where faithfulness has no weight. What `score` has asked
        the verifier is not asked again. Raises ValueError for a rubric that was made without a context."""
        if self._context is None:
            raise ValueError("this rubric has no judges of its own; make it by Rubric.build")
        return Faithfulness.from_context(self._context).check(rewrites)

    def can_check(self, passage: Passage) -> bool:
        """Whether the verifier knows the passage's language; True for a rubric that was made without a context."""
        return self._context is None or self._context.judges.verifier.knows(passage.text)

    def close(self) -> None:
        """Give the judges' memory back. Safe to call twice."""
        if self._context is not None:
            self._context.judges.close()
