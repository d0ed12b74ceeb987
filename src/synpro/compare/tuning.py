"""A fair baseline: repetition with settings searched on the reference split, over a joint grid, its budget recorded.

The best weight decay for many epochs is 10 to 30 times the usual one (arXiv 2509.14786, 2605.01640), so a gain over untuned
repetition proves little. The search climbs: it trains with a setting next to the best one so far on the grid, first along the
axis of which it knows least, and moves when that is better. Which setting comes next depends on the losses so far alone, so a
search that was killed carries on. The best settings are then trained with further seeds, because one seed can mislead a search
by more than settings differ by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from synpro.stages.pretrain import PretrainConfig


@dataclass(frozen=True)
class TuneConfig:
    """The search for the settings of tuned repetition."""

    trials: int = 12
    """Trainings at the scarce corpus; 0 searches nothing, and no multiplier is printed."""
    anchor_trials: int = 4
    """Trainings at each larger corpus of the curve, from the best setting of the one before; 0 carries that setting over."""
    finalists: int = 2
    """Best settings of a search that are trained again with other seeds, and of which the best on average is taken; 0 trusts
    the one seed of the search."""
    finalist_seeds: int = 2
    """Further trainings of each finalist, each with a seed of its own."""
    weight_decays: tuple[float, ...] = (0.1, 0.4, 0.8, 1.6, 3.2)
    rates: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Multiples of `pretrain.optimizer.lr`."""
    shares: tuple[float, ...] = (0.5, 1.0)
    """Shares of the token budget that are trained on: fewer tokens are fewer epochs of the same text."""
    dropouts: tuple[float, ...] = (0.0, 0.1)

    def __post_init__(self) -> None:
        if min(self.trials, self.anchor_trials) < 0:
            raise ValueError("trials: and anchor_trials are numbers of trainings; give 0 or more")
        if self.finalists < 0 or self.finalists == 1:
            raise ValueError("finalists: are compared with each other; give 2 or more, or 0 for none")
        if self.finalists and self.finalist_seeds < 1:
            raise ValueError("finalist_seeds: give at least 1, or 0 finalists")
        for name in ("weight_decays", "rates", "shares", "dropouts"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name}: needs at least one value, each once")
        if min(self.weight_decays) < 0 or min(self.rates) <= 0:
            raise ValueError("rates: are multiples above 0, and weight_decays are 0 or more")
        if not all(0 < share <= 1 for share in self.shares):
            raise ValueError("shares: are parts of the token budget, above 0 and at most 1")
        if not all(0 <= dropout < 1 for dropout in self.dropouts):
            raise ValueError("dropouts: are shares, 0 (off) to below 1")


@dataclass(frozen=True)
class Settings:
    """What is searched: how a model is trained on a given text."""

    weight_decay: float
    lr: float
    share: float = 1.0
    """Of the token budget."""
    dropout: float = 0.0

    def training(self, cfg: PretrainConfig, tokens: int, anneal: float) -> PretrainConfig:
        """A measured training: a fixed number of tokens, no plateau, a rate that ends at 0."""
        used = max(cfg.batch * cfg.sequence_length, round(tokens * self.share))
        return replace(
            cfg,
            optimizer=replace(cfg.optimizer, weight_decay=self.weight_decay, lr=self.lr, dropout=self.dropout),
            max_tokens=used,
            total_tokens=used,
            min_tokens=0,
            anneal=anneal,
            plateau=None,
        )


@dataclass(frozen=True)
class Trial:
    """One training of a search."""

    settings: Settings
    loss: float
    """On the reference split, nats per token."""
    tokens: int
    draw: int = 0
    """Which seed: 0 is that of the search, from 1 on those of the finalists."""


AXES = ("weight_decay", "lr", "share", "dropout")


def grid(cfg: TuneConfig, start: Settings, rate: float) -> dict[str, tuple[float, ...]]:
    """The values of each axis, rising; those of `start` are among them. `rate`: the learning rate that `rates` multiply."""
    values = {
        "weight_decay": cfg.weight_decays,
        "lr": tuple(rate * r for r in cfg.rates),
        "share": cfg.shares,
        "dropout": cfg.dropouts,
    }
    return {axis: tuple(sorted({*values[axis], getattr(start, axis)})) for axis in AXES}


def following(axes: dict[str, tuple[float, ...]], start: Settings, tried: Sequence[Trial]) -> Settings | None:
    """The setting to train with next; None when the best one has no untried neighbour, so that the search has settled.

    The first is `start`; where that has the smallest weight decay, the second has the middle one of the grid: small steps up
    from the usual one would use up the trials.
    """
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


def finalists(tried: Sequence[Trial], most: int) -> list[Settings]:
    """The best settings of the search, best first, at most so many; none where there is nothing to choose between."""
    ranked = sorted((t for t in tried if not t.draw), key=_worth)
    return [t.settings for t in ranked[:most]] if len(ranked) > 1 else []


def winner(tried: Sequence[Trial]) -> Settings:
    """Of the settings that were trained most often, the one with the lowest mean reference loss; the earlier of two equals."""
    losses: dict[Settings, list[float]] = {}
    for trial in tried:
        losses.setdefault(trial.settings, []).append(_worth(trial))
    most = max(map(len, losses.values()))
    return min((s for s, seen in losses.items() if len(seen) == most), key=lambda s: sum(losses[s]))


def _worth(trial: Trial) -> float:
    """A training that diverged is worse than any that did not."""
    return trial.loss if math.isfinite(trial.loss) else math.inf
