"""CompareConfig: a run config with a [compare] table, which chooses arms, seeds and the curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal

from synpro.compare.arms import Arm, arm_order, find_arm, split_rounds
from synpro.compare.contrasts import find_contrasts
from synpro.compare.tuning import TrainingSettings, TuneConfig
from synpro.config import RunConfig
from synpro.measure.curves import Law
from synpro.schema import setting
from synpro.stages.pretrain import PretrainConfig

SCARCE = "u1"
"""Name of the corpus whose text is scarce; `u4` is four times as large."""


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared, and how every arm is measured."""

    RENAMED: ClassVar[Mapping[str, str]] = {"batch": "batch_size", "anneal": "decay_fraction", "texts": "", "token_noise": ""}

    arms: tuple[str, ...] = ("repetition", "tuned-repetition", "prompt-only", "synpro", "oracle")
    """Names from `compare/arms.py`, also with a number (`prompt-only-4`: 4 versions, `oracle-2`: twice the text), one operation
    alone (`questions-only`), one check left out (`prompt-only-without-copy`; also truncated, length, loop, language, support,
    near-copy), and rounds of their own (`synpro-3-rounds`)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One measured model per arm and seed; a seed sets initial weights and data order, the same in every arm. The page prints
    the smallest effect that they could detect: take 8 where a training is minutes."""
    text_draws: int = setting(1, source="ours", min=1)
    """How often the text of an arm is sampled anew. Seeds take turns: with 2 draws, the second, fourth, ... are trained on the
    second one. Generators are trained once."""
    best_of: int = setting(8, unit="texts", source="ours", min=2)
    """Texts of each passage of which the arms that choose (best-of-n, least-copied, ...) keep `num_versions`."""
    forced: bool = setting(True, source="ours")
    """Measure every arm with synthetic text under the settings of tuned repetition too, with the whole budget: the stricter
    line. false: its own settings alone."""
    settings_from: str | None = setting(None, source="ours")
    """The arm whose search serves every arm with synthetic text, for one search costs more than an arm's models; none: each has
    a search of its own."""
    equal_tokens: bool = setting(True, source="ours")
    """Measure every contrast of two arms with synthetic text once more with as many synthetic tokens in both."""
    equal_contrasts: tuple[str, ...] = setting((), source="ours")
    """The contrasts that are measured so, as `ARM~CONTROL`; empty: every one. Each takes a training per seed, of the arm that
    has more tokens."""
    absorption: bool = setting(False, source="ours")
    """Ask every arm's models what they absorbed: cloze items from the training passages, and the loss of another version of
    them that no arm was trained on, which is generated for it (`stages/absorption.py`)."""
    budget_tokens: int = setting(0, unit="tokens", min=0)
    """Training tokens of every measured model, repetitions included; 0 takes `pretrain.max_tokens`."""
    batch_size: int = setting(0, unit="sequences", min=0)
    """Sequences per step of every measured model; 0 takes `pretrain.batch_size`. Where the budget is few steps, a small batch
    shows what the text is worth; a large one shows that the model has not learned yet."""
    decay_fraction: float = setting(0.2, source="ours", min=0, max=1)
    """Last share of the budget over which the learning rate falls to 0; the same in every arm."""
    anchors: tuple[int, ...] = setting((2, 3, 4), source="ours", min=2)
    """Multiples of `prepare.train_words`: sizes of organic corpora at which tuned repetition is measured too, for the curve of
    loss against unique tokens. The largest is the oracle's. A law needs three of them beside the scarce corpus: with fewer
    points than that it has as many parameters as points."""
    passes: bool = True
    """Measure a single pass over each corpus too, for the oracle-equivalent tokens: a share of one more arm's cost."""
    weight_decay: float = setting(0.1, source="published", min=0)
    """Weight decay of the arm `repetition`, and where a search without `begin` begins."""
    begin: TrainingSettings | None = setting(None, source="ours")
    """Where the search of repetition begins: what an earlier search found, so that only its neighbours are left to try. none:
    settings that nobody tuned."""
    begin_anchors: TrainingSettings | None = setting(None, source="ours")
    """Where the search of the smallest larger corpus begins. none: the settings of tuned repetition."""
    begin_synthetic: TrainingSettings | None = setting(None, source="ours")
    """Where searches with synthetic text begin. none: the settings of tuned repetition, with the whole budget."""
    protocol: Literal["scratch", "continued"] = "scratch"
    """`scratch`: measured models are trained from new weights, or those of `pretrain.start`, on all the text. `continued`: from
    the first plateau on, as the paper trains; the tokens before it count."""
    law: Law = "power"
    """The curve of loss against unique tokens (`measure/curves.py`)."""
    tune: TuneConfig = field(default_factory=TuneConfig)

    def __post_init__(self) -> None:
        for name in self.arms:
            try:
                multiple = find_arm(name).oracle
            except ValueError as problem:
                raise ValueError(f"arms: {problem}") from None
            if multiple and multiple not in self.anchors:
                raise ValueError(f"anchors: the arm {name} needs {multiple} among them")
        for field_name in ("arms", "seeds", "anchors"):
            values = getattr(self, field_name)
            if len(set(values)) != len(values):
                raise ValueError(f"{field_name}: the same value is listed twice")
        if not self.arms or not self.seeds:
            raise ValueError(f"{'seeds' if self.arms else 'arms'}: is empty; give at least one")
        if "oracle" in self.arms and not self.anchors:
            raise ValueError("anchors: the oracle needs a larger corpus; give at least one multiple")
        if "tuned-repetition" in self.arms and not self.tune.trials:
            raise ValueError("arms: tuned-repetition needs a search; give compare.tune.trials, or take it out")
        if self.settings_from is not None and self.settings_from not in self.arms:
            raise ValueError(f"settings_from: {self.settings_from!r} is not one of the arms ({', '.join(self.arms)})")
        if self.settings_from is not None and not self.tune.own_search:
            raise ValueError(
                "settings_from: nothing is searched for an arm (compare.tune.own_search = false); take one of them out"
            )
        searched = {
            "begin": (self.tune.trials, "at the scarce corpus (compare.tune.trials = 0)"),
            "begin_anchors": (
                self.anchors and self.tune.anchor_trials,
                "at a larger corpus (no compare.anchors, or compare.tune.anchor_trials = 0)",
            ),
            "begin_synthetic": (self.tune.own_search, "for an arm (compare.tune.own_search = false)"),
        }
        for name, (trials, where) in searched.items():
            if getattr(self, name) is not None and not trials:
                raise ValueError(f"{name}: nothing is searched {where}; take one of them out")
        for name in ("begin", "begin_anchors"):
            if (settings := getattr(self, name)) is not None and settings.organic_share is not None:
                raise ValueError(f"{name}.organic_share: repetition has organic text alone; it belongs into begin_synthetic")
        if self.text_draws > len(self.seeds):
            raise ValueError(f"text_draws: {self.text_draws} draws need as many seeds, there are {len(self.seeds)}")


@dataclass(frozen=True)
class CompareConfig(RunConfig):
    """A run config, which every arm is derived from, and the table that says which arms."""

    compare: ComparisonConfig = field(default_factory=ComparisonConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, arm in self.synthetic.items():
            if not (arm.rounds or self.rounds):
                raise ValueError(f"rounds: the arm {name} needs at least one")
            if arm.rounds == self.rounds:
                raise ValueError(f"compare.arms: {name} is {split_rounds(name)[0]}, since rounds = {self.rounds}; take it out")
        if (lead := self.compare.settings_from) is not None and lead not in self.synthetic:
            raise ValueError(f"compare.settings_from: the arm {lead} has no synthetic text; name one that has")
        for name in self.synthetic:
            try:
                own = self.of_arm(name)
            except ValueError as problem:
                raise ValueError(f"compare.arms: {name}: {problem}") from problem
            if own.retrain_each_round != self.retrain_each_round and (self.arms[name].rounds or self.rounds) < 2:
                raise ValueError(f"rounds: the arm {name} differs from synpro from round 2 on only; give at least 2")
        for name in self.compare.equal_contrasts:
            pair = name.partition("~")[::2]
            among = self.arms if set(pair) <= set(self.arms) else pair
            if name not in {c.name for c in find_contrasts(among, self.rounds) if c.equal}:
                said = f"compare.equal_contrasts: {name!r} is no contrast of two arms with different texts"
                raise ValueError(f"{said}; write ARM~CONTROL, as compare/contrasts.py pairs them")
        for name in ("begin", "begin_anchors", "begin_synthetic"):
            if (settings := getattr(self.compare, name)) is not None and settings.replay_share and not self.prepare.general:
                raise ValueError(f"compare.{name}.replay_share: there is no general text to replay; give prepare.general")
        if self.compare.anchors and self.prepare.train_words is None:
            raise ValueError("prepare.train_words: the anchors are multiples of it; set it")
        if self.budget < self.measured.batch_size * self.pretrain.sequence_length:
            raise ValueError("compare.budget_tokens: is less than one batch; raise it")

    @property
    def arms(self) -> dict[str, Arm]:
        """The arms, in the order they run in."""
        return {name: find_arm(name) for name in sorted(self.compare.arms, key=arm_order)}

    @property
    def synthetic(self) -> dict[str, Arm]:
        """The arms that have synthetic text."""
        return {name: arm for name, arm in self.arms.items() if arm.generator_config is not None}

    def of_arm(self, name: str) -> RunConfig:
        """The config of an arm's generators. Raises ValueError where its settings do not fit."""
        change = find_arm(name).generator_config
        run = RunConfig(**{f.name: getattr(self, f.name) for f in fields(RunConfig)})
        run = replace(run, synthesize=replace(run.synthesize, keep_answers=True))
        return run if change is None else change(run, self.compare.best_of)

    @property
    def budget(self) -> int:
        """Training tokens of a measured model."""
        return self.compare.budget_tokens or self.pretrain.max_tokens

    @property
    def measured(self) -> PretrainConfig:
        """Training of measured models, before the searched settings: `pretrain` with `compare.batch_size`.

        It is evaluated and saved after as many tokens as with the batch size of `pretrain`.
        """
        base, batch_size = self.pretrain, self.compare.batch_size or self.pretrain.batch_size

        def scaled(steps: int) -> int:
            return max(1, round(steps * base.batch_size / batch_size))

        return replace(
            base,
            batch_size=batch_size,
            hardware=replace(base.hardware, micro_batch_size=min(base.hardware.micro_batch_size, batch_size)),
            evaluate_every=scaled(base.evaluate_every),
            log_every=scaled(base.log_every),
            checkpoint_every=None if base.checkpoint_every is None else scaled(base.checkpoint_every),
        )
