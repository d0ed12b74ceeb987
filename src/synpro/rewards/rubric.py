"""The rubric: which rewards an operation has, and with what weight. Importing this opens no model.

Values stay raw here; TRL (`grpo/trl.py`) normalises each reward inside its group before the weighted sum, because an influence
difference is about 0.01 nats and a 0/1 reward about 1: added raw, influence would be drowned (GDPO).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from synpro.faithfulness.registry import open_judges
from synpro.operations.base import Operation
from synpro.records import Passage, Rewrite
from synpro.rewards.base import Reward, RewardContext
from synpro.rewards.faithfulness import Checked, Faithfulness
from synpro.rewards.registry import REWARDS, load_rewards
from synpro.rewards.scoring import Scoring
from synpro.runner.process_group import SINGLE_PROCESS, ProcessGroup


class Rubric:
    """The rewards of one operation with their weights."""

    def __init__(self, rewards: Sequence[Reward], weights: Mapping[str, float], context: RewardContext | None = None) -> None:
        """`context` is what the rewards were made of; its judges are closed with them."""
        self.rewards = tuple(rewards)
        self.weights = {reward.name: weights[reward.name] for reward in rewards}
        self._context = context

    @classmethod
    def build(
        cls,
        operation: Operation,
        scoring: Scoring,
        state_dir: Path | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> Rubric:
        """The rubric of an operation, with the weights of its config.

        Args:
            state_dir: a folder of the step in which it remembers which weights its servers had.
            group: the processes of the step; their rubrics score the sources together, and each scores its own rewrites.

        Raises ValueError when no reward has a weight, and what a judge that cannot be opened raises.
        """
        weights, probe = operation.config.weights, scoring.probe
        load_rewards(scoring.rubric.files)
        names = [n for n, w in weights.items() if w > 0 and ("probe" not in REWARDS[n].needs or probe is not None)]
        if not names:
            raise ValueError(f"operations.{operation.name}.weights: no reward that can be computed here has a weight above 0")
        context = RewardContext(
            scoring.rubric, operation, open_judges(scoring.judges, state_dir, scoring.verifier), probe, group
        )
        try:
            return cls([REWARDS[name].from_context(context) for name in names], weights, context)
        except BaseException:
            context.judges.close()
            raise

    @property
    def names(self) -> list[str]:
        """The rewards in use, in the order of the config."""
        return [reward.name for reward in self.rewards]

    def prepare(self, passages: Sequence[Passage]) -> None:
        """Score the sources, once. Call it with every passage that will be shown, in every process of the step."""
        for reward in self.rewards:
            reward.prepare(passages)

    def score(self, rewrites: Sequence[Rewrite]) -> list[dict[str, float | None]]:
        """Raw values by reward name, one dict per rewrite. Raises when a judge fails; None = does not apply.

        Rewards that wait for a server are scored side by side, in threads, while the others are scored here one by one.
        """
        waiting = [reward for reward in self.rewards if reward.is_remote]
        with ThreadPoolExecutor(max(1, len(waiting)), thread_name_prefix="synpro-reward") as pool:
            promised = {reward.name: pool.submit(reward.score, rewrites) for reward in waiting}
            here = {reward.name: reward.score(rewrites) for reward in self.rewards if reward.name not in promised}
            columns = {name: here[name] if name in here else promised[name].result() for name in self.names}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(rewrites))]

    def claims(self, rewrites: Sequence[Rewrite]) -> list[list[Checked]]:
        """Every claim of each rewrite with its verdict, also where faithfulness has no weight. What `score` has asked
        the verifier is not asked again. Raises ValueError for a rubric that was made without a context."""
        if self._context is None:
            raise ValueError("this rubric has no judges of its own; make it by Rubric.build")
        return Faithfulness.from_context(self._context).check(rewrites)

    def close(self) -> None:
        """Give the judges' memory back. Safe to call twice."""
        if self._context is not None:
            self._context.judges.close()


def normalized_totals(scores: Sequence[Mapping[str, float | None]], weights: Mapping[str, float]) -> list[float]:
    """Weighted sums of the rewards, each standardised over the given rewrites (mean 0, deviation 1).

    Inside one group this is what GRPO's advantage is made of; over a pool it compares rewrites of different passages.
    A None takes the mean; a reward that is equal for all counts 0.
    """
    sums = [0.0] * len(scores)
    for name, weight in weights.items():
        known = [float(v) for s in scores if (v := s.get(name)) is not None]
        if len(known) < 2:
            continue
        mean = sum(known) / len(known)
        deviation = (sum((v - mean) ** 2 for v in known) / (len(known) - 1)) ** 0.5
        if deviation < 1e-9:
            continue
        for i, score in enumerate(scores):
            value = score.get(name)
            sums[i] += 0.0 if value is None else weight * (value - mean) / (deviation + 1e-4)
    return sums
