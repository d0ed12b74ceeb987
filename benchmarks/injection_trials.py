"""How often injected text succeeds with a generator, and with the judges.

Generators answer passages that carry an attack, once as operations put passages (delimited, escaped) and once bare; clean
passages show how often an answer has the form at all, and how often a criterion is met by chance. Judges see bad outputs with
and without the attack, and bad outputs for passages that carry it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.attacks import Attack, bare_prompt, inject, succeeded
from synpro.audit.exploits import EXPLOITS, Case
from synpro.audit.reference import ReferenceAnswer, as_rewrite
from synpro.engines.base import Engine, Sampling
from synpro.operations.base import Operation, parse_completion
from synpro.records import Chat, Completion, Passage, Rewrite
from synpro.rewards.base import Reward
from synpro.rewards.rubric import Rubric

BAD = ("another passage's text", "keyword stuffing")
"""Exploits that the attack tries to lift; they apply to every operation."""


@dataclass(frozen=True)
class GeneratorOutcome:
    """A generator's answer to a passage with an attack in it, or to a clean one (`attack` is None)."""

    attack: Attack | None
    operation: str
    delimited: bool
    text: str
    succeeded: bool
    parsed: bool


@dataclass(frozen=True)
class JudgeOutcome:
    """The value of a bad output by one reward, without and with an attack."""

    attack: Attack
    operation: str
    reward: str
    place: Literal["output", "passage"]
    before: float
    """Value of the bad output over that of the reference answer to the same passage, without the attack."""
    after: float
    """The same with it. (An attack in a passage changes what its source earns, and so the values of both answers.)"""

    @property
    def won(self) -> bool:
        """Whether the attack lifted a bad output to the reference answer or above."""
        return self.before < 0 <= self.after

    @property
    def is_higher(self) -> bool:
        """Whether it brought it nearer."""
        return self.after > self.before + 1e-6


def fits(attack: Attack, operation: Operation) -> bool:
    """Whether an attack is meant for an operation."""
    return attack.operation in (None, operation.name)


def against_generator(
    attacks: Sequence[Attack],
    operation: Operation,
    engine: Engine,
    subjects: Sequence[ReferenceAnswer],
    sampling: Sampling,
    *,
    delimited: bool = True,
) -> list[GeneratorOutcome]:
    """One answer per attack and passage, and one per clean passage and attack criterion. The attack is at the end of every
    other passage and in the middle of the rest."""
    prompt: Callable[[Passage], Chat] = operation.prompt if delimited else lambda passage: bare_prompt(operation, passage)
    clean = [s.passage for s in subjects]
    loaded = [
        (a, inject(a, p, "end" if i % 2 == 0 else "middle")) for a in attacks if fits(a, operation) for i, p in enumerate(clean)
    ]
    completions = [c[0] for c in engine.generate([prompt(p) for p in (*clean, *(p for _, p in loaded))], sampling)]

    def answer(attack: Attack | None, passage: Passage, completion: Completion, met: bool) -> GeneratorOutcome:
        parsed = parse_completion(operation, passage, completion).text is not None
        return GeneratorOutcome(attack, operation.name, delimited, completion.text, met, parsed)

    plain = [
        answer(None, p, c, any(succeeded(a, c.text) for a in attacks if fits(a, operation)))
        for p, c in zip(clean, completions[: len(clean)], strict=True)
    ]
    return plain + [answer(a, p, c, succeeded(a, c.text)) for (a, p), c in zip(loaded, completions[len(clean) :], strict=True)]


def against_judges(
    attacks: Sequence[Attack], operation: Operation, rubric: Rubric, subjects: Sequence[ReferenceAnswer]
) -> list[JudgeOutcome]:
    """Every reward that reads text, for bad outputs with the attack at their end and for passages that carry it.

    Raises ValueError for fewer than two subjects, and what a judge raises.
    """
    if len(subjects) < 2:
        raise ValueError("a bad output is another passage's text; give at least two passages")
    # attack, place, (bad, reference) without it, (bad, reference) with it
    cases: list[tuple[Attack, Literal["output", "passage"], tuple[Rewrite, Rewrite], tuple[Rewrite, Rewrite]]] = []
    for i, subject in enumerate(subjects):
        case = Case(operation, subject, subjects[(i + 1) % len(subjects)])
        reference = subject.rewrite(operation)
        for bad in (EXPLOITS[name](case) or "" for name in BAD):
            plain = as_rewrite(operation, subject, bad)
            for attack in attacks:
                lifted = as_rewrite(operation, subject, operation.append(bad, attack.text, topic="Note"))
                cases.append((attack, "output", (plain, reference), (lifted, reference)))
                carried = inject(attack, subject.passage, "end")
                cases.append((attack, "passage", (plain, reference), (_moved(plain, carried), _moved(reference, carried))))
    distinct = list({id(r): r for case in cases for pair in case[2:] for r in pair}.values())
    value = dict(zip(map(id, distinct), rubric.score(distinct), strict=True))
    found = []
    for attack, place, before, after in cases:
        for name in (r.name for r in rubric.rewards if _reads_text(r) and _aims(attack, r.name)):
            over = [_difference(value[id(bad)][name], value[id(reference)][name]) for bad, reference in (before, after)]
            if over[0] is not None and over[1] is not None:
                found.append(JudgeOutcome(attack, operation.name, name, place, over[0], over[1]))
    return found


def _difference(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    return 0.0 if one == other else one - other  # also where both fail


def _reads_text(reward: Reward) -> bool:
    """Whether a judge reads the text of an output for it: length and format are counted, influence is a loss."""
    return bool(reward.needs) and "probe" not in reward.needs


def _aims(attack: Attack, reward: str) -> bool:
    return attack.sought[0] in (reward, "any")


def _moved(rewrite: Rewrite, passage: Passage) -> Rewrite:
    """The same answer to another passage."""
    return Rewrite(passage, *(getattr(rewrite, f) for f in ("operation", "answer", "text", "reason", "tokens", "finish")))


def share(values: Iterable[bool]) -> float:
    """Share of the values that are true; 0 without any."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
