"""The headline: the change in held-out loss with its interval, and the changes against round 0 that the tables show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from synpro.report.run_data import RoundEvaluation, RunData
from synpro.runner.artifacts import CorruptRun

if TYPE_CHECKING:
    from synpro.measure.bootstrap import Difference


@dataclass(frozen=True)
class Change:
    """A round's held-out loss minus that of round 0, on the same documents."""

    round: int
    loss: Difference
    """Nats per token."""
    bits_per_byte: Difference


@dataclass(frozen=True)
class Headline:
    """The result of a run; `change` is None while there is nothing to compare."""

    change: Change | None
    first: RoundEvaluation | None
    last: RoundEvaluation | None
    title: str
    """What happened, without the number's interval."""
    sentence: str
    """The number with its interval, as a sentence."""
    caution: str
    """What the number does not show."""


def paired_change(
    data: RunData, ids: Sequence[str], first: RoundEvaluation, later: RoundEvaluation, units: Sequence[float]
) -> Difference | None:
    """The change of the loss of some held-out documents, per unit, with an interval over their articles (documents, where they
    are no parts of one): the losses of two parts of an article are not independent. None with fewer than two articles."""
    from synpro.corpus.store import group_of_each
    from synpro.measure.bootstrap import paired_difference

    known = group_of_each(data.run / "round-00/prepare")
    groups = [known.get(i, i) for i in ids]
    if len(set(groups)) < 2:
        return None
    before, after = ([e.documents[i][0] for i in ids] for e in (first, later))
    return paired_difference(before, after, units, groups=groups if known.keys() & set(ids) else None)


def changes(data: RunData) -> tuple[Change, ...]:
    """Compare each later round with round 0, paired by held-out document and resampled by article. Raises CorruptRun when the
    documents differ."""
    if not data.evaluated or data.evaluated[0].round != 0:
        return ()
    first = data.evaluated[0]
    ids = sorted(first.documents)
    result = []
    for later in data.evaluated[1:]:
        if set(later.documents) != set(ids):
            raise CorruptRun(
                f"rounds 0 and {later.round} were evaluated on different held-out documents ({len(ids)} and "
                f"{len(later.documents)}); do the evaluate steps again so that they can be compared"
            )
        tokens = [float(first.documents[i][1]) for i in ids]
        bits = [first.documents[i][2] * math.log(2) for i in ids]
        loss, per_byte = (paired_change(data, ids, first, later, units) for units in (tokens, bits))
        if loss is not None and per_byte is not None:
            result.append(Change(later.round, loss, per_byte))
    return tuple(result)


def since_start(data: RunData) -> dict[str, Difference]:
    """The change of the newest round's loss against the model that training started from, on `held-out` and `general` text, as
    far as both were measured."""
    start = data.evaluated[0].start if data.evaluated else None
    if start is None:
        return {}
    found: dict[str, Difference] = {}
    for name, field in (("held-out", "documents"), ("general", "general")):
        before, after = (replace(e, documents=getattr(e, field)) for e in (start, data.evaluated[-1]))
        ids = sorted(before.documents.keys() & after.documents.keys())
        change = paired_change(data, ids, before, after, [float(before.documents[i][1]) for i in ids])
        found |= {name: change} if change else {}
    return found


def forgotten(data: RunData) -> str:
    """How to read the loss on general text that `since_start` has; the two losses where one document gives no interval."""
    start = data.evaluated[0].start if data.evaluated else None
    if start is None or not start.general:
        return ""
    before, after, few = start.general_loss, data.evaluated[-1].general_loss, ""
    if len(start.general) == 1 and before is not None and after is not None:
        few = f"General text: {before:.4f} before, {after:.4f} after, too few documents for an interval. "
    return few + "A rise on general text is what was forgotten."


def headline(data: RunData, measured: tuple[Change, ...] | None = None) -> Headline:
    """The change in held-out loss from round 0 to the last evaluated round; `measured` is the result of `changes`, if known."""
    found = changes(data) if measured is None else measured
    first = data.evaluated[0] if data.evaluated else None
    if first is None and not data.trainings and data.syntheses:  # a run that only generates
        kept, answers = sum(s.kept for s in data.syntheses), sum(s.answers for s in data.syntheses)
        sentence = f"{kept:,} of {answers:,} generated texts were kept; no model was trained on them in this run."
        return Headline(None, None, None, sentence, sentence, "")
    if not found or first is None:
        sentence = "No change to report yet: at least rounds 0 and 1 must be evaluated, on two or more held-out documents."
        if first is not None:
            sentence += f" Held-out loss after round {first.round}: {first.heldout_loss:.4f} nats per token."
        return Headline(None, first, None, sentence, sentence, "")
    change, last = found[-1], data.evaluated[-1]
    d = change.loss
    verb = "fell" if d.mean < 0 else "rose"
    ends = f"from {first.heldout_loss:.4f} to {last.heldout_loss:.4f} nats per token"
    title = f"Held-out loss {verb} {ends}, round 0 to round {last.round}."
    sentence = (
        f"Held-out loss {verb} by {abs(d.mean):.4f} nats per token from round 0 to round {change.round} "
        f"({first.heldout_loss:.4f} to {last.heldout_loss:.4f}; 95% interval of the change {d.low:+.4f} to {d.high:+.4f}, "
        f"{d.documents} held-out {d.units})."
    )
    if not d.clear:
        unclear = " The interval holds zero: no clear change."
        title, sentence = title + unclear, sentence + unclear
    more = (last.tokens_seen or 0) - (first.tokens_seen or 0)
    trained = f"Round {change.round}'s model was also trained on {more:,} more tokens than round 0's. " if more > 0 else ""
    caution = (
        f"{trained}How much of the change the synthetic text caused cannot be told from this run alone, and this is no "
        "multiplier of effective tokens: a multiplier needs an arm that repeats the same organic text with settings tuned for "
        "it, so none is printed. The interval is over held-out texts, not over seeds."
    )
    return Headline(change, first, last, title, sentence, caution)
