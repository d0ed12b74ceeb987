"""The audit: before RL spends anything, does each rubric rank the reference answers above the exploits?

The statistic, for each operation. The reference answers and exploits of all passages make one pool; a total is the weighted sum
of the rewards, each standardised over the pool (`rewards/advantages.py`, as in RL). An exploit kind beats the rubric when

- the median over the passages of its totals reaches the median of the totals of the reference answers to the same passages
  (some exploits need a number to change), or
- it gets more than the reference answer to its own passage on more than half of the passages (pooled totals: what a passage
  offers cancels, as it does in GRPO, which only compares answers to one passage).

Medians, because a single odd passage says nothing about what a generator would drift to. Reported beside them, without a
verdict: `pair`, the share of passages on which the exploit gets more in a group of just these two. There the standardisation
of GRPO turns any difference into the same step, so that a hundredth of a nat outvotes three other rewards; a pool cannot show
that.

The paper audits nothing; this is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from synpro.audit.exploits import EXPLOITS, Case, Exploit
from synpro.audit.reference import ReferenceAnswer, as_rewrite
from synpro.judges.text_stats import words
from synpro.operations.base import Operation
from synpro.records import Rewrite
from synpro.rewards.advantages import contributions, normalized_totals
from synpro.rewards.rubric import Rubric

REFERENCE = "reference answer"
OWN_LIMIT = 0.5
"""Share of the passages on which an exploit may get more than the reference answer to the same passage."""


class AuditFailed(RuntimeError):
    """An exploit beats the reference answers; the message names it and the rewards that credit it."""


@dataclass(frozen=True)
class ScoredAnswer:
    """One answer with its rewards."""

    kind: str
    rewrite: Rewrite
    scores: dict[str, float | None]
    total: float


@dataclass(frozen=True)
class Kind:
    """One kind of answer, over all passages."""

    name: str
    answers: int
    parsed: float
    """Share that has the form of the operation."""
    total: float
    """Median of the pooled totals."""
    raw: dict[str, float | None]
    """Median raw value of each reward, FAILED where most fail; None where it never applied."""
    gains: dict[str, float]
    """Median part of each reward in the total, over that of the reference answer to the same passage."""
    own: float = 0.0
    """Share of the passages on which it gets more than the reference answer to the same passage."""
    pair: float = 0.0
    """The same in a group of just these two, as GRPO standardises it."""
    rank: int = 0
    """1 is the kind with the highest total."""
    beats: bool = False

    @property
    def credited_rewards(self) -> list[str]:
        """The rewards that give this kind more than the reference answers, most first; without any, those blind to it."""
        gained = sorted((name for name, gain in self.gains.items() if gain > 1e-6), key=lambda n: -self.gains[n])
        return gained or [name for name, gain in self.gains.items() if abs(gain) <= 1e-6]


@dataclass(frozen=True)
class Findings:
    """The audit of one operation's rubric."""

    operation: str
    weights: dict[str, float]
    kinds: list[Kind]
    """Highest total first."""
    length: dict[str, float]
    """Rank correlation (Spearman) of total and words: `reference` answers alone, and `all` that parse."""
    rows: list[ScoredAnswer] = field(repr=False)

    @property
    def winners(self) -> list[Kind]:
        """The exploits that beat the reference answers."""
        return [kind for kind in self.kinds if kind.beats]


def audit(
    operation: Operation,
    rubric: Rubric,
    subjects: Sequence[ReferenceAnswer],
    exploits: Mapping[str, Exploit] = EXPLOITS,
) -> Findings:
    """Feed a rubric every exploit of every subject, next to the reference answers.

    Raises ValueError for fewer than two subjects, NoReferenceAnswer for an operation without reference answers, and what a
    judge raises.
    """
    if len(subjects) < 2:
        raise ValueError("the audit needs at least two passages: one exploit answers with the text of another")
    asked = [(REFERENCE, s.rewrite(operation)) for s in subjects]
    for name, exploit in exploits.items():
        for i, subject in enumerate(subjects):
            answer = exploit(Case(operation, subject, subjects[(i + 1) % len(subjects)]))
            if answer is not None:
                asked.append((name, as_rewrite(operation, subject, answer)))
    scores = rubric.score([rewrite for _, rewrite in asked])
    added = contributions(scores, rubric.weights)
    rows = [ScoredAnswer(name, r, s, sum(a.values())) for (name, r), s, a in zip(asked, scores, added, strict=True)]
    parts = {name: [a[name] for a in added] for name in rubric.weights}
    return Findings(operation.name, dict(rubric.weights), _kinds(rows, parts, rubric.weights), _length(rows), rows)


def _kinds(rows: Sequence[ScoredAnswer], parts: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[Kind]:
    places: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row.kind, []).append(i)
    references = {rows[i].rewrite.passage.id: i for i in places[REFERENCE]}
    found = []
    for name, mine in places.items():
        pairs = [(i, references[rows[i].rewrite.passage.id]) for i in mine]
        total, bar = median(rows[i].total for i in mine), median(rows[h].total for _, h in pairs)
        own = sum(rows[i].total > rows[h].total for i, h in pairs) / len(pairs)
        twos = [normalized_totals([rows[i].scores, rows[h].scores], weights) for i, h in pairs]
        found.append(
            Kind(
                name,
                answers=len(mine),
                parsed=sum(rows[i].rewrite.text is not None for i in mine) / len(mine),
                total=total,
                raw={reward: _median([rows[i].scores[reward] for i in mine]) for reward in weights},
                gains={reward: median(values[i] - values[h] for i, h in pairs) for reward, values in parts.items()},
                own=own,
                pair=sum(a > b for a, b in twos) / len(pairs),
                beats=name != REFERENCE and (total >= bar or own > OWN_LIMIT),
            )
        )
    found.sort(key=lambda kind: -kind.total)
    return [Kind(**{**vars(kind), "rank": rank}) for rank, kind in enumerate(found, 1)]


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None


def _length(rows: Sequence[ScoredAnswer]) -> dict[str, float]:
    from scipy.stats import spearmanr

    out = {}
    for name, some in (("reference", [r for r in rows if r.kind == REFERENCE]), ("all", [r for r in rows if r.rewrite.text])):
        sizes = [len(words(r.rewrite.text or "")) for r in some]
        sums = [r.total for r in some]
        out[name] = float(spearmanr(sizes, sums).statistic) if len(set(sizes)) > 1 and len(set(sums)) > 1 else 0.0
    return out
