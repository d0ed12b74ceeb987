"""The audit: before RL spends anything, does each rubric rank honest answers above the exploits?

The statistic, for each operation. All answers, honest and exploits, of all passages make one pool; a total is the weighted sum
of the rewards, each standardised over the pool (`rewards.rubric.totals`). An exploit kind beats the rubric when

- the median over the passages of its totals reaches the median of the honest totals of the same passages (some exploits need
  a number to change), or
- it earns more than the honest answer to its own passage on more than half of the passages (pooled totals: what a passage
  offers cancels, as it does in GRPO, which only compares answers to one passage).

Medians, because a single odd passage says nothing about what a generator would drift to. Reported beside them, without a
verdict: `pair`, the share of passages on which the exploit earns more in a group of just these two. There the standardisation
of GRPO turns any difference into the same step, so that a hundredth of a nat outvotes three other rewards; a pool cannot show
that.

The paper audits nothing; this is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from synpro.audit.exploits import EXPLOITS, Exploit
from synpro.audit.honest import Honest, answered
from synpro.judges.rules import words
from synpro.operations.base import Operation
from synpro.records import Passage, Rewrite
from synpro.rewards.rubric import Rubric, totals

HONEST = "honest answer"
OWN_LIMIT = 0.5
"""Share of the passages on which an exploit may earn more than the honest answer to the same passage."""


class AuditFailed(RuntimeError):
    """An exploit beats the honest answers; the message names it and the rewards that let it."""


@dataclass(frozen=True)
class Row:
    """One answer and what it earned."""

    kind: str
    rewrite: Rewrite
    scores: dict[str, float | None]
    total: float


@dataclass(frozen=True)
class Kind:
    """What one kind of answer earned, over all passages."""

    name: str
    answers: int
    parsed: float
    """Share that has the form of the operation."""
    total: float
    """Median of the pooled totals."""
    raw: dict[str, float | None]
    """Median raw value of each reward; None where it never applied."""
    gains: dict[str, float]
    """Of each reward: its median part in the total over that of the honest answer to the same passage."""
    own: float = 0.0
    """Share of the passages on which it earns more than the honest answer to the same passage."""
    pair: float = 0.0
    """The same in a group of just these two, as GRPO standardises it."""
    rank: int = 0
    """1 is the best paid kind."""
    beats: bool = False

    @property
    def let_by(self) -> list[str]:
        """The rewards that pay this kind more than the honest answers, most first; if none does, those that are blind to it."""
        paid = sorted((name for name, gain in self.gains.items() if gain > 1e-6), key=lambda n: -self.gains[n])
        return paid or [name for name, gain in self.gains.items() if abs(gain) <= 1e-6]


@dataclass(frozen=True)
class Findings:
    """The audit of one operation's rubric."""

    operation: str
    weights: dict[str, float]
    kinds: list[Kind]
    """Best paid first."""
    length: dict[str, float]
    """Rank correlation (Spearman) of total and words: `honest` answers alone, and `all` that parse."""
    rows: list[Row] = field(repr=False)

    @property
    def winners(self) -> list[Kind]:
        """The exploits that beat the honest answers."""
        return [kind for kind in self.kinds if kind.beats]


def audit(
    operation: Operation,
    rubric: Rubric,
    subjects: Sequence[Honest],
    corpus: Sequence[Passage] = (),
    exploits: Mapping[str, Exploit] = EXPLOITS,
) -> Findings:
    """Feed a rubric every exploit of every subject, next to the honest answers.

    `corpus`: passages of the run, for rewards whose scale comes from the sources they have seen. Raises ValueError for fewer
    than two subjects, NoHonestAnswer for an operation without honest answers, and what a judge raises.
    """
    if len(subjects) < 2:
        raise ValueError("the audit needs at least two passages: one exploit answers with the text of another")
    rubric.prepare([*corpus, *(s.passage for s in subjects)])
    asked = [(HONEST, s.rewrite(operation)) for s in subjects]
    for name, exploit in exploits.items():
        for i, subject in enumerate(subjects):
            answer = exploit(operation, subject, subjects[(i + 1) % len(subjects)])
            if answer is not None:
                asked.append((name, answered(operation, subject, answer)))
    scores = rubric.score([rewrite for _, rewrite in asked])
    pooled = totals(scores, rubric.weights)
    rows = [Row(name, r, s, t) for (name, r), s, t in zip(asked, scores, pooled, strict=True)]
    parts = {name: totals(scores, {name: weight}) for name, weight in rubric.weights.items()}
    return Findings(operation.name, dict(rubric.weights), _kinds(rows, parts, rubric.weights), _length(rows), rows)


def _kinds(rows: Sequence[Row], parts: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[Kind]:
    places: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row.kind, []).append(i)
    honest = {rows[i].rewrite.passage.id: i for i in places[HONEST]}
    found = []
    for name, mine in places.items():
        pairs = [(i, honest[rows[i].rewrite.passage.id]) for i in mine]
        total, bar = median(rows[i].total for i in mine), median(rows[h].total for _, h in pairs)
        own = sum(rows[i].total > rows[h].total for i, h in pairs) / len(pairs)
        twos = [totals([rows[i].scores, rows[h].scores], weights) for i, h in pairs]
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
                beats=name != HONEST and (total >= bar or own > OWN_LIMIT),
            )
        )
    found.sort(key=lambda kind: -kind.total)
    return [Kind(**{**vars(kind), "rank": rank}) for rank, kind in enumerate(found, 1)]


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return median(known) if known else None


def _length(rows: Sequence[Row]) -> dict[str, float]:
    from scipy.stats import spearmanr

    out = {}
    for name, some in (("honest", [r for r in rows if r.kind == HONEST]), ("all", [r for r in rows if r.rewrite.text])):
        sizes = [len(words(r.rewrite.text or "")) for r in some]
        sums = [r.total for r in some]
        out[name] = float(spearmanr(sizes, sums).statistic) if len(set(sizes)) > 1 and len(set(sums)) > 1 else 0.0
    return out
