"""Copies, repetition and form by rule."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from synpro.judges import text_stats
from synpro.judges.text_stats import copied_share, lcs_length, max_block_lcs, overlap, repetition_ratio, well_formed
from tests.rewards.reference import REPHRASED, SOURCES


def test_a_copy_and_a_part_of_it_differ_from_a_rewrite() -> None:
    source = SOURCES["honey"]
    half = source[: len(source) // 2]
    assert overlap(source, source) == overlap(source.upper(), source)
    assert overlap(source, source).share == overlap(source, source).longest == 1.0
    assert overlap(half, source).share > 0.95
    assert overlap(half, source).longest < 0.6
    assert overlap(REPHRASED["honey"], source).share < 0.2
    assert overlap("", source).share == overlap(source, "").share == 0.0


def test_filler_between_the_words_of_a_copy_hides_nothing() -> None:
    source = SOURCES["honey"]
    filled = " ".join(w + " indeed" * (i % 5 == 4) for i, w in enumerate(source.split()))
    assert copied_share(filled, source) == 1.0 > overlap(filled, source).share == 0.0
    dropped = " ".join(f"{w} indeed" for i, w in enumerate(source.split()) if i % 12)
    assert copied_share(dropped, source) > 0.9, "a filler after every word, one word in twelve left out"
    assert copied_share("The bee is old.", "The honey of the bee is sweet and old.") == 0.0, "few words are often in order"


def test_a_long_answer_that_says_all_of_a_short_passage_is_no_copy() -> None:
    passage = (
        "The river rises in the hills and runs to the sea past two towns on it and both of these have old mills that still "
        "stand there."
    )
    answer = (
        "Fact: the source\nThe river starts from a spring, and it rises in the hills. It runs down to the sea.\n\n"
        "Fact: towns\nOn the way it goes past two towns which lie on it, and both of these have old mills. Visitors know "
        "that they still stand there today, side by side with newer houses."
    )
    assert overlap(answer, passage).in_order > 0.9 and copied_share(answer, passage) < 0.3


def test_a_loop_repeats_itself() -> None:
    assert repetition_ratio(SOURCES["honey"]) < 0.02
    assert repetition_ratio("The bee flies home. " * 8) > 0.8


def test_form() -> None:
    assert well_formed(SOURCES["honey"]) == 1.0
    assert well_formed(", ".join(w for w in SOURCES["honey"].split() if len(w) > 4)) < 0.3
    assert well_formed("a b") == 0.0


def test_longest_common_subsequence_by_hand_and_by_the_textbook_table() -> None:
    assert lcs_length(["a", "b", "c", "d"], ["b", "x", "d", "a"]) == 2
    assert lcs_length([], ["a"]) == lcs_length(["a"], []) == 0
    rng = Random(0)
    for _ in range(50):
        ours, theirs = (rng.choices("abcd", k=rng.randint(1, 80)) for _ in range(2))  # more words than a machine word has bits
        row = [0] * (len(theirs) + 1)
        for a in ours:
            diagonal = 0
            for j, b in enumerate(theirs):
                diagonal, row[j + 1] = row[j + 1], diagonal + 1 if a == b else max(row[j + 1], row[j])
        assert lcs_length(ours, theirs) == row[-1]


def test_the_block_that_copies_most_counts() -> None:
    assert max_block_lcs("one two\n\nfive four three", "one two three four") == 0.5
    assert max_block_lcs("anything", "") == 0.0


def test_blocks_that_cannot_have_more_in_common_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    def count(ours: Sequence[str], theirs: Sequence[str]) -> int:
        compared.append(len(ours))
        return lcs_length(ours, theirs)

    monkeypatch.setattr(text_stats, "lcs_length", count)
    assert max_block_lcs("mill\n\n" * 900 + "other\n\n" * 900 + "the mill", "the mill stood") == 2 / 3
    assert compared == [1, 2]
