"""The shipped passages and attacks are what their files say, and every exploit does what its name says."""

from __future__ import annotations

import pytest

from benchmarks.attacks import attacks
from synpro.audit.exploits import EXPLOITS, Case
from synpro.audit.reference import NoReferenceAnswer, as_rewrite, reference_answers
from synpro.judges.text_stats import overlap, words
from synpro.operations.registry import OPERATIONS, build_operation, operation_config

SET = reference_answers()


def test_there_are_enough_passages_of_many_kinds() -> None:
    assert len(SET) >= 12 and len({s.id for s in SET}) == len(SET)
    assert len({s.kind for s in SET}) >= 12
    for s in SET:
        assert 50 <= len(words(s.source)) <= 80, s.id
        assert s.invented and s.invented not in s.source


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_reference_answer_has_the_form_and_is_no_copy(name: str) -> None:
    operation = build_operation(operation_config(name))
    for s in SET:
        rewrite = s.rewrite(operation)
        assert rewrite.text is not None, (s.id, rewrite.reason)
        assert 0.5 <= len(rewrite.text) / len(s.source) <= (1.25 if name == "rephrase" else 2.0), s.id
        assert name != "rephrase" or overlap(rewrite.text, s.source).in_order < 0.7, s.id


def test_an_operation_without_reference_answers_says_where_they_go() -> None:
    operation = build_operation(operation_config("rephrase"))
    operation.name, operation.reference_answers = "translate", dict
    with pytest.raises(NoReferenceAnswer, match=r"'translate' has no reference answer.*translate\.toml"):
        SET[0].answer(operation)


@pytest.mark.parametrize("name", OPERATIONS)
def test_exploits_differ_from_the_reference_answer_and_from_each_other(name: str) -> None:
    operation = build_operation(operation_config(name))
    for i, s in enumerate(SET):
        made = {kind: exploit(Case(operation, s, SET[i - 1])) for kind, exploit in EXPLOITS.items()}
        reported = [answer for answer in made.values() if answer is not None]
        assert len(set(reported)) == len(reported) and s.answer(operation) not in reported
        assert [k for k, a in made.items() if a is not None and as_rewrite(operation, s, a).text is None] == [
            "empty",
            "heading only",
            "prompt repeated",
        ]


def test_there_are_a_hundred_attacks_on_both() -> None:
    shipped = attacks()
    assert len(shipped) == 100 == len({a.id for a in shipped}) == len({a.text for a in shipped})
    assert len(attacks("generator")) == 66 and len(attacks("judge")) == 34
    for a in shipped:
        assert ("reward" in a.success) == (a.target == "judge"), a.id
        if "contains" in a.success:  # else quoting the attack would count as following it
            assert not any(w.casefold() in a.text.casefold() for w in a.sought), a.id
        assert not any(w.casefold() in s.source.casefold() for w in a.sought for s in SET) or a.target == "judge", a.id


def test_a_language_without_passages_has_the_english_ones() -> None:
    assert all(subject.id.startswith("de-") for subject in reference_answers("de"))
    assert reference_answers("fr") == reference_answers()
