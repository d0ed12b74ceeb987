"""What a method is worth in organic text, in three meanings that are never mixed up (method.md, "Effective tokens").

(a) *data efficiency*: on the curve "loss of tuned repetition against unique tokens U", the U at which repetition would reach
    the method's held-out loss, over the U the method had;
(b) *oracle-equivalent tokens*: the unique tokens that a single pass would need for that loss;
(c) *share of the oracle gap*: how much of the way from tuned repetition to the oracle the method goes.

(a) and (c) are claims against repetition, so both are refused when repetition was not tuned. All are functions of losses alone.

Intervals are over held-out documents and training seeds (`measure/losses.py`); the curve is fitted again in every resample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from synpro.measure.curves import R_STAR, Curve, Law, fit
from synpro.measure.losses import RESAMPLES, SEED, Losses, means, resampled

TUNED = ("weight_decay", "learning_rate", "epochs")
"""Settings of repetition that must have been searched before anything is claimed against it (arXiv 2509.14786, 2605.01640)."""


@dataclass(frozen=True, eq=False)
class Anchor:
    """Training on organic text alone, with `unique_tokens` of it: a point of a curve."""

    unique_tokens: int
    training_tokens: int
    """Repetitions included: `unique_tokens` in a single pass."""
    losses: Losses


@dataclass(frozen=True, eq=False)
class Method:
    """What is measured: an arm that had `unique_tokens` of organic text."""

    name: str
    unique_tokens: int
    losses: Losses


@dataclass(frozen=True)
class Baseline:
    """How the settings of the repetition baseline were found. Without a search, nothing is claimed against it."""

    searched: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Setting -> the values that were trained with; `TUNED` names those that count."""
    chosen: dict[str, float] = field(default_factory=dict)
    trainings: int = 0
    """Trainings the search took: its budget, with `flops`."""
    flops: float = 0.0
    split: str = "reference"
    """Where the choice was made. On the held-out split the baseline would be flattered: safe, but worth a word."""
    carried: bool = False
    """The settings were chosen at one number of unique tokens and used at all: the other anchors may be better still."""

    @property
    def untuned(self) -> str | None:
        """Why nothing may be claimed against this baseline, in a person's words; None when it was tuned."""
        if not self.searched or self.trainings < 2:
            return "the repetition baseline was not tuned: no search over its weight decay, learning rate and epochs was made"
        missing = [name.replace("_", " ") for name in TUNED if len(set(self.searched.get(name, ()))) < 2]
        if missing:
            return f"the repetition baseline was not tuned: its search tried only one value of {', '.join(missing)}"
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about a tuned baseline."""
        found = []
        for name, values in self.searched.items():
            if name in self.chosen and len(set(values)) > 1 and self.chosen[name] in (min(values), max(values)):
                found.append(f"the best {name.replace('_', ' ')} ({self.chosen[name]:g}) lies at the edge of its search")
        if self.carried:
            found.append("settings tuned at one number of unique tokens were used at all of them")
        if self.split != "reference":
            found.append(f"the settings were chosen on the {self.split} split")
        return tuple(found)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, and what it rests on."""

    quantity: str
    """`data efficiency`, `oracle-equivalent tokens` or `share of the oracle gap`."""
    unit: str
    """`x`, `tokens` or `share`."""
    value: float
    """Infinite where the curve never reaches the loss."""
    low: float
    high: float
    level: float
    """Nominal coverage of [low, high]."""
    seeds: int
    documents: int
    resamples: int
    notes: tuple[str, ...] = ()
    """Extrapolation, one seed, a bad fit, an edge of the search: in a person's words."""
    extrapolated: bool = False
    """The value lies outside the measured unique tokens."""
    reachable: bool = True
    """False: the loss lies below what the curve says any amount of organic text gives."""

    @property
    def words(self) -> str:
        """`1.21x [1.10, 1.34]`, with `(extrapolated)` where it is, and no number where there is none."""
        if not self.reachable:
            return f"not reached by the curve; at least {self._shown(self.low)}" if math.isfinite(self.low) else "not reached"
        mark = " (extrapolated)" if self.extrapolated else ""
        return f"{self._shown(self.value)} [{self._shown(self.low)}, {self._shown(self.high)}]{mark}"

    def _shown(self, value: float) -> str:
        if not math.isfinite(value):
            return "no bound"
        return {"x": f"{value:.2f}x", "tokens": f"{value:,.0f}", "share": f"{value:.0%}"}[self.unit]


@dataclass(frozen=True)
class Refusal:
    """No number, and why. Has `quantity`, `words` and `notes` like an estimate, so that a table prints either."""

    quantity: str
    reason: str
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return f"not stated: {self.reason}"


def data_efficiency(
    method: Method,
    anchors: Sequence[Anchor],
    baseline: Baseline,
    *,
    law: Law = "power",
    r_star: float | None = R_STAR,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = SEED,
) -> Estimate | Refusal:
    """(a): unique tokens that tuned repetition needs for the method's loss, over the method's.

    Refused when the baseline was not tuned or the law needs more anchors. Raises ValueError when settings were measured on
    other documents or seeds.
    """
    quantity = "data efficiency"
    if baseline.untuned is not None:
        return Refusal(quantity, baseline.untuned)
    return _inverted(
        quantity, "x", method, anchors, 1.0 / method.unique_tokens, baseline.notes, law, r_star, resamples, level, seed
    )


def oracle_equivalent(
    method: Method,
    passes: Sequence[Anchor],
    *,
    law: Law = "power",
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = SEED,
) -> Estimate | Refusal:
    """(b): unique tokens that a single pass needs for the method's loss. `passes`: trainings that saw each token once.

    Refused when the law needs more anchors. Raises ValueError for an anchor that repeats its text.
    """
    for anchor in passes:
        if anchor.training_tokens > 1.05 * anchor.unique_tokens:
            raise ValueError(
                f"oracle-equivalent tokens need single passes; the anchor of {anchor.unique_tokens:,} unique tokens was "
                f"trained on {anchor.training_tokens:,}"
            )
    return _inverted("oracle-equivalent tokens", "tokens", method, passes, 1.0, (), law, R_STAR, resamples, level, seed)


def oracle_gap(
    method: Method,
    repetition: Losses,
    oracle: Losses,
    baseline: Baseline,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = SEED,
) -> Estimate | Refusal:
    """(c): (repetition - method) / (repetition - oracle), in held-out loss; above 1 the method passes the oracle.

    Refused when repetition was not tuned, or is not clearly worse than the oracle, so that there is no gap to share.
    """
    quantity = "share of the oracle gap"
    if baseline.untuned is not None:
        return Refusal(quantity, baseline.untuned)
    settings = [method.losses, repetition, oracle]
    reached, start, end = means(settings).tolist()
    drawn = resampled(settings, resamples, seed)
    gap = drawn[:, 1] - drawn[:, 2]
    if np.quantile(gap, (1 - level) / 2) <= 0:
        return Refusal(quantity, f"tuned repetition is not clearly worse than the oracle (gap {start - end:+.4f} nats)")
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / gap, [(1 - level) / 2, (1 + level) / 2])
    value = (start - reached) / (start - end)
    seeds, documents = len(method.losses.seeds), len(method.losses.documents)
    notes = (*baseline.notes, *_seed_notes(seeds))
    return Estimate(quantity, "share", value, float(low), float(high), level, seeds, documents, resamples, notes)


def curve(anchors: Sequence[Anchor], *, law: Law = "power", r_star: float | None = R_STAR) -> Curve:
    """The fitted curve (one set: B = 1), for a picture. Raises ValueError where the law needs more anchors."""
    unique, training = _sizes(anchors)
    return fit(unique, means([a.losses for a in anchors])[None], law=law, training=training, r_star=r_star)


def curve_band(
    anchors: Sequence[Anchor],
    at: np.ndarray,
    *,
    law: Law = "power",
    r_star: float | None = R_STAR,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = SEED,
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the fitted curve at each number of unique tokens in `at`, for a picture."""
    unique, training = _sizes(anchors)
    drawn = resampled([a.losses for a in anchors], resamples, seed)
    losses = fit(unique, drawn, law=law, training=training, r_star=r_star).loss(at)
    low, high = np.quantile(losses, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _inverted(
    quantity: str,
    unit: str,
    method: Method,
    anchors: Sequence[Anchor],
    scale: float,
    notes: tuple[str, ...],
    law: Law,
    r_star: float | None,
    resamples: int,
    level: float,
    seed: int,
) -> Estimate | Refusal:
    sizes = {a.unique_tokens for a in anchors}
    least = 2 if law == "interpolation" else 3
    if len(sizes) < least:
        return Refusal(
            quantity, f"the {law} law needs anchors at {least} or more numbers of unique tokens, there are {len(sizes)}"
        )
    unique, training = _sizes(anchors)
    settings = [a.losses for a in anchors] + [method.losses]
    mean = means(settings)
    best = fit(unique, mean[None, :-1], law=law, training=training, r_star=r_star)
    drawn = resampled(settings, resamples, seed)
    fitted = fit(unique, drawn[:, :-1], law=law, training=training, r_star=best.r_star if law == "repetition" else r_star)
    value = float(best.needed(mean[-1:])[0])
    needed = np.sort(fitted.needed(drawn[:, -1]))
    low, high = (float(needed[min(resamples - 1, int(q * resamples))]) for q in ((1 - level) / 2, (1 + level) / 2))
    seeds, documents = len(method.losses.seeds), len(method.losses.documents)
    first, last = min(sizes), max(sizes)
    found = [*notes, *_seed_notes(seeds)]
    reachable = math.isfinite(value)
    outside = reachable and not first <= value <= last
    if not reachable:
        found.append(
            f"the method's loss ({mean[-1]:.4f}) lies below what the fitted {law} law gives any amount of organic text"
            + (f" (offset {best.offset_B[0]:.4f})" if np.isfinite(best.offset_B[0]) else "")
        )
    elif outside:
        found.append(f"an extrapolation: {value:,.0f} tokens lie outside the measured {first:,} to {last:,}")
    if reachable and not outside and (low < first or high > last):
        found.append(f"an end of the interval lies outside the measured {first:,} to {last:,} tokens")
    noise = float(np.std(drawn[:, :-1] - drawn[:, :-1].mean(axis=1, keepdims=True), axis=0).mean())
    residual = float(best.residual_B[0])
    if law != "interpolation" and residual > max(2 * noise, 1e-4):
        found.append(f"the {law} law misses its anchors by {residual:.4f} nats (their noise is {noise:.4f})")
    return Estimate(
        quantity,
        unit,
        value * scale,
        low * scale,
        high * scale,
        level,
        seeds,
        documents,
        resamples,
        tuple(found),
        outside,
        reachable,
    )


def _sizes(anchors: Sequence[Anchor]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a.unique_tokens for a in anchors], float), np.array([a.training_tokens for a in anchors], float)


def _seed_notes(seeds: int) -> tuple[str, ...]:
    return ("one seed: the interval is over documents only",) if seeds == 1 else ()
