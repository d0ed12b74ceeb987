"""Operations whose answer is prose under one heading (`Rephrased:`)."""

from __future__ import annotations

from typing import ClassVar

from synpro.operations.base import DELIMITER, Operation, ParseError


class ProseOperation(Operation):
    """An operation that answers with a text. A subclass sets one heading and says in `instruction` what the text is to be."""

    headings: ClassVar[tuple[str]]

    def parse(self, answer: str) -> str:
        """The text under the heading, which must begin the answer and occur once.

        Raises ParseError. An answer truncated at the length limit still parses: whether it is used is decided by the caller,
        who knows why generation ended (`Rewrite.finish`).
        """
        (heading,) = self.headings
        found = answer.count(heading)
        if found == 0:
            raise ParseError(f"the heading {heading!r} is missing")
        if found > 1:
            raise ParseError(f"the heading {heading!r} occurs {found} times; it must occur once")
        before, text = (part.strip() for part in answer.split(heading))
        if before:
            raise ParseError(f"there is text before the heading {heading!r}: {before[:60]!r}")
        if not text:
            raise ParseError(f"nothing follows the heading {heading!r}")
        if DELIMITER in text:
            raise ParseError(f"the text contains the delimiter {DELIMITER} of a passage")
        if not any(c.isalnum() for c in text):
            raise ParseError(f"no words follow the heading {heading!r}")
        return text

    def render(self, text: str, topic: str = "The passage") -> str:
        """The heading, and the text under it."""
        return f"{self.headings[0]}\n{text}"

    def append(self, answer: str, text: str, topic: str = "A further fact") -> str:
        """An answer with one more sentence at its end, on a new line where lines are the layout."""
        body = answer.removeprefix(self.headings[0]).strip()
        return f"{answer}{chr(10) if chr(10) in body else ' '}{text}"
