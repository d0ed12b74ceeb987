"""Copies and loops, told by rule."""

from __future__ import annotations

from synpro.judges.rules import looped, overlap, well_formed
from tests.rewards.honest import REPHRASED, SOURCES


def test_a_copy_and_a_part_of_it_are_told_from_a_rewrite() -> None:
    source = SOURCES["honey"]
    half = source[: len(source) // 2]
    assert overlap(source, source) == overlap(source.upper(), source)
    assert overlap(source, source).share == overlap(source, source).longest == 1.0
    assert overlap(half, source).share > 0.95
    assert overlap(half, source).longest < 0.6
    assert overlap(REPHRASED["honey"], source).share < 0.2
    assert overlap("", source).share == overlap(source, "").share == 0.0


def test_a_loop_repeats_itself() -> None:
    assert looped(SOURCES["honey"]) < 0.02
    assert looped("The bee flies home. " * 8) > 0.8


def test_form() -> None:
    assert well_formed(SOURCES["honey"]) == 1.0
    assert well_formed(", ".join(w for w in SOURCES["honey"].split() if len(w) > 4)) < 0.3
    assert well_formed("a b") == 0.0
