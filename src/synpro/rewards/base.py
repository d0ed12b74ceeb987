"""What a reward is. One reward = one file beside this one and an import and a line in `registry.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from synpro.judges.registry import JudgePool
from synpro.operations.base import Operation
from synpro.records import Probe, Rewrite
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig

Need = Literal["encoder", "probe", "verifier", "quality", "layout"]
"""A model that a reward is computed with: one of the judges, or the probe."""
FAILED = float("-inf")
"""Value of an answer that fails a reward's own gate. It is no measurement: means leave it out, and `advantages.py` puts it a
fixed step below the valid answers of its group."""


@dataclass(frozen=True)
class RewardContext:
    """What a reward may be made of."""

    cfg: RubricConfig
    operation: Operation
    judges: JudgePool
    probe: Probe | None
    filters: FilterConfig = field(default_factory=FilterConfig)
    """What synthesis drops, and what therefore fails."""


class Reward(ABC):
    """A number for each rewrite. A subclass sets the class attributes and defines `score`."""

    name: ClassVar[str]
    unit: ClassVar[str] = ""
    """Unit of its values; empty: 0 to 1."""
    needs: ClassVar[frozenset[Need]] = frozenset()
    """The models it is computed with. A model that no reward with a weight needs is not opened."""
    worst: float = FAILED
    """Value of an answer that fails. A reward may set a number of its own: values at it or below count as failed too."""

    @classmethod
    def from_context(cls, context: RewardContext) -> Reward:
        """The reward, with its settings and judges. Here: without any."""
        return cls()

    @property
    def is_remote(self) -> bool:
        """Whether it waits for a server. Then it is scored in a thread beside the others, and may share with them only what is
        thread-safe."""
        return False

    @abstractmethod
    def score(self, rewrites: Sequence[Rewrite]) -> list[float | None]:
        """One value per rewrite: `worst` where it fails (`rewrite.text is None`, or a gate of the reward's own), None where the
        reward does not apply. What a rule of synthesis drops does not come here. Raises when a judge fails; no value is made
        up."""


def is_remote(judge: Any) -> bool:
    """Whether a judge waits for a server (attribute `is_remote`; a judge without it does not)."""
    return bool(getattr(judge, "is_remote", False))
