"""The rewards there are. A new one is a file beside this one, and an import and a line here.

A reward of your own needs neither: a config names its file (`rubric.files = ["my_reward.py"]`), and the last line of the file
adds its class to `REWARDS`. `examples/my_reward.py` is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping

from synpro.plugins import registry
from synpro.rewards.base import Need, Reward
from synpro.rewards.faithfulness import Faithfulness
from synpro.rewards.format import Format
from synpro.rewards.influence import InfluenceReward
from synpro.rewards.length import Length
from synpro.rewards.novelty import Novelty
from synpro.rewards.quality import Quality
from synpro.rewards.similarity import Similarity
from synpro.rewards.structure import Structure

REWARDS: dict[str, type[Reward]] = registry(
    "reward",
    {
        "influence": InfluenceReward,
        "quality": Quality,
        "faithfulness": Faithfulness,
        "similarity": Similarity,
        "structure": Structure,
        "length": Length,
        "format": Format,
        "novelty": Novelty,
    },
    Reward,
    names=("name",),
)


def needs_of(weights: Mapping[str, float]) -> frozenset[Need]:
    """The models that the rewards with a weight above 0 are computed with."""
    return frozenset[Need]().union(*(REWARDS[name].needs for name, weight in weights.items() if weight > 0))
