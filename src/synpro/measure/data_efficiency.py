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
from dataclasses import dataclass, field, replace

import numpy as np

from synpro.measure.curves import MIN_ANCHORS, R_STAR, Curve, Law, fit_curve
from synpro.measure.losses import DEFAULT_RESAMPLING, Losses, Resampling, mean_losses, resample_means

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
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Estimate | Refusal:
    """(a): unique tokens that tuned repetition needs for the method's loss, over the method's.

    Refused when the baseline was not tuned or the law needs more anchors. Raises ValueError when settings were measured on
    other documents or seeds.
    """
    quantity = "data efficiency"
    if baseline.untuned is not None:
        return Refusal(quantity, baseline.untuned)
    inverted = _unique_tokens_needed(quantity, "x", method, anchors, law=law, r_star=r_star, resampling=resampling)
    if isinstance(inverted, Refusal):
        return inverted
    value, low, high = (tokens / method.unique_tokens for tokens in (inverted.value, inverted.low, inverted.high))
    return replace(inverted, value=value, low=low, high=high, notes=(*baseline.notes, *inverted.notes))


def oracle_equivalent(
    method: Method, passes: Sequence[Anchor], *, law: Law = "power", resampling: Resampling = DEFAULT_RESAMPLING
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
    return _unique_tokens_needed(
        "oracle-equivalent tokens", "tokens", method, passes, law=law, r_star=R_STAR, resampling=resampling
    )


def oracle_gap(
    method: Method, repetition: Losses, oracle: Losses, baseline: Baseline, *, resampling: Resampling = DEFAULT_RESAMPLING
) -> Estimate | Refusal:
    """(c): (repetition - method) / (repetition - oracle), in held-out loss; above 1 the method passes the oracle.

    Refused when repetition was not tuned, or is not clearly worse than the oracle, so that there is no gap to share.
    """
    quantity = "share of the oracle gap"
    if baseline.untuned is not None:
        return Refusal(quantity, baseline.untuned)
    settings = [method.losses, repetition, oracle]
    reached, start, end = mean_losses(settings).tolist()
    drawn_B_K = resample_means(settings, resampling)
    gap_B = drawn_B_K[:, 1] - drawn_B_K[:, 2]
    if resampling.interval(gap_B)[0] <= 0:
        return Refusal(quantity, f"tuned repetition is not clearly worse than the oracle (gap {start - end:+.4f} nats)")
    low, high = resampling.interval((drawn_B_K[:, 1] - drawn_B_K[:, 0]) / gap_B)
    value = (start - reached) / (start - end)
    seeds, documents = len(method.losses.seeds), len(method.losses.documents)
    notes = (*baseline.notes, *_seed_notes(seeds))
    return Estimate(quantity, "share", value, low, high, resampling.level, seeds, documents, resampling.resamples, notes)


def tuned_curve(anchors: Sequence[Anchor], *, law: Law = "power", r_star: float | None = R_STAR) -> Curve:
    """Fit the curve of the mean losses (one set: B = 1), for a picture. Raises ValueError where the law needs more anchors."""
    unique, training = _sizes(anchors)
    return fit_curve(unique, mean_losses([a.losses for a in anchors])[None], law=law, training=training, r_star=r_star)


def curve_band(
    anchors: Sequence[Anchor],
    at: np.ndarray,
    *,
    law: Law = "power",
    r_star: float | None = R_STAR,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the fitted curve at each number of unique tokens in `at`, for a picture."""
    unique, training = _sizes(anchors)
    drawn_B_K = resample_means([a.losses for a in anchors], resampling)
    losses_B_n = fit_curve(unique, drawn_B_K, law=law, training=training, r_star=r_star).loss(at)
    low, high = np.quantile(losses_B_n, resampling.tails, axis=0)
    return low, high


def _unique_tokens_needed(
    quantity: str,
    unit: str,
    method: Method,
    anchors: Sequence[Anchor],
    *,
    law: Law,
    r_star: float | None,
    resampling: Resampling,
) -> Estimate | Refusal:
    """Unique tokens at which the curve through the anchors reaches the method's loss.

    The value comes from the curve of the mean losses. For the interval, the curve is fitted and inverted again in every
    resample of all losses, those of the method included, because documents and seeds are paired. Its ends are order statistics,
    not interpolated quantiles: a resample whose curve never reaches the loss needs infinitely many tokens.
    """
    sizes = {a.unique_tokens for a in anchors}
    if len(sizes) < MIN_ANCHORS[law]:
        return Refusal(
            quantity,
            f"the {law} law needs anchors at {MIN_ANCHORS[law]} or more numbers of unique tokens, there are {len(sizes)}",
        )
    unique, training = _sizes(anchors)
    settings = [*(a.losses for a in anchors), method.losses]
    mean_K, drawn_B_K = mean_losses(settings), resample_means(settings, resampling)
    best = fit_curve(unique, mean_K[None, :-1], law=law, training=training, r_star=r_star)
    if law == "repetition":
        r_star = best.r_star  # fitted once, to the means
    fitted = fit_curve(unique, drawn_B_K[:, :-1], law=law, training=training, r_star=r_star)
    value = float(best.needed(mean_K[-1:])[0])
    needed_B = np.sort(fitted.needed(drawn_B_K[:, -1]))
    low, high = (float(needed_B[min(resampling.resamples - 1, int(q * resampling.resamples))]) for q in resampling.tails)
    first, last = min(sizes), max(sizes)
    reachable = math.isfinite(value)
    outside = reachable and not first <= value <= last
    seeds, documents = len(method.losses.seeds), len(method.losses.documents)
    found = [*_seed_notes(seeds)]
    if not reachable:
        found.append(
            f"the method's loss ({mean_K[-1]:.4f}) lies below what the fitted {law} law gives any amount of organic text"
            + (f" (offset {best.offset_B[0]:.4f})" if np.isfinite(best.offset_B[0]) else "")
        )
    elif outside:
        found.append(f"an extrapolation: {value:,.0f} tokens lie outside the measured {first:,} to {last:,}")
    elif low < first or high > last:
        found.append(f"an end of the interval lies outside the measured {first:,} to {last:,} tokens")
    noise = float(np.std(drawn_B_K[:, :-1] - drawn_B_K[:, :-1].mean(axis=1, keepdims=True), axis=0).mean())
    residual = float(best.residual_B[0])
    if law != "interpolation" and residual > max(2 * noise, 1e-4):
        found.append(f"the {law} law misses its anchors by {residual:.4f} nats (their noise is {noise:.4f})")
    counts = (seeds, documents, resampling.resamples)
    return Estimate(quantity, unit, value, low, high, resampling.level, *counts, tuple(found), outside, reachable)


def _sizes(anchors: Sequence[Anchor]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a.unique_tokens for a in anchors], float), np.array([a.training_tokens for a in anchors], float)


def _seed_notes(seeds: int) -> tuple[str, ...]:
    return ("one seed: the interval is over documents only",) if seeds == 1 else ()
