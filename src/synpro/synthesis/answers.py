"""Answers to passages, with what is known of each; who makes them; and the counts that stop a step whose answers come to
nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from synpro.corpus.contamination import BenchmarkIndex
from synpro.engines.base import Sampling
from synpro.engines.batch_generator import BatchGenerator, BatchGeneratorFactory
from synpro.operations.base import Operation, OperationConfig, parse_completion
from synpro.operations.registry import build_operation
from synpro.records import Completion, Passage, Rewrite
from synpro.rewards.filters import Failure, FilterConfig, Sample, rule_failure
from synpro.rewards.worker import Scored

MIN_ANSWERS = 32
"""Answers from which the share that passes says something."""


@dataclass
class Answer:
    """One answer to a passage."""

    rewrite: Rewrite
    version: int
    """Its number among the answers to the passage in this round, from 0, dropped ones included."""
    seed: int
    failure: Failure | None
    """Why it is dropped, as far as is known; None for one that passes so far."""
    scored: Scored | None = None
    """None until the rubric has scored it, and for one that a rule drops."""
    selection: float | None = None
    """What it was selected by; None where nothing is selected."""
    rank: int | None = None
    """Its place among the candidates of its passage, from 1."""

    @property
    def text(self) -> str:
        return self.rewrite.text or ""


@dataclass(frozen=True)
class AnswerFactory:
    """Opens a generator that also looks by the rules at what it answers, a few milliseconds a text, wherever it is opened."""

    generators: BatchGeneratorFactory
    operation: OperationConfig
    filters: FilterConfig
    index: BenchmarkIndex | None
    """Evaluation items that no text may contain."""

    def checked(self, operation: Operation, passage: Passage, completion: dict[str, Any]) -> dict[str, Any]:
        """The row of an answer: its completion, and why a rule drops it, None where none does."""
        rewrite = parse_completion(operation, passage, Completion(**completion))
        failure = rule_failure(Sample(rewrite, self.operation), self.filters)
        if failure is None and self.index is not None:
            failure = self.index.contaminated(rewrite.text or "")
        return {"completion": completion, "failure": failure}

    def open(self, progress: Callable[[float], None]) -> CheckedGenerator:
        return CheckedGenerator(self, self.generators.open(progress))


class CheckedGenerator:
    """Answers to chunks of passages, each a row of `AnswerFactory.checked`."""

    def __init__(self, spec: AnswerFactory, generator: BatchGenerator) -> None:
        self.spec, self.generator, self.operation = spec, generator, build_operation(spec.operation)

    def __call__(self, task: tuple[Sequence[Passage], Sampling], /) -> list[dict[str, Any]]:
        passages, sampling = task
        completions = self.generator(([self.operation.prompt(p) for p in passages], sampling))
        of = [p for p in passages for _ in range(len(completions) // len(passages))]
        return [self.spec.checked(self.operation, p, c) for p, c in zip(of, completions, strict=True)]

    def close(self) -> None:
        self.generator.close()


class TooFewKept(RuntimeError):
    """Almost no answer passes the filters; the message has the three most frequent reasons."""


class PassCount:
    """Counts answers that pass, and the reasons of those that do not."""

    def __init__(self, operation: str, min_kept: float) -> None:
        self.operation, self.min_kept = operation, min_kept
        self.answers = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, failures: Iterable[Failure | None]) -> None:
        """Count answers. Raises TooFewKept."""
        for failure in failures:
            self.answers += 1
            if failure is not None:
                self.reasons[failure[0]] += 1
                self.examples.setdefault(*failure)
        passed = self.answers - self.reasons.total()
        if self.answers >= MIN_ANSWERS and passed < self.min_kept * self.answers:
            most = "; ".join(
                f"{reason} ({count}, for example: {self.examples[reason]})" for reason, count in self.reasons.most_common(3)
            )
            raise TooFewKept(
                f"{self.operation}: {passed} of the first {self.answers} answers pass the filters, less than the share"
                f" synthesize.min_kept = {self.min_kept:g}. Dropped as {most}. Loosen [filters] or the limits of"
                f" [operations.{self.operation}], or use a stronger generator; synthesize.min_kept = 0 goes on as it is"
            )


def passing(answers: Sequence[Answer]) -> list[Answer]:
    """The answers that pass so far."""
    return [answer for answer in answers if answer.failure is None]
