"""A fair baseline: settings searched on the reference split, over a joint grid that grows at its edges, until they are settled.

The best weight decay for many epochs is 10 to 30 times the usual one (arXiv 2509.14786, 2605.01640), so a gain over untuned
repetition proves little. The same search serves arms with synthetic text, whose grid has one more axis: the share of organic
tokens.

How the search works. It starts at the given settings. Each next training is a neighbour of the best ones so far, one step along
a single axis; the axis with the fewest values tried comes first, so that a short search looks along every axis before it
refines one. Where the best value is the last of its axis, the axis gets one value more, up to `extensions` beyond each end. One
jump is built in: from the smallest weight decay, the second training goes to the middle of that axis, because small steps up
would use up the trials.

A climb follows one seed, and seeds differ by more than neighbouring settings do. So when the best settings have no untried
neighbour, the best few, and neighbours that beat them, are trained with further seeds (the finals). Where the finals choose
others, the search goes on from those.

*Settled* means that every neighbour of the chosen settings, on every axis, was tried and lost. Nothing else is: a search that
ends on its number of trials, or at the last extension of an axis, has only shown that repetition is at least this good.

The next training is a function of the losses so far alone, so a killed search continues exactly where it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from synpro.schema import setting
from synpro.stages.pretrain import PretrainConfig


@dataclass(frozen=True)
class TuneConfig:
    """The search for the settings of tuned repetition, and of every arm with synthetic text."""

    trials: int = setting(24, source="ours", min=0)
    """Settings that are tried at the scarce corpus at most, finals not counted; 0 searches nothing, and no multiplier is
    printed. A search that settles ends sooner."""
    anchor_trials: int = setting(4, source="ours", min=0)
    """Settings tried at each larger corpus of the curve, from the best of the one before; 0 carries those over."""
    own_search: bool = setting(True, source="ours")
    """Search the settings of every arm with synthetic text too, with at most as many trainings as repetition took. false: the
    settings of repetition serve all of them, which favours repetition."""
    finalists: int = setting(2, source="ours", min=0)
    """Best settings of a search that are trained again with other seeds; the best of them on average wins. 0 trusts the one
    seed of the search."""
    finalist_seeds: int = setting(2, source="ours", min=0)
    """Further trainings of each finalist, each with a seed of its own."""
    extensions: int = setting(2, source="ours", min=0)
    """Values that an axis gets beyond each of its ends at most, one at a time, while the best value is the last one."""
    weight_decays: tuple[float, ...] = setting((0.1, 0.4, 0.8, 1.6, 3.2), source="ours", min=0)
    """Values of `pretrain.optimizer.weight_decay`."""
    rates: tuple[float, ...] = setting((0.5, 1.0, 2.0), source="ours", above=0)
    """Multiples of `pretrain.optimizer.learning_rate`."""
    shares: tuple[float, ...] = setting((0.25, 0.5, 1.0), source="ours", max=1, above=0)
    """Shares of the token budget that are trained on: fewer tokens are fewer passes over the same text. While the whole budget
    is best, repetition still gains from more of it, and nothing is compared."""
    dropouts: tuple[float, ...] = setting((0.0, 0.1), source="ours", min=0, below=1)
    """Values of `pretrain.optimizer.dropout`."""
    organic_shares: tuple[float, ...] = setting((0.2, 0.35, 0.5, 0.65), source="ours", above=0, below=1)
    """Values of `pretrain.mixture.organic_share` for arms with synthetic text, beside the share they have by themselves."""
    replay_shares: tuple[float, ...] = setting((0.0, 0.1, 0.25), source="ours", min=0, below=1)
    """Values of `pretrain.mixture.replay_share`, where there is general text (`prepare.general`)."""

    def __post_init__(self) -> None:
        if self.finalists == 1:
            raise ValueError("finalists: are compared with each other; give 2 or more, or 0 for none")
        if self.finalists and self.finalist_seeds < 1:
            raise ValueError("finalist_seeds: give at least 1, or 0 finalists")
        for name in ("weight_decays", "rates", "shares", "dropouts", "organic_shares", "replay_shares"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name}: needs at least one value, each once")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training: what is searched, and where searches begin."""

    weight_decay: float = setting(min=0)
    """`pretrain.optimizer.weight_decay`."""
    learning_rate: float = setting(above=0)
    """`pretrain.optimizer.learning_rate`."""
    share: float = setting(1.0, above=0, max=1)
    """Share of the token budget that is used."""
    dropout: float = setting(0.0, min=0, below=1)
    """`pretrain.optimizer.dropout`."""
    organic_share: float | None = setting(None, above=0, below=1)
    """Share of organic tokens in an epoch; none takes every text once."""
    replay_share: float = setting(0.0, min=0, below=1)
    """Share of general text in an epoch."""

    def apply(self, cfg: PretrainConfig, tokens: int, decay_fraction: float) -> PretrainConfig:
        """A measured training with these settings: a fixed number of tokens, no plateau, a learning rate that ends at 0."""
        used = max(cfg.batch_size * cfg.sequence_length, round(tokens * self.share))
        return replace(
            cfg,
            optimizer=replace(
                cfg.optimizer, weight_decay=self.weight_decay, learning_rate=self.learning_rate, dropout=self.dropout
            ),
            mixture=replace(
                cfg.mixture, organic_share=self.organic_share or cfg.mixture.organic_share, replay_share=self.replay_share
            ),
            max_tokens=used,
            total_tokens=used,
            min_tokens=0,
            round_tokens=(),
            decay_fraction=decay_fraction,
            plateau=None,
        )


@dataclass(frozen=True)
class Trial:
    """One training of a search."""

    settings: TrainingSettings
    loss: float
    """On the reference split, nats per token; infinite where training diverged, whatever was kept of it."""
    tokens: int
    """Tokens it was trained on."""
    draw: int = 0
    """Which seed: 0 is that of the climb, from 1 on those of the finals."""


@dataclass(frozen=True)
class Axis:
    """The values of one setting, in order, and how they go on beyond its ends."""

    values: tuple[Any, ...]
    natural: float = 0.0
    """Where None lies among the values: the share of organic tokens when every text is taken once."""
    least: float = 0.0
    """No value is below it; one that has it needs no neighbour there."""
    most: float = math.inf
    step: float = 0.0
    """Added beyond the ends; 0 goes on by the ratio of the outermost two values (of two equal ones, by 2)."""
    extensions: int = 0

    @classmethod
    def of(cls, values: Sequence[Any], start: Any, *, natural: float = 0.0, **limits: Any) -> Axis:
        """The values with the one of `start` among them, in order."""
        return cls(tuple(sorted({*values, start}, key=lambda v: natural if v is None else v)), natural, **limits)

    def neighbours(self, value: Any) -> list[Any]:
        """The next value above and below, those beyond the ends of the grid included."""
        return [v for v in (self._next(value, 1), self._next(value, -1)) if v is not None]

    def is_cut(self, value: Any) -> bool:
        """Whether the axis could go on beyond this value but may not: nothing is known about what lies there."""
        return any(self._next(value, way) is None and not self._is_bound(value, way) for way in (1, -1))

    def _is_bound(self, value: Any, way: int) -> bool:
        bound, at = (self.most, 1) if way > 0 else (self.least, 0)
        at_bound: bool = self._size(value) >= bound if at else self._size(value) <= bound
        return at_bound or len(self.values) == 1

    def _next(self, value: Any, way: int) -> Any:
        line = self._line(way)
        place = line.index(value)
        return line[place + 1] if place + 1 < len(line) else None

    def _line(self, way: int) -> list[Any]:
        """All values in the order of `way`, with the extensions at both ends."""
        if len(self.values) == 1:
            return list(self.values)
        up, down = self._beyond(1), self._beyond(-1)
        line = [*reversed(down), *self.values, *up]
        return line if way > 0 else line[::-1]

    def _beyond(self, way: int) -> list[float]:
        sizes = [self._size(v) for v in self.values][::way]
        last, ratio, found = sizes[-1], 2.0, list[float]()
        if len(sizes) > 1 and sizes[-2] and last:
            ratio = max(last / sizes[-2], sizes[-2] / last)
        for _ in range(self.extensions):
            if self.step:
                last = last + way * self.step
            elif self.most == 1.0 and way > 0:
                last = last + (1.0 - last) / 2  # a share goes half the way to 1
            else:
                last = last * ratio**way
            last = float(f"{last:.6g}")
            if (way > 0 and last >= self.most) or (way < 0 and last < self.least) or not last:
                break
            found.append(last)
        return found

    def _size(self, value: Any) -> float:
        return self.natural if value is None else float(value)


AXES = ("weight_decay", "learning_rate", "share", "dropout", "organic_share", "replay_share")
Grid = Mapping[str, Axis]


def grid(
    cfg: TuneConfig,
    start: TrainingSettings,
    rate: float,
    *,
    natural: float | None = None,
    least_share: float = 0.0,
    replays: bool = False,
) -> dict[str, Axis]:
    """The axes of a search; the values of `start` are among theirs.

    `rate`: the learning rate that `rates` multiply. `natural`: the share of organic tokens when every text is taken once; None:
    there is no synthetic text, and no such axis. `least_share`: what a training that continues a plateau must exceed.
    `replays`: there is general text to replay.
    """
    shares = [s for s in cfg.shares if s > least_share]
    grows = {"extensions": cfg.extensions}
    axes = {
        "weight_decay": Axis.of(cfg.weight_decays, start.weight_decay, **grows),
        "learning_rate": Axis.of([rate * r for r in cfg.rates], start.learning_rate, **grows),
        "share": Axis.of(shares, start.share, least=least_share, most=1.0, **grows),
        "dropout": Axis.of(cfg.dropouts, start.dropout, most=0.5, step=0.1, **grows),
    }
    if replays:
        axes["replay_share"] = Axis.of(cfg.replay_shares, start.replay_share, most=1.0, **grows)
    if natural is not None:
        shares_of_text = [s for s in (*cfg.organic_shares, start.organic_share) if s is not None]
        apart = [s for s in shares_of_text if not near(s, natural)]
        axes["organic_share"] = Axis.of(apart, None, natural=natural, most=1.0, **grows)
    return axes


def near(share: float, natural: float) -> bool:
    """Whether a share of organic tokens is that of every text once, but for a fifth: nothing to be tried beside it."""
    return abs(math.log(share / natural)) <= math.log(1.2)


def neighbours(axes: Grid, settings: TrainingSettings) -> list[tuple[str, TrainingSettings]]:
    """(axis, settings) one step away along a single axis."""
    return [(a, replace(settings, **{a: v})) for a in axes for v in axes[a].neighbours(getattr(settings, a))]


def propose_next(
    axes: Grid, start: TrainingSettings, tried: Sequence[Trial], cfg: TuneConfig, max_trials: int
) -> tuple[TrainingSettings, int] | None:
    """(settings, draw) of the next training; None when the search ends: `open_axes` says how."""
    done = list(dict.fromkeys(t.settings for t in tried))
    if not max_trials:
        return None
    if not done:
        return start, 0
    if len(done) < max_trials and (candidate := _climb(axes, start, done, tried)) is not None:
        return candidate, 0
    done_already = {(t.settings, t.draw) for t in tried}
    for draw in range(1, cfg.finalist_seeds + 1):
        for settings in finalists(axes, tried, cfg.finalists):
            if (settings, draw) not in done_already:
                return settings, draw
    return None


def _climb(
    axes: Grid, start: TrainingSettings, done: Sequence[TrainingSettings], tried: Sequence[Trial]
) -> TrainingSettings | None:
    """An untried neighbour of the best settings."""
    decays = axes["weight_decay"].values
    if len(done) == 1 and start.weight_decay == decays[0] and len(decays) > 2:
        return replace(start, weight_decay=decays[len(decays) // 2])
    best = winner(tried)
    seen = {axis: len({getattr(s, axis) for s in done}) for axis in axes}
    ranked = sorted(neighbours(axes, best), key=lambda found: (seen[found[0]], AXES.index(found[0])))
    return next((s for _, s in ranked if s not in done), None)


def finalists(axes: Grid, tried: Sequence[Trial], most: int) -> list[TrainingSettings]:
    """The settings that further seeds decide between: the best `most` by the climb's seed, the best so far on average, and
    neighbours of that which beat it with the seeds they share. None where there is nothing to choose between."""
    ranked = sorted((t for t in tried if not t.draw and math.isfinite(t.loss)), key=_rank)
    if len(ranked) < 2 or not most:
        return []
    best = winner(tried)
    close = [s for _, s in neighbours(axes, best) if _wins(tried, s, best)]
    return list(dict.fromkeys([*(t.settings for t in ranked[:most]), best, *close]))


def winner(tried: Sequence[Trial]) -> TrainingSettings:
    """The settings with the lowest mean reference loss, among those trained most often; the earlier of two equals. None that
    diverged with any seed, unless all did."""
    losses: dict[TrainingSettings, list[float]] = {}
    for trial in tried:
        losses.setdefault(trial.settings, []).append(_rank(trial))
    sound = {s: seen for s, seen in losses.items() if math.isfinite(sum(seen))} or losses
    most = max(map(len, sound.values()))
    return min((s for s, seen in sound.items() if len(seen) == most), key=lambda s: sum(losses[s]))


def open_axes(axes: Grid, tried: Sequence[Trial]) -> list[str]:
    """The axes on which a neighbour of the chosen settings was not tried, or won, or lies beyond what the axis may grow to."""
    best, done = winner(tried), {t.settings for t in tried}
    missing = {axis for axis, s in neighbours(axes, best) if s not in done or _wins(tried, s, best)}
    return [axis for axis in axes if axis in missing or axes[axis].is_cut(getattr(best, axis))]


def _wins(tried: Sequence[Trial], one: TrainingSettings, other: TrainingSettings) -> bool:
    """Whether settings have the lower mean loss over the seeds that both were trained with."""
    mine, theirs = ({t.draw: _rank(t) for t in tried if t.settings == s} for s in (one, other))
    shared = mine.keys() & theirs.keys()
    return bool(shared) and sum(mine[d] for d in shared) < sum(theirs[d] for d in shared)


def _rank(trial: Trial) -> float:
    """A training that diverged is worse than any that did not."""
    return trial.loss if math.isfinite(trial.loss) else math.inf
