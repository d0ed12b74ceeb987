"""The rewards there are. A new one is a file beside this one, and a line here: the name of the file is its name.

A reward of your own needs neither: a config names its file (`rubric.files = ["my_reward.py"]`), and the last line of the file
adds its class to `REWARDS`. `examples/my_reward.py` is a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping

from synpro.plugins import classes_of, registry
from synpro.rewards.base import Need, Reward

REWARDS: dict[str, type[Reward]] = registry(
    "reward",
    classes_of(
        "synpro.rewards",
        Reward,
        "influence",
        "quality",
        "faithfulness",
        "similarity",
        "structure",
        "length",
        "format",
        "novelty",
    ),
    Reward,
    names=("name",),
)


def needs_of(weights: Mapping[str, float]) -> frozenset[Need]:
    """The models that the rewards with a weight above 0 are computed with."""
    return frozenset[Need]().union(*(REWARDS[name].needs for name, weight in weights.items() if weight > 0))
