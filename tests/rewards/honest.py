"""Four of the audit's passages and their honest answers by name, as the tests of judges and rewards use them."""

from __future__ import annotations

from synpro.audit.honest import Honest, passages
from synpro.audit.honest import answered as answered_to
from synpro.operations.base import Operation
from synpro.operations.rephrase import HEADING
from synpro.records import Passage, Rewrite

SUBJECTS: dict[str, Honest] = {s.id: s for s in passages() if s.id in ("lighthouse", "honey", "printing", "glacier")}
SOURCES = {name: s.source for name, s in SUBJECTS.items()}
REPHRASED = {name: s.answers["rephrase"].removeprefix(HEADING).strip() for name, s in SUBJECTS.items()}
REFORMATTED = {name: s.answers["reformat"] for name, s in SUBJECTS.items()}


def passage(name: str) -> Passage:
    return SUBJECTS[name].passage


def answered(operation: Operation, name: str, answer: str) -> Rewrite:
    return answered_to(operation, SUBJECTS[name], answer)
