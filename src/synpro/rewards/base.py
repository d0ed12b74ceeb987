"""What a reward is. One reward = one file beside this one and one line in `registry.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from synpro.judges.registry import JudgePool
from synpro.operations.base import Operation
from synpro.records import Passage, Probe, Rewrite
from synpro.rewards.config import RubricConfig
from synpro.runner.process_group import SINGLE_PROCESS, ProcessGroup

Need = Literal["encoder", "probe", "verifier", "quality", "layout"]
"""A model that a reward is computed with: one of the judges, or the probe."""


@dataclass(frozen=True)
class RewardContext:
    """What a reward may be made of."""

    cfg: RubricConfig
    operation: Operation
    judges: JudgePool
    probe: Probe | None
    group: ProcessGroup = SINGLE_PROCESS
    """The processes that score sources together."""


class Reward(ABC):
    """A number for each rewrite. A subclass sets the class attributes and defines `score`."""

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    """Unit of its values; empty: 0 to 1."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """The models it is computed with. A model that no reward with a weight needs is not opened."""
    worst: float = 0.0
    """Value of an answer that does not parse: no reference answer may get less."""

    @classmethod
    def from_context(cls, context: RewardContext) -> Reward:
        """The reward, with its settings and judges. Here: without any."""
        return cls()

    @property
    def is_remote(self) -> bool:
        """Whether it waits for a server. Then it is scored in a thread beside the others, and may share with them only what is
        thread-safe."""
        return False

    def prepare(self, passages: Sequence[Passage]) -> None:  # noqa: B027 (most rewards have nothing to prepare)
        """Score the sources once, before training. Called with every passage the run may show. Here: nothing to do."""

    @abstractmethod
    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        """One value per rewrite: `worst` where `rewrite.text is None`, None where the reward does not apply. Raises when a
        judge fails; no value is made up."""


def is_remote(judge: Any) -> bool:
    """Whether a judge waits for a server (attribute `is_remote`; a judge without it does not)."""
    return bool(getattr(judge, "is_remote", False))
