"""The one number, with its interval, and the changes against round 0 that the tables show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synpro.report.gather import Contents, Evaluated
from synpro.run.reading import Damaged

if TYPE_CHECKING:
    from synpro.measure.paired import Difference


@dataclass(frozen=True)
class Change:
    """A round's held-out loss against round 0's, on the same documents."""

    round: int
    loss: Difference
    """Nats per token."""
    bits_per_byte: Difference


@dataclass(frozen=True)
class Headline:
    """What a run comes to; `change` is None while there is nothing to compare."""

    change: Change | None
    first: Evaluated | None
    last: Evaluated | None
    title: str
    """What happened, without the number's interval."""
    sentence: str
    """The number with its interval, in a person's words."""
    caution: str
    """What the number does not say."""


def changes(contents: Contents) -> tuple[Change, ...]:
    """Each later round against round 0, paired by held-out document. Raises Damaged when the documents differ."""
    from synpro.measure.paired import paired_difference

    if not contents.evaluated or contents.evaluated[0].round != 0:
        return ()
    first = contents.evaluated[0]
    ids = sorted(first.documents)
    if len(ids) < 2:
        return ()
    result = []
    for later in contents.evaluated[1:]:
        if set(later.documents) != set(ids):
            raise Damaged(
                f"rounds 0 and {later.round} were evaluated on different held-out documents ({len(ids)} and "
                f"{len(later.documents)}); do the evaluate steps again so that they can be compared"
            )
        before = [first.documents[i][0] for i in ids]
        after = [later.documents[i][0] for i in ids]
        tokens = [float(first.documents[i][1]) for i in ids]
        bits = [first.documents[i][2] * math.log(2) for i in ids]
        result.append(Change(later.round, paired_difference(before, after, tokens), paired_difference(before, after, bits)))
    return tuple(result)


def headline(contents: Contents, known: tuple[Change, ...] | None = None) -> Headline:
    """The change in held-out loss from round 0 to the last round that was evaluated."""
    found = changes(contents) if known is None else known
    first = contents.evaluated[0] if contents.evaluated else None
    if not found or first is None:
        sentence = "No change to report yet: at least rounds 0 and 1 must be evaluated, on two or more held-out documents."
        if first is not None:
            sentence += f" Held-out loss after round {first.round}: {first.heldout_loss:.4f} nats per token."
        return Headline(None, first, None, sentence, sentence, "")
    change, last = found[-1], contents.evaluated[-1]
    d = change.loss
    verb = "fell" if d.mean < 0 else "rose"
    ends = f"from {first.heldout_loss:.4f} to {last.heldout_loss:.4f} nats per token"
    title = f"Held-out loss {verb} {ends}, round 0 to round {last.round}."
    sentence = (
        f"Held-out loss {verb} by {abs(d.mean):.4f} nats per token from round 0 to round {change.round} "
        f"({first.heldout_loss:.4f} to {last.heldout_loss:.4f}; 95% interval of the change {d.low:+.4f} to {d.high:+.4f}, "
        f"{d.documents} held-out documents)."
    )
    if not d.clear:
        unclear = " The interval holds zero: no clear change."
        title, sentence = title + unclear, sentence + unclear
    more = (last.tokens_seen or 0) - (first.tokens_seen or 0)
    trained = f"Round {change.round}'s model was also trained on {more:,} more tokens than round 0's. " if more > 0 else ""
    caution = (
        f"{trained}How much of the change the synthetic text caused cannot be told from this run alone, and this is no "
        "multiplier of effective tokens: a multiplier needs an arm that repeats the same organic text with settings tuned for "
        "it, so none is printed. The interval is over held-out documents, not over seeds."
    )
    return Headline(change, first, last, title, sentence, caution)
