"""Warnings: what a reader must know before believing the page."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synpro.judges.languages import abstentions, read_languages
from synpro.report.contamination import contamination
from synpro.report.run_data import GeneratorTraining, RunData
from synpro.rewards.registry import REWARDS, needs_of
from synpro.runner.artifacts import round_of

if TYPE_CHECKING:
    from synpro.measure.bootstrap import Difference

MANY_TRUNCATED = 0.2
"""Share of truncated answers above which training learns little."""
MANY_EQUAL = 0.5
"""Share of groups without a gradient (every answer earned the same) above which a warning is given."""
MEMORIZATION_GAP = 0.05
"""Nats per token between the influence of texts that were trained on and of others, above which a warning is given."""
LOW_INFLUENCE = 0.1
"""Share of influence in the variance of the advantage below which a warning is given."""
LOW_YIELD = 0.5
"""Share of passages kept below which a warning is given."""


@dataclass(frozen=True)
class RunWarning:
    """Where, what, and what to do or conclude."""

    where: str
    what: str
    remedy: str = ""

    @property
    def round(self) -> int | None:
        """The round of the step that it is about; None for one about the whole run."""
        return round_of(self.where) if self.where.startswith("round-") else None


def influence_change(generator: GeneratorTraining) -> Difference | None:
    """Validation influence of the last state minus that before training, one rewrite per passage, paired by passage, where both
    pass the gate: what failing costs is no influence. Of the last state, because a best one is chosen on these passages.
    Resampled by document, where they are of several. None with fewer than two passages."""
    if generator.before is None or generator.last is None:
        return None
    first, last = ({p: s.get("influence") for p, s in v.scores.items()} for v in (generator.before, generator.last))
    return _change(first, last)


def reward_change(generator: GeneratorTraining) -> Difference | None:
    """The same of the weighted reward, in deviations of the start, over all rewrites of a passage, failures included."""
    if generator.before is None or generator.last is None:
        return None
    return _change(generator.before.rewards, generator.last.rewards)


def _change(first: Mapping[str, float | str | None], last: Mapping[str, float | str | None]) -> Difference | None:
    """Of the passages that have a number in both."""
    from synpro.measure.bootstrap import paired_difference

    before, after, groups = [], [], []
    for passage, one in first.items():
        other = last.get(passage)
        if isinstance(one, float | int) and isinstance(other, float | int):
            before.append(one)
            after.append(other)
            groups.append(passage.rpartition("#")[0])
    by_document = groups if 1 < len(set(groups)) < len(groups) else None
    return paired_difference(before, after, groups=by_document) if len(before) > 1 else None


def _memorization(probe: Mapping[str, Any]) -> Iterator[RunWarning]:
    """Influence of texts that were trained on far from that of unseen ones, beyond three standard errors."""
    seen = probe.get("memorization")
    if not seen or abs(gap := seen["train"] - seen["heldout"]) <= max(MEMORIZATION_GAP, 3 * seen["error"]):
        return
    yield RunWarning(
        f"round-{probe['round']:02d}/probe",
        f"Influence tells what was trained on ({seen['train']:+.3f}) from what was not ({seen['heldout']:+.3f} nats per token, "
        f"{abs(gap) / max(seen['error'], 1e-12):.0f} standard errors apart): it measures memorisation as well as learning.",
        'Probe a model that has seen its corpus less often, or set probe.contrast = "train".',
    )


def falls(data: RunData) -> tuple[RunWarning, ...]:
    """List the generators that training made worse, beyond what a few answers can do by chance: they go to the first lines of
    the report."""
    found = []
    for g in data.generators:
        last, change = g.measured[-1] if g.measured else None, reward_change(g)
        if last is None or g.kept is None or last["reward"] >= 0 or (change is not None and change.high >= 0):
            continue
        goes_on = "the generator as it was before" if g.kept == 0 else f"its state at step {g.kept}"
        if g.kept == last["step"]:
            goes_on = 'this last state all the same (train_generator.keep = "last")'
        what = (
            f"Training made this generator worse: after {last['step']} steps its reward on the validation passages had fallen"
            f" by {-last['reward']:.2f} deviations{_interval(change, -1)}, with {last['passed']:.0%} of the answers passing."
            f" The run goes on with {goes_on}."
        )
        found.append(RunWarning(f"round-{g.round:02d}/train-{g.operation}", what, "Lower learning_rate, or raise beta."))
    return tuple(found)


def _interval(change: Difference | None, sign: int = 1) -> str:
    """In brackets; `sign` -1: of a fall, as positive numbers."""
    if change is None:
        return " (no interval)"
    low, high = sorted((sign * change.low, sign * change.high))
    units, form = "documents" if change.grouped else "passages", "+.2f" if sign > 0 else ".2f"
    return f" (95% interval {low:{form}} to {high:{form}}, {change.documents} {units})"


def falls_line(data: RunData) -> str:
    """`falls` in one sentence for the first lines of the report; empty without any."""
    found = falls(data)
    if len(found) < 2:
        return "".join(f"{w.where}: {w.what}" for w in found)
    worse = f"Training made {len(found)} generators worse on their validation passages"
    return f"{worse} ({', '.join(w.where for w in found)}); the warnings say which state is used."


def used_judges(settings: Mapping[str, Any]) -> set[str]:
    """The kinds of judges that a run's rewards and verifier ask; `settings` is its config as plain data."""
    used = {"encoder"} if settings.get("train_verifier", {}).get("kind") == "features" else set[str]()
    for operation in settings.get("operations", {}).values():
        weights = operation.get("weights", {})
        used |= needs_of({name: weight for name, weight in weights.items() if name in REWARDS})
    return used


def find_warnings(data: RunData) -> tuple[RunWarning, ...]:
    """List what limits this run's results, the general ones first."""
    return tuple(_warnings(data))


def _warnings(data: RunData) -> Iterator[RunWarning]:
    yield RunWarning(
        "whole run",
        "There is no tuned-repetition arm, so the baseline (round 0) is not tuned.",
        "Read the change in loss as this run's own progress, not as a gain over repetition.",
    )
    settings = tomllib.loads(data.settings or "")
    known = read_languages(data.run / "round-00/prepare")
    for line in abstentions(settings.get("judges", {}), known, used_judges(settings)):
        yield RunWarning("judges", f"{line}.", "docs/languages.md says how to name a judge that knows them.")
    yield from falls(data)
    for missing in data.missing:
        where, _, what = missing.partition(" ")
        yield RunWarning(where, what.capitalize() + ".")
    for t in data.trainings:
        if t.done and not t.plateau:
            yield RunWarning(
                f"round-{t.round:02d}/pretrain",
                f"Ended on its budget, not on a plateau ({t.reason}).",
                "The model may still have been learning: some of the next round's progress would have come anyway.",
            )
    for probe in data.probes:
        yield from _memorization(probe)
    for g in data.generators:
        yield from _generator(g)
    for s in data.syntheses:
        if s.passages and s.covered / s.passages < LOW_YIELD:
            reason, count = next(iter(s.reasons.items()))
            yield RunWarning(
                s.step,
                f"Only {s.covered:,} of {s.passages:,} passages have a text; most often dropped as {reason!r} ({count:,}).",
                f"The synthetic text covers part of the corpus only; operations.{s.operation}.max_tries asks again.",
            )
    for row in contamination(data):
        if row.is_contaminated:
            where = ", ".join(f"{count:,} in {kind} text" for kind, count in row.hit.items() if count)
            what = f"Of {row.items:,} items of {row.group}, {where}."
            yield RunWarning("evaluate", what, "The model may have memorized them.")
    if data.trainings and not any(t.heldout for t in data.trainings):
        yield RunWarning("pretrain", "No held-out loss was logged during training; the curve shows the reference loss alone.")


def _generator(g: GeneratorTraining) -> Iterator[RunWarning]:
    where = f"round-{g.round:02d}/train-{g.operation}"
    truncated, flat, part = g.mean("truncated"), g.mean("zero_std"), g.mean("share/influence")
    if truncated is not None and truncated > MANY_TRUNCATED:
        what = f"{truncated:.0%} of the answers were truncated."
        yield RunWarning(where, what, "Raise max_new_tokens or shorten the passages.")
    if flat is not None and flat > MANY_EQUAL:
        what = f"In {flat:.0%} of the groups every answer earned the same: no gradient came from them."
        yield RunWarning(where, what, "Sample more answers per passage, or look at which rewards are saturated.")
    if part is not None and part < LOW_INFLUENCE:
        failing = round(g.mean("share/failing") or 0, 2) + 0
        yield RunWarning(
            where,
            f"Influence is {part:.0%} of the variance of what was learned from; failing is {failing:.0%}.",
            "RL hardly learned what the model lacks: look at which gate fails, or raise the weight of influence.",
        )
    if g.before is None or g.after is None or g.last is None:
        return
    if g.before.passed is not None and g.after.passed is not None and g.after.passed < g.before.passed:
        fewer = f"{g.before.passed:.0%} to {g.after.passed:.0%}"
        yield RunWarning(where, f"Fewer answers pass on validation after training than before: {fewer}.")
    after, before = g.last.means.get("total"), g.before.means.get("total")
    if after is not None and before is not None and after <= before:
        interval = _interval(reward_change(g))
        yield RunWarning(
            where,
            f"RL did not beat its start: weighted reward on validation is {after - before:+.3f} deviations at its"
            f" end{interval}.",
            "By its own rewards this training gained nothing: train longer, or look at which rewards moved.",
        )
    change = influence_change(g)
    if change is not None and not change.low > 0:
        verdict = "fell" if change.high < 0 else "did not clearly rise"
        units = "documents" if change.grouped else "passages"
        yield RunWarning(
            where,
            f"Influence on the validation passages {verdict} ({change.mean:+.4f} nats per token, 95% interval "
            f"{change.low:+.4f} to {change.high:+.4f}, {change.documents} {units}).",
            "RL may have improved form, not what the model learns from the texts.",
        )
    worse = [
        f"{k} ({g.before.means[k]:.3f} to {g.after.means[k]:.3f})"
        for k in g.before.means
        if k in g.after.means and k not in ("influence", "total") and g.after.means[k] < g.before.means[k]
    ]
    if worse:
        yield RunWarning(where, f"Lower on validation after training than before: {', '.join(worse)}.")
