"""Layout by rule: what it counts, what does not fool it, and the labelled pairs of the benchmark."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.layout_agreement import KEPT_THRESHOLD, agreement, corpus_pairs, mistakes, table, verdicts
from benchmarks.layout_pairs import layout_pairs
from synpro.judges.base import JudgesConfig, LayoutModelConfig
from synpro.judges.layout_rules import RuleLayout, count_layout
from synpro.judges.registry import JudgePool
from synpro.measure.agreement import spearman

TEXTS = {
    "paragraphs=1": "In 1990 the mine was closed for good: nobody\n- not even the owner - saw it coming.\n1990. That was all.",
    "paragraphs=2": "One line that goes on.\nAnd on.\n\nAnother.",
    "paragraphs=3": "A. " * 40 + "\n" + "B. " * 40 + "\n" + "C. " * 40,
    "paragraphs=1 lists=3": "You need:\n- bread\n- two litres of\n  water\n\n- salt",
    "paragraphs=1 lists=2": "They are:\n\n1) the first thing\n\n   with more to say of it\n\n2) the second",
    "tables=3": "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    "tables=2": "tin\t232\nlead\t327",
    "paragraphs=1 tables=3": "Metals:\n\nname    melts at\ntin     232\nlead    327",
    "code=3 paragraphs=1": "Run it:\n```sh\n# copy\nset -e\n\nrsync a b\n```",
    "code=2": "x = f(1);\nprint(x);",
    "paragraphs=1 code=2": "As in\n\n    a = 1\n    b = 2",
    "headings=2 paragraphs=2": "# One\nText of one.\n\nOther systems\n\nText of the other, which is longer.",
    "headings=3 paragraphs=1": "== Wiki ==\n**Bold**\nUnder\n=====\nText.",
    "json=3": '{"a": 1,\n "b": [2, 3]}',
    "json=1": '```json\n{"a": 1}\n```',
    "paragraphs=1 dialogue=2": "At the door.\n\nAnna: Who is it?\n**Bo:** Me.",
    "dialogue=2": "– Who is it?\n– Me.",
    "dialogue=3": '"Who is it?" she asked.\n\n"Me," he said.\n\n"Come in."',
    "": " \n\n",
}


@pytest.mark.parametrize("part", ["a\n", "[1]\n{a\n", "[\n", "A b\n\n\n", "say;\n", "    say\n", "x\n" * 9 + "Ann: yes\n"])
def test_long_texts_take_no_time_and_break_nothing(part: str) -> None:
    """A hundred times as long by the square would be minutes."""
    began = time.process_time()
    count_layout("x" * 30 + "\n" + part * (200_000 // len(part)))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("expected", TEXTS)
def test_what_is_counted(expected: str) -> None:
    counts = {kind: n for kind, n in asdict(count_layout(TEXTS[expected])).items() if n}
    assert counts == {k: int(v) for k, v in (part.split("=") for part in expected.split())}


@pytest.mark.parametrize(
    "text",
    [
        "Note: this is one paragraph, and a label at its start makes no dialogue.",
        'The word "tide," he wrote, is older than the word "time" by far.',
        "[1] Smith, On Tides, 1901, is the book that all of the later ones copy from.",
        "They are told apart by: the beak;\nthe colour of the wing;\nthe voice;",
        "    A first line may be set in, as printers\nlike to do, and nobody takes it for code.",
        "He gave up. 12. That was his age when it\n12. began, and it is no list.",
    ],
)
def test_prose_that_looks_like_something_else_is_prose(text: str) -> None:
    assert {kind for kind, n in asdict(count_layout(text)).items() if n} == {"paragraphs"}


@pytest.mark.parametrize("depth", [100, 500, 900, 960, 990, 2000])
def test_brackets_nested_however_deep_are_counted(depth: int) -> None:
    nested = "[" * depth + "1, 2" + "]" * depth
    for text in (f"Text.\n\n```\n{nested}\n```\n", f"Text.\n\n[3,\n{nested}]\n"):
        counts = count_layout(text)
        assert counts.json in (0, 2, 3) and counts.paragraphs
    assert count_layout(f"```\n{'[' * 500}{']' * 500}\n```").code == 0


def test_agreement_is_that_of_the_kind_kept_worst() -> None:
    judge = RuleLayout()

    def agreement_of(source: str, output: str) -> float:
        return judge.compare([(source, output)])[0]

    source = "Intro.\n\n- a b\n- c d\n- e f\n- g h"
    assert agreement_of(source, "Beginning.\n\n* i j\n* k l\n* m n\n* o p") == 1.0
    assert agreement_of(source, "Beginning.\n\n* i j\n* k l\n* m n") == 0.75
    assert agreement_of(source, "Beginning, and all of it in prose.") == 0.0
    assert judge.compare([(source, source), (source, "")]) == [1.0, 0.0]
    assert agreement_of("One.\n\nTwo.", "One and two.") == 0.5
    assert agreement_of("", "") == 1.0


def test_the_pairs_are_half_kept_in_each_kind() -> None:
    shipped = [*layout_pairs()]
    assert len(shipped) == len({(p.source, p.output) for p in shipped}) == len({p.id for p in shipped}) == 200
    kinds = Counter(p.kind for p in shipped)
    assert len(kinds) == 8 and min(kinds.values()) >= 16
    assert all(sum(p.kept for p in shipped if p.kind == kind) == n // 2 for kind, n in kinds.items())


def test_the_rules_agree_with_the_labels() -> None:
    pairs = [*layout_pairs()]
    given = verdicts(RuleLayout(), pairs, KEPT_THRESHOLD)
    found = agreement(given, [p.kept for p in pairs])
    assert found.accuracy >= 0.98 and found.kappa >= 0.96, mistakes(given, pairs)


class SameLines:
    """A poor judge of layout: as many lines or not."""

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(len(source.splitlines()) == len(output.splitlines())) for source, output in pairs]

    def close(self) -> None: ...


def test_the_pairs_tell_a_poor_judge_from_a_good_one() -> None:
    pairs = [*layout_pairs()]
    found = {"good": verdicts(RuleLayout(), pairs, KEPT_THRESHOLD), "poor": verdicts(SameLines(), pairs, 0.5)}
    poor = agreement(found["poor"], [p.kept for p in pairs])
    assert 0.3 < poor.kappa < 0.8
    lines = table(found, pairs)
    assert lines[-1].startswith("| all | 200 | 1.000 | 1.00 |") and f"{poor.accuracy:.3f} | {poor.kappa:.2f}" in lines[-1]
    assert len(mistakes(found["poor"], pairs)) == round(200 * (1 - poor.accuracy))


def test_a_language_model_by_reference_is_compared_the_same_way(qwen: Path) -> None:
    pairs = [*layout_pairs()][::25]
    judges = JudgePool(JudgesConfig(layout="llm", layout_model=LayoutModelConfig(str(qwen))))
    try:
        values = judges.layout.compare([(p.source, p.output) for p in pairs])
        given = verdicts(judges.layout, pairs, sorted(values)[4])
    finally:
        judges.close()
    assert len(set(values)) > 1 and all(0 < v < 1 for v in values)
    assert sum(given) == 4  # of 8, by a threshold at their median
    assert "model: right" in table({"model": given}, pairs)[0]


def test_the_command_prints_the_table() -> None:
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-m", "benchmarks.layout_agreement"]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert "| all | 200 |" in done.stdout and "labels: 100" in done.stdout


def test_pairs_can_be_made_of_a_corpus(tmp_path: Path) -> None:
    from synpro.corpus.store import PASSAGES, write_rows

    texts = ["One block alone.", "Religion\n\n" + "A sentence of some words about it. " * 5 + "\n\nA last block.\n\n"]
    rows = [{"id": f"p{i}", "document": "d", "index": i, "start": 0, "end": len(t), "text": t} for i, t in enumerate(texts)]
    write_rows(tmp_path / "passages.parquet", PASSAGES, rows)
    found = corpus_pairs(tmp_path / "passages.parquet")
    assert [(p.id, p.kept) for p in found] == [("p1", True), ("p1", False)]
    assert max(map(len, found[0].output.splitlines())) <= 72 < max(map(len, found[0].source.splitlines()))
    assert verdicts(RuleLayout(), found, KEPT_THRESHOLD) == [True, False]


def test_agreement_on_known_numbers() -> None:
    # Cohen's own kind of table: 20 both yes, 5 and 10 mixed, 15 both no.
    one = [True] * 25 + [False] * 25
    other = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    found = agreement(one, other)
    assert (found.items, found.accuracy, round(found.kappa, 6)) == (50, 0.7, 0.4)
    assert agreement([True, True], [True, True]).kappa == 0.0
    with pytest.raises(ValueError, match="no verdicts"):
        agreement([], [])


def test_rank_correlation_on_known_numbers() -> None:
    assert spearman([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0]) == pytest.approx(0.8)
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, -9.0]) == pytest.approx(-1.0)
    assert spearman([1.0, 1.0], [1.0, 2.0]) is None
