"""CompareConfig: a run config with a [compare] table on top, which chooses arms, seeds and the curve."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from synpro.compare.arms import ARMS
from synpro.compare.tuning import TuneConfig
from synpro.config import RunConfig
from synpro.measure.curves import Law
from synpro.stages.pretrain import PretrainConfig


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and how every arm is measured."""

    arms: tuple[str, ...] = ("repetition", "tuned-repetition", "prompt-only", "synpro", "oracle")
    """Names from `compare/arms.py`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One measured model per arm and seed; a seed sets initial weights and data order, the same in every arm."""
    budget_tokens: int = 0
    """Training tokens of every measured model, repetitions included; 0 takes `pretrain.max_tokens`."""
    batch: int = 0
    """Sequences per step of every measured model; 0 takes `pretrain.batch`. Where the budget is few steps, a small batch shows
    what the text is worth; a large one shows that the model has not learned yet."""
    anneal: float = 0.2
    """Last share of the budget over which the learning rate falls to 0; the same in every arm."""
    anchors: tuple[int, ...] = (2, 4)
    """Multiples of `prepare.train_words`: organic corpora at which tuned repetition is measured too, for the curve of loss
    against unique tokens. The largest one is the oracle's."""
    passes: bool = True
    """Measure a single pass over each corpus too, for the oracle-equivalent tokens: a share of one more arm's cost."""
    weight_decay: float = 0.1
    """Of the arm `repetition`, and where the search begins: the usual one."""
    token_noise: float = 0.1
    """Share of input tokens the arm `token-noise` replaces."""
    protocol: Literal["scratch", "continued"] = "scratch"
    """`scratch`: measured models are trained from new weights on everything there is. `continued`: on from the first plateau,
    as the paper trains; the tokens before it count."""
    texts: Literal["once", "per-seed"] = "once"
    """Generators and synthetic text are made once per arm, so that seeds vary the measured training alone, or once per arm and
    seed, which costs as often and lets the interval hold what generation varies by."""
    law: Law = "power"
    """The curve of loss against unique tokens (`measure/curves.py`)."""
    tune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        for name in self.arms:
            if name not in ARMS:
                raise ValueError(f"arms: there is no arm {name!r}; known: {', '.join(ARMS)}")
        for field_name in ("arms", "seeds", "anchors"):
            values = getattr(self, field_name)
            if len(set(values)) != len(values):
                raise ValueError(f"{field_name}: one of them stands twice")
        if not self.arms or not self.seeds:
            raise ValueError("arms: at least one, and at least one of seeds")
        if any(m < 2 for m in self.anchors):
            raise ValueError("anchors: are multiples of the corpus; give whole numbers from 2 on")
        if "oracle" in self.arms and not self.anchors:
            raise ValueError("anchors: the oracle needs a larger corpus; give at least one multiple")
        if "tuned-repetition" in self.arms and not self.tune.trials:
            raise ValueError("arms: tuned-repetition needs a search; give compare.tune.trials, or take it out")
        if self.batch < 0:
            raise ValueError(f"batch: {self.batch} is below 0; use 0 for that of pretrain")
        if self.budget_tokens < 0 or not 0 <= self.anneal <= 1:
            raise ValueError("budget_tokens: cannot be negative, and anneal is a share of it")
        if not 0 < self.token_noise < 1:
            raise ValueError(f"token_noise: {self.token_noise} is no share; use about 0.1")


@dataclass(frozen=True)
class CompareConfig(RunConfig):
    """A run config, of which every arm is made, and the table that says which arms."""

    compare: ComparisonConfig = field(default_factory=ComparisonConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        writing = [name for name in self.compare.arms if ARMS[name].writes is not None]
        if writing and not self.rounds:
            raise ValueError(f"rounds: arm {writing[0]} needs at least one")
        if "static" in self.compare.arms and self.rounds < 2:
            raise ValueError("rounds: the arm static is another arm than synpro from round 2 on only; give at least 2")
        if self.compare.anchors and self.prepare.train_words is None:
            raise ValueError("prepare.train_words: is what the anchors are multiples of; set it")
        if self.budget < self.measured.batch * self.pretrain.sequence_length:
            raise ValueError("compare.budget_tokens: is less than one batch; raise it")

    @property
    def budget(self) -> int:
        """Training tokens of a measured model."""
        return self.compare.budget_tokens or self.pretrain.max_tokens

    @property
    def measured(self) -> PretrainConfig:
        """Training of measured models before settings: `pretrain` with `compare.batch`, evaluated and saved as often."""
        usual, batch = self.pretrain, self.compare.batch or self.pretrain.batch
        often = usual.batch / batch

        def scaled(steps: int) -> int:
            return max(1, round(steps * often))

        return replace(
            usual,
            batch=batch,
            hardware=replace(usual.hardware, microbatch=min(usual.hardware.microbatch, batch)),
            evaluate_every=scaled(usual.evaluate_every),
            log_every=scaled(usual.log_every),
            checkpoint_every=None if usual.checkpoint_every is None else scaled(usual.checkpoint_every),
        )
