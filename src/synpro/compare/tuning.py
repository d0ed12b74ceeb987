"""A fair baseline: repetition with settings searched on the reference split, over a joint grid, its budget recorded.

The best weight decay for many epochs is 10 to 30 times the usual one (arXiv 2509.14786, 2605.01640), so a gain over untuned
repetition proves little.

How the search works. The grid has four axes: weight decay, learning rate, share of the token budget (fewer tokens are fewer
epochs) and dropout. With 60 points on it and a dozen trainings to spend, the search climbs. It starts at the usual settings.
Each next training is a neighbour of the best one so far, one step along a single axis. The axis with the fewest values tried
comes first, so that a short search looks along every axis before it refines one. When the neighbour is better, the search goes
on from there; when the best point has no untried neighbour, it has settled. One jump is built in: from the smallest weight
decay, the second training goes to the middle of that axis, because small steps up would use up the trials. The proposal is a
function of the losses so far alone, so a killed search continues exactly where it was.

A climb follows one seed, and seeds differ by more than neighbouring settings do. So the best few settings are trained again
with further seeds (the finals), and the lowest mean loss wins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from synpro.schema import setting
from synpro.stages.pretrain import PretrainConfig


@dataclass(frozen=True)
class TuneConfig:
    """The search for the settings of tuned repetition."""

    trials: int = setting(12, source="ours", min=0)
    """Trainings at the scarce corpus; 0 searches nothing, and no multiplier is printed."""
    anchor_trials: int = setting(4, source="ours", min=0)
    """Trainings at each larger corpus of the curve, from the best setting of the one before; 0 carries that setting over."""
    finalists: int = setting(2, source="ours", min=0)
    """Best settings of a search that are trained again with other seeds; the best of them on average wins. 0 trusts the one
    seed of the search."""
    finalist_seeds: int = setting(2, source="ours", min=0)
    """Further trainings of each finalist, each with a seed of its own."""
    weight_decays: tuple[float, ...] = setting((0.1, 0.4, 0.8, 1.6, 3.2), source="ours", min=0)
    """Values of `pretrain.optimizer.weight_decay`."""
    rates: tuple[float, ...] = setting((0.5, 1.0, 2.0), source="ours", above=0)
    """Multiples of `pretrain.optimizer.learning_rate`."""
    shares: tuple[float, ...] = setting((0.5, 1.0), source="ours", max=1, above=0)
    """Shares of the token budget that are trained on: fewer tokens are fewer epochs of the same text."""
    dropouts: tuple[float, ...] = setting((0.0, 0.1), source="ours", min=0, below=1)
    """Values of `pretrain.optimizer.dropout`."""

    def __post_init__(self) -> None:
        if self.finalists == 1:
            raise ValueError("finalists: are compared with each other; give 2 or more, or 0 for none")
        if self.finalists and self.finalist_seeds < 1:
            raise ValueError("finalist_seeds: give at least 1, or 0 finalists")
        for name in ("weight_decays", "rates", "shares", "dropouts"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name}: needs at least one value, each once")


@dataclass(frozen=True)
class TrainingSettings:
    """What is searched: how a model is trained on a given text."""

    weight_decay: float
    learning_rate: float
    share: float = 1.0
    """Share of the token budget that is used."""
    dropout: float = 0.0

    def apply(self, cfg: PretrainConfig, tokens: int, decay_fraction: float) -> PretrainConfig:
        """A measured training with these settings: a fixed number of tokens, no plateau, a learning rate that ends at 0."""
        used = max(cfg.batch_size * cfg.sequence_length, round(tokens * self.share))
        return replace(
            cfg,
            optimizer=replace(
                cfg.optimizer, weight_decay=self.weight_decay, learning_rate=self.learning_rate, dropout=self.dropout
            ),
            max_tokens=used,
            total_tokens=used,
            min_tokens=0,
            decay_fraction=decay_fraction,
            plateau=None,
        )


@dataclass(frozen=True)
class Trial:
    """One training of a search."""

    settings: TrainingSettings
    loss: float
    """On the reference split, nats per token."""
    tokens: int
    """Tokens it was trained on."""
    draw: int = 0
    """Which seed: 0 is that of the climb, from 1 on those of the finals."""


AXES = ("weight_decay", "learning_rate", "share", "dropout")


def grid(cfg: TuneConfig, start: TrainingSettings, rate: float) -> dict[str, tuple[float, ...]]:
    """The values of each axis, rising; those of `start` are among them. `rate`: the learning rate that `rates` multiply."""
    values = {
        "weight_decay": cfg.weight_decays,
        "learning_rate": tuple(rate * r for r in cfg.rates),
        "share": cfg.shares,
        "dropout": cfg.dropouts,
    }
    return {axis: tuple(sorted({*values[axis], getattr(start, axis)})) for axis in AXES}


def propose_next(
    axes: dict[str, tuple[float, ...]], start: TrainingSettings, tried: Sequence[Trial]
) -> TrainingSettings | None:
    """The settings to train with next; None when the best ones have no untried neighbour, so that the search has settled."""
    if not tried:
        return start
    done = [t.settings for t in tried]
    decays = axes["weight_decay"]
    if len(done) == 1 and start.weight_decay == decays[0] and len(decays) > 2:
        return replace(start, weight_decay=decays[len(decays) // 2])
    best = winner(tried)
    seen = {axis: len({getattr(s, axis) for s in done}) for axis in AXES}
    for axis in sorted(AXES, key=lambda a: (seen[a], AXES.index(a))):
        place = axes[axis].index(getattr(best, axis))
        for near in (place + 1, place - 1):
            if 0 <= near < len(axes[axis]):
                candidate = replace(best, **{axis: axes[axis][near]})
                if candidate not in done:
                    return candidate
    return None


def finalists(tried: Sequence[Trial], most: int) -> list[TrainingSettings]:
    """The best settings of the climb, best first, at most `most`; none where there is nothing to choose between."""
    ranked = sorted((t for t in tried if not t.draw), key=_rank)
    return [t.settings for t in ranked[:most]] if len(ranked) > 1 else []


def winner(tried: Sequence[Trial]) -> TrainingSettings:
    """The settings with the lowest mean reference loss, among those trained most often; the earlier of two equals."""
    losses: dict[TrainingSettings, list[float]] = {}
    for trial in tried:
        losses.setdefault(trial.settings, []).append(_rank(trial))
    most = max(map(len, losses.values()))
    return min((s for s, seen in losses.items() if len(seen) == most), key=lambda s: sum(losses[s]))


def _rank(trial: Trial) -> float:
    """A training that diverged is worse than any that did not."""
    return trial.loss if math.isfinite(trial.loss) else math.inf
