"""Four of the audit's passages and their reference answers by id, as the tests of judges and rewards use them."""

from __future__ import annotations

from synpro.audit.reference import ReferenceAnswer, as_rewrite, reference_answers
from synpro.operations.base import Operation
from synpro.operations.registry import build_operation, operation_config
from synpro.records import Passage, Rewrite

REPHRASE, REFORMAT = (build_operation(operation_config(name)) for name in ("rephrase", "reformat"))
SUBJECTS: dict[str, ReferenceAnswer] = {
    s.id: s for s in reference_answers() if s.id in ("lighthouse", "honey", "printing", "glacier")
}
SOURCES = {name: s.source for name, s in SUBJECTS.items()}
REPHRASED = {name: s.answer(REPHRASE).removeprefix(REPHRASE.headings[0]).strip() for name, s in SUBJECTS.items()}
REFORMATTED = {name: s.answer(REFORMAT) for name, s in SUBJECTS.items()}


def passage(name: str) -> Passage:
    return SUBJECTS[name].passage


def answered(operation: Operation, name: str, answer: str) -> Rewrite:
    return as_rewrite(operation, SUBJECTS[name], answer)
