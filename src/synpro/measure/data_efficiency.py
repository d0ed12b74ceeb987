"""What a method is worth in organic text, in three meanings that are never mixed up (method.md, "Effective tokens").

(a) *data efficiency*: on the curve "loss of tuned repetition against unique tokens U", the U at which repetition would reach
    the method's held-out loss, over the U the method had;
(b) *oracle-equivalent tokens*: the unique tokens that a single pass would need for that loss;
(c) *share of the oracle gap*: how much of the way from tuned repetition to the oracle the method goes.

(a) and (c) are claims against repetition, so both are refused when repetition was not tuned, or still gains from more tokens.
Where its search did not settle, a better setting may be near, and both are upper bounds. All are functions of losses alone.

Intervals are over held-out documents (or groups of them) and training seeds (`measure/losses.py`); the curve is fitted again in
every resample. The interval also holds the spread between the laws of `measure/curves.py`; chords are given beside it. Where
the law is chords, the interval reaches from the most to the least bent curve through the anchors, and the value lies between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from synpro.measure.curves import MIN_ANCHORS, PLAUSIBLE_EXPONENTS, Curve, Curves, Law, fit_curve
from synpro.measure.losses import DEFAULT_RESAMPLING, TAILS, Losses, Resampling, mean_losses, resample_means

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
    trainings: int = 0
    """Trainings the search took."""
    carried: bool = False
    """The settings were chosen at one number of unique tokens and used at all: the other anchors may be better still."""
    open_axes: tuple[str, ...] = ()
    """Settings of which a neighbour of the chosen value was not tried, or won: the search is not settled."""
    gains_from_tokens: bool = False
    """The whole budget is best: repetition may still gain from more tokens, so text is not what it lacks."""

    @property
    def untuned(self) -> str | None:
        """Why nothing may be claimed against this baseline, in a person's words; None when it was tuned."""
        if not self.searched or self.trainings < 2:
            return "the repetition baseline was not tuned: no search over its weight decay, learning rate and epochs was made"
        missing = [name.replace("_", " ") for name in TUNED if len(set(self.searched.get(name, ()))) < 2]
        if missing:
            return f"the repetition baseline was not tuned: its search tried only one value of {', '.join(missing)}"
        if self.gains_from_tokens:
            return (
                "the comparison is not data-bound: of the shares of the budget that were tried, the whole was best for "
                "repetition, so more tokens may help it more than more text; raise compare.budget_tokens"
            )
        return None

    @property
    def bound(self) -> str | None:
        """Why a claim against this baseline is an upper bound only; None when its searches settled. Every point of the curve
        that is badly tuned lies too high, which flatters the method as much as a badly tuned repetition does."""
        found = []
        if self.open_axes:
            axes = ", ".join(name.replace("_", " ") for name in self.open_axes)
            found.append(f"the search for repetition's settings did not settle: a better neighbour may be near in {axes}")
        if self.carried:
            found.append("settings tuned at one number of unique tokens were used at all of them")
        return "; ".join(found) or None


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval, and what it rests on."""

    quantity: str
    """`data efficiency`, `oracle-equivalent tokens` or `share of the oracle gap`."""
    unit: str
    """`x`, `tokens` or `share`."""
    value: float
    """Infinite where the curve never reaches the loss."""
    low: float
    high: float
    seeds: int
    documents: int
    notes: tuple[str, ...] = ()
    """Extrapolation, one seed, a bad fit, an edge of the search: in a person's words."""
    extrapolated: bool = False
    """The value lies outside the measured unique tokens."""
    bound: bool = False
    """Only `high` means something: repetition may be better than it was measured to be."""
    laws: dict[str, float] = field(default_factory=dict)
    """The value by each law that the anchors suffice for; `interpolation` and `reciprocal` are chords."""
    reachable: bool = True
    """False: the loss lies below what the curve says any amount of organic text gives."""

    @property
    def words(self) -> str:
        """`1.21x [1.10, 1.34]`, with `(extrapolated)` where it is, and no number where there is none."""
        if not self.reachable:
            return f"not reached by the curve; at least {self._shown(self.low)}" if math.isfinite(self.low) else "not reached"
        mark = " (extrapolated)" if self.extrapolated else ""
        if self.bound:
            return f"at most {self._shown(self.high)}{mark}"
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
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Estimate | Refusal:
    """(a): unique tokens that tuned repetition needs for the method's loss, over the method's.

    Refused when the baseline was not tuned, when repetition still gains from tokens, and when the law needs more anchors. An
    upper bound when the search of the baseline did not settle. Raises ValueError when settings were measured on
    other documents or seeds.
    """
    quantity = "data efficiency"
    if baseline.untuned is not None:
        return Refusal(quantity, baseline.untuned)
    inverted = _unique_tokens_needed(quantity, "x", method, anchors, law=law, resampling=resampling)
    if isinstance(inverted, Refusal):
        return inverted
    value, low, high = (tokens / method.unique_tokens for tokens in (inverted.value, inverted.low, inverted.high))
    laws = {name: tokens / method.unique_tokens for name, tokens in inverted.laws.items()}
    bound, notes = baseline.bound is not None, (*_bound_notes(baseline), *inverted.notes)
    return replace(inverted, value=value, low=low, high=high, laws=laws, notes=notes, bound=bound)


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
    return _unique_tokens_needed("oracle-equivalent tokens", "tokens", method, passes, law=law, resampling=resampling)


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
    seeds, documents = len(method.losses.seeds), method.losses.units
    notes, bound = (*_bound_notes(baseline), *_seed_notes(seeds)), baseline.bound is not None
    return Estimate(quantity, "share", value, low, high, seeds, documents, notes, bound=bound)


def tuned_curve(anchors: Sequence[Anchor], *, law: Law = "power") -> Curve:
    """Fit the curve of the mean losses (one set: B = 1), for a picture. Raises ValueError where the law needs more anchors."""
    unique, training = _sizes(anchors)
    return fit_curve(unique, mean_losses([a.losses for a in anchors])[None], law=law, training=training)


def curve_band(
    anchors: Sequence[Anchor], at: np.ndarray, *, law: Law = "power", resampling: Resampling = DEFAULT_RESAMPLING
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the fitted curve at each number of unique tokens in `at`, for a picture."""
    unique, training = _sizes(anchors)
    drawn_B_K = resample_means([a.losses for a in anchors], resampling)
    losses_B_n = fit_curve(unique, drawn_B_K, law=law, training=training).loss(at)
    low, high = np.quantile(losses_B_n, TAILS, axis=0)
    return low, high


def _unique_tokens_needed(
    quantity: str, unit: str, method: Method, anchors: Sequence[Anchor], *, law: Law, resampling: Resampling
) -> Estimate | Refusal:
    """Unique tokens at which the curve through the anchors reaches the method's loss.

    The value comes from the curve of the mean losses. For the interval, the curve is fitted and inverted again in every
    resample of all losses, those of the method included, because documents and seeds are paired. Its ends are order statistics,
    not interpolated quantiles: a resample whose curve never reaches the loss needs infinitely many tokens. They are moved apart
    by how far the other law's value lies from this one's; those of chords hold both the most and the least bent curve, and the
    value is the geometric mean of the two.
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
    first, last = min(sizes), max(sizes)
    lines, best_at = law == "interpolation", int(np.argmin(mean_K[:-1]))
    if lines and mean_K[-1] < mean_K[best_at]:
        return Refusal(
            quantity,
            f"its loss ({mean_K[-1]:.4f}) lies below the lowest that organic text gave ({mean_K[best_at]:.4f} with "
            f"{unique[best_at]:,.0f} unique tokens), and chords say nothing beyond: more unique tokens have to be measured",
        )
    if lines and unique[best_at] == first:
        return Refusal(quantity, "more unique tokens did not lower the loss of organic text: there is no curve to read")
    best = fit_curve(unique, mean_K[None, :-1], law=law, training=training)
    value = float(best.needed(mean_K[-1:])[0])
    laws = _by_law(mean_K, unique, training, {law: value})
    names: tuple[Curves, ...] = ("interpolation", "reciprocal") if lines else (law,)
    fitted = [fit_curve(unique, drawn_B_K[:, :-1], law=name, training=training) for name in names]
    needed_B_L = np.stack([curve.needed(drawn_B_K[:, -1]) for curve in fitted], axis=1)
    if lines:  # beyond the largest anchor chords say nothing
        needed_B_L = np.where(needed_B_L > last, np.inf, needed_B_L)
    low, high = _quantile(needed_B_L.min(axis=1), TAILS[0]), _quantile(needed_B_L.max(axis=1), TAILS[1])
    fits = [laws[name] for name in ("power", "repetition") if name in laws and not lines]
    if math.isfinite(value) and fits:
        low, high = max(0.0, low - (value - min(fits))), high + (max(fits) - value)
    if lines:
        value = math.sqrt(value * laws["reciprocal"])
    reachable = math.isfinite(value)
    outside = reachable and not first <= value <= last
    seeds, documents = len(method.losses.seeds), method.losses.units
    found = [*_seed_notes(seeds)]
    if lines and reachable:
        found.append(
            f"chords from {first:,} to {last:,} tokens do not show how the curve bends: {laws['reciprocal']:,.0f} tokens "
            f"with an exponent of 1, {laws['interpolation']:,.0f} with one near 0; the interval holds both"
        )
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
    if not lines and residual > max(2 * noise, 1e-4):
        found.append(f"the {law} law misses its anchors by {residual:.4f} nats (their noise is {noise:.4f})")
    exponent = float(best.exponent_B[0])
    if not lines and not PLAUSIBLE_EXPONENTS[0] <= exponent <= PLAUSIBLE_EXPONENTS[1]:
        least, most = PLAUSIBLE_EXPONENTS
        found.append(
            f"the {law} law has an exponent of {exponent:.2f}, outside {least:g} to {most:g}: its anchors are too few, too "
            "noisy or badly tuned"
        )
    given = (quantity, unit, value, low, high, seeds, documents, tuple(found))
    return Estimate(*given, extrapolated=outside, laws=laws, reachable=reachable)


def _quantile(needed_B: np.ndarray, q: float) -> float:
    return float(np.sort(needed_B)[min(len(needed_B) - 1, int(q * len(needed_B)))])


def _by_law(mean_K: np.ndarray, unique: np.ndarray, training: np.ndarray, known: dict[Law, float]) -> dict[str, float]:
    """The tokens needed by each law that the anchors suffice for. In single passes the two laws are the same."""
    found: dict[str, float] = {str(name): tokens for name, tokens in known.items()}
    for law in get_args(Curves):
        if law not in found and len(set(unique)) >= MIN_ANCHORS[law]:
            curve = fit_curve(unique, mean_K[None, :-1], law=law, training=training)
            found[law] = float(curve.needed(mean_K[-1:])[0])
    return found


def _sizes(anchors: Sequence[Anchor]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a.unique_tokens for a in anchors], float), np.array([a.training_tokens for a in anchors], float)


def _bound_notes(baseline: Baseline) -> tuple[str, ...]:
    return () if baseline.bound is None else (baseline.bound,)


def _seed_notes(seeds: int) -> tuple[str, ...]:
    return ("one seed: the interval is over documents only",) if seeds == 1 else ()
