"""Passages of the published length, 7,000 characters, through both operations: prompts, filters, rewards' gates."""

from dataclasses import replace

import pytest

from synpro.operations.base import Operation, OperationConfig
from synpro.operations.questions import Questions
from synpro.operations.reformat import Reformat
from synpro.operations.rephrase import Rephrase
from synpro.records import Passage, Rewrite
from synpro.rewards.config import RubricConfig
from synpro.rewards.filters import FilterConfig, Sample, rule_failure
from tests.synthesis.scripted import text

LONG = " ".join(text(("source", i)) for i in range(50))[:7000]
SHORT = LONG[:350]


def passage(source: str) -> Passage:
    return Passage("d#0000", "d", 0, 0, len(source), source)


def entries(operation: Operation, count: int, words: int) -> str:
    """An answer in form: entries of so many words, each a shortened sentence of its own."""
    first, second = operation.headings
    said = [" ".join((text(("entry", i)) + " " + text(("more", i))).split()[:words]) for i in range(count)]
    return "\n".join(f"{first} Fact {i}?\n{second} {s}." for i, s in enumerate(said))


def failure(operation: Operation, source: str, answer: str) -> str | None:
    rewrite = Rewrite(passage(source), operation.name, answer, operation.parse(answer), None, 300, "stop")
    found = rule_failure(Sample(rewrite, operation.config), FilterConfig(same_language=False, max_repetition=1.0))
    return found and found[0]


@pytest.mark.parametrize("kind", [Reformat, Questions])
def test_more_is_asked_of_a_long_passage(kind: type[Operation]) -> None:
    operation = kind()
    (*turns, short), (*long_turns, long) = operation.prompt(passage(SHORT)), operation.prompt(passage(LONG))
    assert "two" in short["content"].split('"""')[0] and "eight" in long["content"].split('"""')[0]
    assert [c for c in (350, 1400, 3500, 7000) if "eight" in operation.instruction(LONG[:c])] == [7000]
    assert len(long_turns) >= len(turns) == 2


def test_reformat_names_the_kinds_of_the_paper_and_shows_them() -> None:
    *turns, asked = Reformat().prompt(passage(LONG))
    for word in ("facts", "definitions", "analyses", "comparisons", "steps"):
        assert word in asked["content"]
    for word in ("Fact", "Definition", "Analysis", "Comparison", "Problem"):
        assert f"Topic: {word}" in turns[1]["content"]
    assert "Write up to five notes" in turns[0]["content"], "the example is asked for what its answer has"
    assert sum(len(t["content"]) for t in turns) < 2000, (
        "7,000 characters and 2,048 new tokens have to fit 4,096 tokens beside it"
    )
    assert Reformat().prompt_hash(passage(LONG)) != Reformat().prompt_hash(passage(SHORT))
    assert Reformat().prompt_hash(passage(LONG)) == Reformat().prompt_hash(passage(LONG[::-1]))


@pytest.mark.parametrize("kind", [Reformat, Questions])
def test_eight_entries_about_a_long_passage_are_long_enough(kind: type[Operation]) -> None:
    operation = kind()
    assert failure(operation, LONG, entries(operation, 8, 20)) is None
    assert failure(operation, LONG, entries(operation, 2, 6)) == "too short"
    assert failure(operation, SHORT, entries(operation, 2, 14)) is None
    assert failure(operation, SHORT, entries(operation, 1, 6)) == "too short"


def test_a_rephrasing_of_a_long_passage_has_to_say_as_much() -> None:
    operation = Rephrase()
    say = lambda count: f"Rephrased:\n{' '.join(text(('said', i)) for i in range(count))}"  # noqa: E731
    assert failure(operation, LONG, say(45)) is None
    assert failure(operation, LONG, say(5)) == "too short"
    assert failure(operation, LONG, say(120)) == "too long"
    assert "Keep its paragraphs" in operation.instruction(LONG) and "paragraphs" not in operation.instruction(SHORT)


def test_limits_can_be_set_for_each_operation() -> None:
    cfg = OperationConfig("reformat", weights={"format": 1.0}, min_length=0.2, max_length=1.0, enough_words=50)
    assert cfg.length_limits(1000) == (50, 1000) and cfg.length_limits(100) == (20, 100)
    assert replace(cfg, enough_words=None).length_limits(1000) == (200, 1000)


def test_the_verifier_is_asked_about_a_few_claims_of_a_long_text() -> None:
    from synpro.judges.base import Verdict
    from synpro.rewards.faithfulness import Faithfulness

    asked: list[str] = []

    class Verifier:
        def knows(self, passage: str) -> bool:
            return True

        def check(self, claims: list[str], passages: list[str]) -> list[Verdict]:
            asked.extend(claims)
            return [Verdict("faithful", 0.9) for _ in claims]

        def close(self) -> None: ...

    said = " ".join(text(("said", i)) for i in range(20))
    rewrite = Rewrite(passage(LONG), "rephrase", said, said, None, 300, "stop")
    reward = Faithfulness(Rephrase(), Verifier(), RubricConfig().faithfulness)
    assert reward.score([rewrite]) == [1.0] and len(asked) == 8
    again = asked.copy()
    asked.clear()
    reward.score([rewrite])
    assert asked == again, "the same claims each time"
    everything = Faithfulness(Rephrase(), Verifier(), replace(RubricConfig().faithfulness, max_claims=None))
    asked.clear()
    everything.score([rewrite])
    assert len(asked) == 60
