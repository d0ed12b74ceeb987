"""What generators learned beside their rewards, and whether their texts still have what the model of their round lacks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synpro.report.run_data import RunData
from synpro.runner.artifacts import read_json, stream_table

if TYPE_CHECKING:
    from synpro.measure.collapse import Variety
    from synpro.measure.influence_validation import Proportion


@dataclass(frozen=True)
class Learned:
    """The answers to the validation passages before and after the training of a generator, in the same measures."""

    name: str
    before: Variety
    after: Variety


@dataclass(frozen=True)
class PositiveShare:
    """Kept texts of a shard with more influence than their source, under the probe of their round."""

    name: str
    share: Proportion
    mean: float
    """Influence over the source, nats per token, mean over the texts."""


@dataclass(frozen=True)
class RewardSpread:
    """What a reward tells apart: versions of a passage, all that RL and a choice among answers can use, or passages."""

    shard: str
    reward: str
    texts: int
    within: float
    """Standard deviation between the versions of a passage, in the reward's own unit."""
    between: float
    """Standard deviation between the means of passages."""

    @property
    def share(self) -> float | None:
        """Share of the variance that is within passages; None where all values are equal."""
        total = self.within**2 + self.between**2
        return self.within**2 / total if total else None


def learned(data: RunData) -> list[Learned]:
    """Length, copying and variety of the same passages' answers before and after; only passages with a text on both sides."""
    from synpro.measure.collapse import variety

    found = []
    for g in (g for g in data.generators if g.done):
        body = read_json(data.run / f"round-{g.round:02d}/train-{g.operation}/validation.json")
        before, after = (
            {s["passage"]: s for s in body.get(side, {}).get("samples", ()) if s.get("text")} for side in ("before", "after")
        )
        both = [p for p in before if p in after]
        if not both or not body.get("steps", 1):
            continue
        sources = [before[p].get("source", "") for p in both]
        one, other = (variety([side[p]["text"] for p in both], sources, keys=both) for side in (before, after))
        found.append(Learned(g.name, one, other))
    return found


def positive_shares(data: RunData) -> list[PositiveShare]:
    """Share of kept texts with positive influence over their source, by shard; none where influence was not scored."""
    from synpro.measure.influence_validation import positive_share

    found = []
    for shard in data.syntheses:
        if pairs := kept_influence(data.run / shard.step):
            values, documents = zip(*pairs, strict=True)
            found.append(PositiveShare(shard.name, positive_share(values, documents), sum(values) / len(values)))
    return found


def kept_influence(shard: Path) -> list[tuple[float, str]]:
    """(influence over the source in nats per token, document) of each kept text of a shard that has one."""
    import pyarrow.compute as pc

    rows = stream_table(shard / "rewrites.parquet", ["document", "scores"], pc.field("kept"))
    scores = ((json.loads(row["scores"] or "{}").get("influence"), row["document"]) for row in rows)
    return [(float(v), document) for v, document in scores if isinstance(v, int | float)]


def reward_spreads(data: RunData) -> list[RewardSpread]:
    """By shard and reward, over passages with several scored texts; rewards that fail or do not apply are left out."""
    from statistics import fmean, pvariance

    found = []
    for shard in data.syntheses:
        values: dict[str, dict[str, list[float]]] = {}
        for row in stream_table(data.run / shard.step / "rewrites.parquet", ["passage", "scores"]):
            for name, value in json.loads(row["scores"] or "{}").items():
                if isinstance(value, int | float):
                    values.setdefault(name, {}).setdefault(row["passage"], []).append(float(value))
        for name, passages in sorted(values.items()):
            several = [group for group in passages.values() if len(group) > 1]
            if len(several) < 2:
                continue
            # Sample variances within; the mean of a passage varies by its versions too, which is taken off.
            within = fmean(pvariance(g) * len(g) / (len(g) - 1) for g in several)
            between = pvariance([fmean(g) for g in several]) - fmean(within / len(g) for g in several)
            texts = sum(map(len, several))
            found.append(RewardSpread(shard.name, name, texts, within**0.5, max(between, 0.0) ** 0.5))
    return found
