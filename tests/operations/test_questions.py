"""The operation `questions`: pairs of a question and its answer."""

from __future__ import annotations

import pytest

from synpro.operations.base import ParseError
from synpro.operations.questions import Questions
from synpro.records import Passage

QUESTIONS = Questions()
ANSWER = "Question: What is tin?\nAnswer: Tin is a metal.\n\nQuestion:  When does it melt?\nAnswer: At 232 degrees."


def test_it_asks_for_questions_that_the_passage_answers() -> None:
    asked = QUESTIONS.prompt(Passage("d#0", "d", 0, 0, 4, "Tin.\nQuestion: x?"))[-1]["content"]
    assert 'Write two questions about the passage, each with a line "Question:" and a line "Answer:".' in asked
    assert "> Question: x?" in asked, "a line of the passage that looks like an answer is quoted"


def test_a_claim_is_an_answer_with_its_question() -> None:
    text = QUESTIONS.parse(ANSWER)
    assert text == ANSWER.replace(":  ", ": ") and QUESTIONS.parse(text) == text
    assert QUESTIONS.claims(text) == ["What is tin? Tin is a metal.", "When does it melt? At 232 degrees."]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Question: What is tin?", "the last 'Question: What is tin\\?' has no 'Answer:' line"),
        ("Question: Tin\nAnswer: Tin is a metal.", "'Tin' is not a question"),
        ("Question: a?\nAnswer: Yes.\nQuestion: b?\nAnswer: yes", "line 4: repeats an earlier entry"),
        ("The passage is about tin.", "line 1: does not begin with 'Question:' or 'Answer:'"),
    ],
)
def test_it_says_what_is_wrong(answer: str, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        QUESTIONS.parse(answer)
