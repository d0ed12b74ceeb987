"""The rubric: which rewards an operation is paid by, and with what weight. Importing this opens no model.

Values stay raw here; TRL (`grpo/trl.py`) normalises each reward inside its group before the weighted sum, because an influence
difference is about 0.01 nats and a 0/1 reward about 1: added raw, influence would be drowned (GDPO).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from synpro.judges.base import JudgesConfig
from synpro.judges.table import Judges
from synpro.operations.base import Operation
from synpro.records import Passage, Probe, Rewrite, Verifier
from synpro.rewards.added import add_rewards
from synpro.rewards.base import Reward, waits
from synpro.rewards.faithfulness import Checked, Faithfulness, FaithfulnessConfig
from synpro.rewards.format import Format
from synpro.rewards.influence import Influence, InfluenceConfig
from synpro.rewards.length import Length, LengthConfig
from synpro.rewards.quality import Quality
from synpro.rewards.similarity import Similarity, SimilarityConfig
from synpro.rewards.structure import Structure
from synpro.run.ranks import ALONE, Ranks


def _paper_weights() -> dict[str, dict[str, float]]:
    return {
        "rephrase": {"influence": 3.0, "quality": 1.0, "similarity": 1.0, "structure": 1.0, "length": 1.0, "format": 1.0},
        "reformat": {"influence": 3.0, "quality": 1.0, "faithfulness": 1.0, "format": 1.0},
    }


@dataclass(frozen=True)
class RubricConfig:
    """What rewrites are paid for. The defaults are the paper's weights and thresholds."""

    weights: dict[str, dict[str, float]] = field(default_factory=_paper_weights)
    """Weight of each reward, by operation. A reward that is not named is not computed."""
    influence: InfluenceConfig = field(default_factory=InfluenceConfig)
    faithfulness: FaithfulnessConfig = field(default_factory=FaithfulnessConfig)
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    length: LengthConfig = field(default_factory=LengthConfig)
    files: tuple[str, ...] = ()
    """Python files with rewards of your own (`examples/my_reward.py`), from the folder synpro is started in; their code is part
    of the request of every step that scores."""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "files", tuple(add_rewards(file, REWARDS, _BUILT_IN) for file in self.files))
        except ValueError as problem:
            raise ValueError(f"files: {problem}") from problem
        for operation, weights in self.weights.items():
            for name, weight in weights.items():
                if name not in REWARDS:
                    raise ValueError(f"weights.{operation}: there is no reward {name!r}; use one of {', '.join(REWARDS)}")
                if not 0 <= weight < float("inf"):
                    raise ValueError(f"weights.{operation}.{name}: {weight} is not a weight; use 0 or more")
            if not any(weights.values()):
                raise ValueError(f"weights.{operation}: every weight is 0; give at least one reward a weight")


@dataclass(frozen=True)
class Bench:
    """What a reward may be built from."""

    cfg: RubricConfig
    operation: Operation
    judges: Judges
    probe: Probe | None
    ranks: Ranks = ALONE
    """The processes that score sources together."""


REWARDS: dict[str, Callable[[Bench], Reward]] = {
    "influence": lambda b: Influence.of_probe(b.probe, b.judges.encoder, b.cfg.influence, b.ranks),
    "quality": lambda b: Quality(b.judges.quality),
    "faithfulness": lambda b: Faithfulness(b.operation, b.judges.verifier, b.cfg.faithfulness),
    "similarity": lambda b: Similarity(b.judges.encoder, b.cfg.similarity),
    "structure": lambda b: Structure(b.judges.layout),
    "length": lambda b: Length(b.cfg.length),
    "format": lambda b: Format(),
}
"""Adding a reward: one file and one line here."""
_BUILT_IN = dict(REWARDS)


class Rubric:
    """The rewards of one operation with their weights."""

    def __init__(self, rewards: Sequence[Reward], weights: Mapping[str, float], bench: Bench | None = None) -> None:
        """`bench` is what the rewards were built from, and is closed with them."""
        self.rewards = tuple(rewards)
        self.weights = {reward.name: weights[reward.name] for reward in rewards}
        self._bench = bench

    @classmethod
    def build(
        cls,
        operation: Operation,
        cfg: RubricConfig,
        judges: JudgesConfig,
        probe: Probe | None,
        verifier: Verifier | None = None,
        memory: Path | None = None,
        ranks: Ranks = ALONE,
    ) -> Rubric:
        """The rubric of an operation. Without a probe (rewriting a file outside a run) the influence reward is left out;
        without a verifier claims are checked by rule. `memory` is a folder of the step in which it remembers which weights its
        servers had. `ranks`: the processes of the step, whose rubrics score the sources together and each its own rewrites.

        Raises ValueError when the config names no weights for the operation, and what a judge that does not open raises.
        """
        weights = cfg.weights.get(operation.name)
        if weights is None:
            raise ValueError(
                f"rubric.weights: no weights for operation {operation.name!r}, only for {', '.join(cfg.weights)};"
                f" add a table [rubric.weights.{operation.name}]"
            )
        bench = Bench(cfg, operation, Judges(judges, memory, verifier), probe, ranks)
        names = [n for n, w in weights.items() if w > 0 and (n != "influence" or probe is not None)]
        try:
            return cls([REWARDS[name](bench) for name in names], weights, bench)
        except BaseException:
            bench.judges.close()
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
        waiting = [reward for reward in self.rewards if waits(reward)]
        with ThreadPoolExecutor(max(1, len(waiting)), thread_name_prefix="synpro-reward") as pool:
            promised = {reward.name: pool.submit(reward.score, rewrites) for reward in waiting}
            here = {reward.name: reward.score(rewrites) for reward in self.rewards if reward.name not in promised}
            columns = {name: here[name] if name in here else promised[name].result() for name in self.names}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(rewrites))]

    def claims(self, rewrites: Sequence[Rewrite]) -> list[list[Checked]]:
        """Every claim of each rewrite with its verdict, also where faithfulness is not paid for. What `score` has asked the
        verifier is not asked again. Raises ValueError for a rubric that was not built from a bench."""
        if self._bench is None:
            raise ValueError("this rubric has no judges of its own; make it by Rubric.build")
        bench = self._bench
        return Faithfulness(bench.operation, bench.judges.verifier, bench.cfg.faithfulness).check(rewrites)

    def close(self) -> None:
        """Give the judges' memory back. Safe to call twice."""
        if self._bench is not None:
            self._bench.judges.close()


def totals(scores: Sequence[Mapping[str, float | None]], weights: Mapping[str, float]) -> list[float]:
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
