"""questions: turn the passage into questions and answers, so that what it says is recalled as well as read.

In the spirit of FAQ rewriting, one of the forms that gain most in a comparison of rewriting prompts (arXiv 2604.13977). It is
not part of the SynPro paper; words, example and settings are ours. An answer is a list of `Question:` / `Answer:` pairs.
"""

from __future__ import annotations

from synpro.operations.base import OperationConfig, ParseError, read_examples
from synpro.operations.entries import COUNTS, EntryOperation


class Questions(EntryOperation):
    """The passage as questions that it answers, each with its answer."""

    name = "questions"
    headings = ("Question:", "Answer:")
    defaults = OperationConfig(
        name,
        weights={"influence": 3.0, "quality": 1.0, "faithfulness": 1.0, "format": 1.0},
        steps=240,
        max_copied=0.95,  # as reformat: an answer often has to use the passage's own words
        enough_words=80,
        min_recall=0.45,
        min_precision=0.55,
    )
    default_examples = read_examples(__file__)

    def instruction(self, text: str) -> str:
        question, answer = self.headings
        number = COUNTS[self.asked(text)]
        return f'Write {number} questions about the passage, each with a line "{question}" and a line "{answer}".'

    def entries(self, answer: str) -> list[tuple[str, str]]:
        """The (question, answer) pairs. Also raises ParseError for what is not a question."""
        found = super().entries(answer)
        for question, _ in found:
            if not question.endswith("?"):
                raise ParseError(f"{question[:60]!r} is not a question; it does not end in a question mark")
        return found

    def render(self, text: str, topic: str = "What does the passage say") -> str:
        return super().render(text, f"{topic.rstrip('?')}?")
