"""Settings of the rewards: the table `[rubric]`. Their weights are in `[operations.NAME]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from synpro.plugins import load_files
from synpro.schema import setting

MIN_FORM = 0.5
"""How well formed an output must be by rule (no loop, no list of words), over the same of its source, to earn influence or
similarity."""


@dataclass(frozen=True)
class InfluenceConfig:
    """When an output carries its passage, so that its influence is rewarded."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        **{"max_copied": "rubric.max_copied", "min_form": "", "shuffled": "rubric.influence.values"},
        **{"min_words": "operations.NAME.min_length", "min_recall": "operations.NAME.min_recall"},
        **{"min_precision": "operations.NAME.min_precision", "min_spread": "", "max_run": "", "max_held": ""},
    }

    OLD_VALUES: ClassVar[Mapping[str, Mapping[bool, str]]] = {"shuffled": {True: "shuffled", False: "measured"}}
    FIXED: ClassVar[Mapping[str, float]] = {"min_form": MIN_FORM, "min_spread": 0.02, "max_run": 0.7, "max_held": 0.75}

    values: Literal["measured", "shuffled", "none"] = setting("measured", source="ours")
    """What the outputs that carry their passage get. `measured`: their influence. `shuffled`: those of the batch, dealt out
    among them at random: the placebo arm of a comparison, in which the reward has its usual spread and no meaning. `none`: all
    the same (its arm no-influence). The gate is the same in all three."""


@dataclass(frozen=True)
class FaithfulnessConfig:
    """When a claim counts as supported."""

    RENAMED: ClassVar[Mapping[str, str]] = {"min_form": ""}
    FIXED: ClassVar[Mapping[str, float]] = {"min_form": 0.25}

    max_claims: int | None = setting(8, unit="claims", source="paper: at most 8 entries of a reformat", min=1)
    """Claims of a text that are checked; of more, so many are drawn from the text. none checks all: each is a question to the
    verifier with the whole passage, and a rephrasing of 7,000 characters has about 60."""
    min_probability: float = setting(0.5, source="ours", min=0, max=1)
    """Smallest probability, by the verifier, that the claim is faithful."""


@dataclass(frozen=True)
class SimilarityConfig:
    """When an output says what its source says, in other words."""

    RENAMED: ClassVar[Mapping[str, str]] = {"max_copied": "rubric.max_copied", "min_form": "", "max_in_order": "", "idf": ""}
    FIXED: ClassVar[Mapping[str, float]] = {"min_form": MIN_FORM, "max_in_order": 0.85, "idf": False}

    value: Literal["threshold", "continuous"] = setting("threshold", source="paper")
    """`threshold`: 1 above the threshold, 0 below it. `continuous`: F1 itself, which also tells two good rewrites apart."""
    threshold: float = setting(0.65, source="paper", above=0, below=1)
    """BERTScore F1 above which an output counts as similar. F1 depends on the encoder."""


@dataclass(frozen=True)
class LengthConfig:
    """How long an output may be, in characters over the characters of its source."""

    at_most: float = setting(1.25, source="paper", above=0)
    """Longest output that is rewarded."""
    at_least: float = setting(0.5, source="ours", min=0)
    """Shortest output that is rewarded; a shorter one is a stub."""

    def __post_init__(self) -> None:
        if self.at_least >= self.at_most:
            raise ValueError(f"at_least: {self.at_least} is not below at_most ({self.at_most}); use 0.5 and 1.25")


@dataclass(frozen=True)
class RubricConfig:
    """How rewards are computed. The defaults are the paper's thresholds, and our guards against gaming them."""

    RENAMED: ClassVar[Mapping[str, str]] = {"weights": "operations.NAME.weights", "min_form": ""}
    FIXED: ClassVar[Mapping[str, float]] = {"min_form": MIN_FORM}

    max_copied: float = setting(0.85, source="ours", above=0, max=1)
    """Largest share of the output's words in runs of 6 that the source contains too. A copy above it gets no influence and no
    similarity reward."""
    influence: InfluenceConfig = field(default_factory=InfluenceConfig)
    faithfulness: FaithfulnessConfig = field(default_factory=FaithfulnessConfig)
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    length: LengthConfig = field(default_factory=LengthConfig)
    files: tuple[str, ...] = ()
    """Python files with rewards of your own (`examples/my_reward.py`), or engines, filters and operations, from the folder
    synpro is started in; their code is part of the request of every step that scores."""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "files", load_files(self.files))
        except ValueError as problem:
            raise ValueError(f"files: {problem}") from problem
