"""The reward audit on German passages: an answer in another language never wins, and what abstains is known."""

from __future__ import annotations

from synpro.audit.audit import REFERENCE, audit
from synpro.audit.exploits import Case
from synpro.audit.reference import reference_answers
from synpro.judges.base import JudgesConfig
from synpro.operations.rephrase import Rephrase
from synpro.rewards.config import RubricConfig
from synpro.rewards.rubric import Rubric
from synpro.rewards.scoring import Scoring
from tests.languages.texts import ENGLISH_INVENTION


def english(case: Case) -> str:
    return case.render(ENGLISH_INVENTION)


def word_salad(case: Case) -> str:
    return case.render(" ".join(sorted(set(case.source.split()), key=str.lower)[::2]) + ".")


def test_german_reference_answers_beat_an_english_invention_and_word_salad(record_property) -> None:
    rubric = Rubric.build(Rephrase(), Scoring(RubricConfig(), JudgesConfig()))
    try:
        found = audit(Rephrase(), rubric, reference_answers("de"), exploits={"english": english, "word salad": word_salad})
    finally:
        rubric.close()
    assert found.kinds[0].name == REFERENCE and not found.winners
    reference = found.kinds[0]  # the models that abstain know English
    assert [name for name, value in reference.raw.items() if value is None] == ["quality", "similarity"]
    record_property("measured", f"German audit: { {k.name: (round(k.total, 2), k.raw) for k in found.kinds} }")
