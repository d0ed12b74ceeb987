"""What an answer is worth among the answers to its passage: the advantage of GRPO, computed here and handed to TRL as it is.

For every reward, the valid answers of a group are standardised among themselves (mean 0, deviation 1), and an answer that fails
the reward's gate gets `STEP` less than the worst valid one. An answer that a rule of synthesis rejects has no values; its
total is `STEP` below the worst total of the others, whatever the rewards are. So failing costs the same in every group, and
what is told apart among valid answers is the measured value, in the share that its weight says.

(Standardised together with its failures, a reward with a penalty is little more than pass or fail: influence differs by about
0.03 nats inside a group and its penalty was ten times that, so that 97% of the spread was the gate's.)

The weighted sum is divided by the root of the summed squares of the weights: its deviation is about 1 among valid answers. A
None (the reward does not apply) counts as the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from synpro.rewards.base import FAILED

Scores = Mapping[str, float | None]
"""Raw rewards of one answer, by name; None where one does not apply, FAILED where the answer fails."""
STEP = 0.5
"""How far a failure is below the worst valid answer of its group, in deviations."""
FAILING = "failing"
"""Name of the part of the total that is not a measured value: the steps of failures."""
_EQUAL = 1e-9
"""Deviation below which values are equal."""


def is_rejected(scores: Scores, weights: Mapping[str, float]) -> bool:
    """Whether an answer fails everything: a rule of synthesis rejects it."""
    return all(scores.get(name) == FAILED for name, weight in weights.items() if weight)


def is_value(value: float | None) -> TypeGuard[float]:
    """Whether a score is a measurement, neither failed nor missing."""
    return value is not None and value != FAILED


def readable(scores: Scores) -> dict[str, float | str | None]:
    """Scores for a JSON file, which has no infinity: `failed` in its place."""
    return {name: "failed" if value == FAILED else value for name, value in scores.items()}


def contributions(scores: Sequence[Scores], weights: Mapping[str, float]) -> list[dict[str, float]]:
    """What each reward adds to the total of each answer of one group, and under `FAILING` what a rejected answer gets."""
    unit = sum(w * w for w in weights.values()) ** 0.5 or 1.0
    columns = {n: [w / unit * z for z in _standardized([s.get(n) for s in scores])] for n, w in weights.items()}
    rejected = [is_rejected(s, weights) for s in scores]
    rows = [
        dict.fromkeys(weights, 0.0) if out else {n: column[i] for n, column in columns.items()}
        for i, out in enumerate(rejected)
    ]
    floor = min((sum(row.values()) for row, out in zip(rows, rejected, strict=True) if not out), default=0.0)
    return [{**row, FAILING: floor - STEP if out else 0.0} for row, out in zip(rows, rejected, strict=True)]


def normalized_totals(scores: Sequence[Scores], weights: Mapping[str, float]) -> list[float]:
    """The totals of a group's answers. Inside one group, less their mean, they are GRPO's advantages; over a pool they compare
    rewrites of different passages."""
    return [sum(row.values()) for row in contributions(scores, weights)]


def variance_shares(groups: Sequence[Sequence[Scores]], weights: Mapping[str, float]) -> dict[str, float]:
    """Share of each reward in the variance of the advantages of some groups; they add up to 1, and one that works against the
    total is negative. What failures get, at a reward's gate or by a rule, is counted under `FAILING`. All are 0 where no group
    has differences."""
    names = [*weights, FAILING]
    together, whole = dict.fromkeys(names, 0.0), 0.0
    for group in groups:
        rows = []
        for scores, parts in zip(group, contributions(group, weights), strict=True):
            values = {n: parts[n] if is_value(scores.get(n)) else 0.0 for n in weights}
            rows.append({**values, FAILING: sum(parts.values()) - sum(values.values())})
        totals = _centred([sum(row.values()) for row in rows])
        whole += sum(t * t for t in totals)
        for name in names:
            together[name] += sum(v * t for v, t in zip(_centred([row[name] for row in rows]), totals, strict=True))
    return {name: part / whole if whole > _EQUAL else 0.0 for name, part in together.items()}


def _standardized(values: Sequence[float | None]) -> list[float]:
    """Valid values in deviations from their mean; failures a step below the worst of them; 0 for None."""
    valid = [v for v in values if is_value(v)]
    mean = sum(valid) / len(valid) if valid else 0.0
    deviation = (sum((v - mean) ** 2 for v in valid) / (len(valid) - 1)) ** 0.5 if len(valid) > 1 else 0.0
    scale = 1 / deviation if deviation > _EQUAL else 0.0
    fail = min(((v - mean) * scale for v in valid), default=0.0) - STEP
    return [0.0 if v is None else fail if v == FAILED else (v - mean) * scale for v in values]


def _centred(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [v - mean for v in values]
