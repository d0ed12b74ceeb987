"""Evidence by example: errors of a claim are counted, other wording is not."""

from __future__ import annotations

import pytest

from synpro.faithfulness import evidence
from synpro.faithfulness.parsed_text import ParsedText, stem

SOURCE = (
    "In 1698 Henry Winstanley lit the first tower of the Eddystone Lighthouse, about 14 kilometres south of Plymouth. It did "
    "not last, because the great storm of November 1703 destroyed it. Most sailors praised the tower, and at least 30 ships "
    "used it."
)
PASSAGE = ParsedText(SOURCE)


def of(claim: str) -> tuple[ParsedText, ParsedText]:
    return ParsedText(claim), PASSAGE


@pytest.mark.parametrize(
    ("count", "right", "wrong"),
    [
        ("unknown_numbers", "Fourteen kilometres... 14 km south, in 1698.", "The tower was lit in 1689."),
        ("wrong_months", "It fell in November.", "It fell in October."),
        ("wrong_units", "It stands 14 kilometres off.", "It stands 14 miles off."),
        ("unknown_names", "It was lit by Winstanley of Plymouth.", "It was lit by Smeaton of Plymouth."),
        ("unknown_starts", "Winstanley lit it.", "Gutenberg lit it."),
        ("denials", "The tower did not last.", "The tower did last."),
        ("denials", "Sailors praised it.", "Sailors never praised it."),
        ("new_quantifiers", "Most sailors praised it.", "All sailors praised it."),
        ("swapped_quantifiers", "Most sailors praised it.", "Few sailors praised it."),
        ("swapped_quantifiers", "At least 30 ships used it.", "At most 30 ships used it."),
        ("hedges", "The storm destroyed it.", "The storm may have destroyed it."),
        ("opposites", "The first tower stood south of Plymouth.", "The last tower stood north of Plymouth."),
        ("swapped_order", "Winstanley lit the tower.", "The tower lit Winstanley."),
        ("swapped_causes", "It fell because a great storm came.", "A great storm came because it fell and did not last."),
        ("word_list", "The tower stood by the sea.", "Tower, lighthouse, storm, Plymouth, sailors, ships."),
    ],
)
def test_a_mistake_counts_and_other_words_do_not(count: str, right: str, wrong: str) -> None:
    def counted(claim: str) -> float:
        text = ParsedText(claim)
        return evidence.word_list(text) if count == "word_list" else getattr(evidence, count)(text, PASSAGE)

    assert counted(right) == 0
    assert counted(wrong) > 0


def test_a_change_of_voice_is_no_change_of_roles() -> None:
    assert evidence.swapped_order(*of("The first tower was lit by Henry Winstanley.")) == 0


def test_words_that_stand_elsewhere_are_displaced() -> None:
    assert evidence.displaced(*of("The lighthouse is 14 kilometres south of Plymouth.")) == (0, 0)
    elsewhere, _ = evidence.displaced(*of("In 1703 Winstanley praised ships."))
    assert elsewhere > 0.5


def test_numbers_are_one_value_however_they_are_written() -> None:
    assert ParsedText("1,450 men, 18.50 pounds, the 3rd, two").numbers == {"1450", "18.5", "3", "2"}
    assert stem("destroyed") == stem("destroys") == stem("destroying")


def test_names_of_a_country_and_of_its_people_are_one() -> None:
    assert evidence.unknown_names(ParsedText("The British fleet came."), ParsedText("The fleet of Britain came.")) == 0
    assert (
        evidence.unknown_names(ParsedText("It was declared by the WHO."), ParsedText("The World Health Organization said so."))
        == 0
    )


def test_the_best_sentence_and_its_place() -> None:
    found = evidence.best_sentence("A storm destroyed it in 1703.", SOURCE)
    assert found is not None and found.text == SOURCE[found.start : found.end]
    assert found.text.startswith("It did not last")
    assert evidence.best_sentence("Anything.", "  ") is None
