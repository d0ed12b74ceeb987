"""What a reader must know before believing the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synpro.report.contamination import contamination
from synpro.report.gather import Contents, GeneratorTraining

if TYPE_CHECKING:
    from synpro.measure.paired import Difference

CLIPPED = 0.2
"""Share of answers cut at the token limit above which training learns little."""
NO_SPREAD = 0.5
"""Share of groups in which all answers earned the same, and nothing is learned, that is worth a word."""
LOW_YIELD = 0.5
"""Share of passages kept below which the reasons deserve a look."""


@dataclass(frozen=True)
class Caution:
    """A warning: where, what, and what follows from it."""

    where: str
    what: str
    remedy: str = ""


def influence_change(generator: GeneratorTraining) -> Difference | None:
    """Validation influence after training minus before, one rewrite per passage, paired by passage; answers that did not parse
    count with the reward's worst value. None with fewer than two passages."""
    from synpro.measure.paired import paired_difference

    if generator.before is None or generator.after is None:
        return None
    before, after = [], []
    for passage, scores in generator.before.scores.items():
        first, second = scores.get("influence"), generator.after.scores.get(passage, {}).get("influence")
        if first is not None and second is not None:
            before.append(first)
            after.append(second)
    return paired_difference(before, after) if len(before) > 1 else None


def cautions(contents: Contents) -> tuple[Caution, ...]:
    """Every warning this run earns, the general ones first."""
    found = [
        Caution(
            "whole run",
            "There is no tuned-repetition arm, so the baseline (round 0) is not tuned.",
            "Read the change in loss as this run's own progress, not as a gain over repetition.",
        )
    ]
    found += [Caution(m.partition(" ")[0], m.partition(" ")[2].capitalize() + ".") for m in contents.missing]
    for t in contents.trainings:
        if t.done and not t.plateau:
            found.append(
                Caution(
                    f"round-{t.round:02d}/pretrain",
                    f"Ended on its budget, not on a plateau ({t.reason}).",
                    "The model may still have been learning: some of the next round's progress would have come anyway.",
                )
            )
    for g in contents.generators:
        found += _generator(g)
    for s in contents.syntheses:
        if s.passages and s.kept / s.passages < LOW_YIELD:
            reason, count = next(iter(s.reasons.items()))
            found.append(
                Caution(
                    s.step,
                    f"Only {s.kept:,} of {s.passages:,} passages gave a text; most often dropped as {reason!r} ({count:,}).",
                    "The synthetic text covers part of the corpus only.",
                )
            )
    for row in contamination(contents):
        if row.flagged:
            where = ", ".join(f"{count:,} in {kind} text" for kind, count in row.hit.items() if count)
            found.append(
                Caution("evaluate", f"Of {row.items:,} items of {row.group}, {where}.", "Its score may be learned by heart.")
            )
    if contents.trainings and not any(t.heldout for t in contents.trainings):
        found.append(
            Caution("pretrain", "No held-out loss was logged during training; the curve shows the reference loss alone.")
        )
    return tuple(found)


def _generator(g: GeneratorTraining) -> list[Caution]:
    where, found = f"round-{g.round:02d}/train-{g.operation}", []
    clipped, flat = g.mean("clipped"), g.mean("zero_std")
    if clipped is not None and clipped > CLIPPED:
        found.append(
            Caution(
                where, f"{clipped:.0%} of the answers were cut at the token limit.", "Raise the limit or shorten the passages."
            )
        )
    if flat is not None and flat > NO_SPREAD:
        found.append(
            Caution(
                where,
                f"In {flat:.0%} of the groups every answer earned the same: no gradient came from them.",
                "Sample more answers per passage, or look at which rewards are saturated.",
            )
        )
    if g.before is None or g.after is None:
        return found
    after, before = g.after.means.get("total"), g.before.means.get("total")
    if after is not None and before is not None and after <= before:
        found.append(
            Caution(
                where,
                f"RL did not beat its start: weighted reward on the validation passages {after - before:+.3f} deviations.",
                "By its own rewards this training gained nothing: train longer, or look at which rewards moved.",
            )
        )
    change = influence_change(g)
    if change is not None and not change.low > 0:
        sure = "fell" if change.high < 0 else "did not clearly rise"
        found.append(
            Caution(
                where,
                f"Influence on the validation passages {sure} ({change.mean:+.4f} nats per token, 95% interval "
                f"{change.low:+.4f} to {change.high:+.4f}, {change.documents} passages).",
                "RL may have improved form, not what the model learns from the texts.",
            )
        )
    worse = [
        f"{k} ({g.before.means[k]:.3f} to {g.after.means[k]:.3f})"
        for k in g.before.means
        if k in g.after.means and k not in ("influence", "total") and g.after.means[k] < g.before.means[k]
    ]
    if worse:
        found.append(Caution(where, f"Lower on validation after training than before: {', '.join(worse)}."))
    return found
