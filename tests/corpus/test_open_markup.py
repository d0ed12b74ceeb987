"""Markup that is never closed, of which the parser's time would be the square."""

from __future__ import annotations

import pytest

from synpro.corpus.open_markup import without_open_markup
from synpro.corpus.wikitext import strip_markup

OPEN = [
    "{{a|",
    "{{{a|",
    "{{{{a}}|b}} ",
    "[[a|",
    "[[File:a|thumb|",
    "[mailto:a ",
    "[http://a {{b|]}} ",
    "<b>{{a|</b>}}",
    "<nowiki>",
    "{{a|[[b|}}]]",
]
OPEN += ["<é>", "<é ", "<b c={{a|></b>", "</b><a%d>", "<a%d>"]


def many(unit: str, count: int) -> str:
    return "".join(unit % i if "%" in unit else unit for i in range(count))


@pytest.mark.parametrize("unit", OPEN)
def test_many_open_marks_do_not_reach_the_parser_and_a_few_stay(unit: str) -> None:
    few = many(unit, 9)
    assert without_open_markup(few) == few
    left = without_open_markup(many(unit, 900))
    kept = left.count("{{{") + left.count("[mailto") + sum(left.count(name) for name in ("<a", "<é", "<nowiki", "[[File"))
    assert kept == 0
    assert without_open_markup(left) == left  # what is left is paired
    assert left.count("{{") <= left.count("}}") and left.count("[[") <= left.count("]]")


@pytest.mark.parametrize(("start", "end"), [("{{a|", "}}"), ("[[a|", "]]"), ("{{a|[[b|<i>", "</i>]]}}"), ("{", "}")])
def test_marks_are_nested_no_deeper_than_the_parser_goes(start: str, end: str) -> None:
    shallow = start * 9 + end * 9
    assert without_open_markup(shallow) == shallow
    assert strip_markup(f"{start * 900}{end * 900}\n\nThe end.").endswith("The end.")
    assert without_open_markup(start * 900 + end * 900).count(start) <= 30


def test_comparisons_stay_as_they_are_written() -> None:
    text = "The mean was 3 (p <0.05 and n >20). " * 40
    assert strip_markup(text) == text.strip()
    assert strip_markup(f"<math>a<5</math> {'[[b| ' * 30}").startswith("a<5")


def test_gaps_in_gaps_are_closed_a_few_levels_deep() -> None:
    assert strip_markup("A ( (; (or) ) ) b.") == "A b."
    assert strip_markup(f"A {'(' * 300}{')' * 300} b.").count("(") > 250  # each level is a pass over the whole text


def test_a_link_of_white_space_is_looked_at_once() -> None:
    assert strip_markup(f"A [[{' ' * 100_000}|b]] c.") == "A b c."
