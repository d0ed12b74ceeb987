"""Operations whose answer is a list of entries: two lines each, under two headings (`Topic:` / `Content:`)."""

from __future__ import annotations

import re
from typing import ClassVar

from synpro.operations.base import Operation, ParseError

COUNTS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight")
MAX_ENTRIES = 8
"""Most entries of an answer (paper)."""
CHARACTERS_PER_ENTRY = 875
"""Characters of a passage for which one more entry is asked: 8 of the paper's 7,000."""


class EntryOperation(Operation):
    """An operation that answers with entries. A subclass sets two headings and says in `instruction` what they hold."""

    headings: ClassVar[tuple[str, str]]
    has_entries = True

    def asked(self, text: str) -> int:
        """How many entries the prompt asks for: of a worked example as many as its answer has, of any other passage as many as
        the longest of its examples, and more of a long one."""
        for example in (*self.config.examples, *self.default_examples, *self.long_examples):
            if example.source == text:
                return len(self.entries(example.answer))
        longest = max(len(self.entries(example.answer)) for example in self.examples_for(text))
        return min(MAX_ENTRIES, max(longest, len(text) // CHARACTERS_PER_ENTRY))

    def parse(self, answer: str) -> str:
        """The entries, with a blank line between them. Raises ParseError."""
        return "\n\n".join(self._entry(first, second) for first, second in self.entries(answer))

    def entries(self, answer: str) -> list[tuple[str, str]]:
        """The pairs of an answer, each part on its line.

        Strict: raises ParseError for any line that begins with neither heading, so that prose around the entries, a first
        line without a second, and an entry truncated at the length limit are not trained on. A second line that was truncated
        within its sentence still has the form; `Rewrite.finish` tells.
        """
        first, second = self.headings
        found: list[tuple[str, str]] = []
        seen: set[str] = set()
        pending: str | None = None
        for number, raw in enumerate(answer.split("\n"), 1):
            line = raw.strip()
            if not line:
                continue
            heading = next((h for h in self.headings if line.startswith(h)), None)
            if heading is None:
                raise ParseError(f"line {number}: does not begin with {first!r} or {second!r}: {line[:60]!r}")
            value = line.removeprefix(heading).strip()
            if re.search(f"{re.escape(first)}|{re.escape(second)}", value):
                raise ParseError(f"line {number}: contains a second heading: {line[:60]!r}")
            if not any(c.isalnum() for c in value):
                raise ParseError(f"line {number}: nothing follows {heading!r}")
            if heading == first:
                if pending is not None:
                    raise ParseError(f"line {number}: {_shown(first, pending)} has no {second!r} line")
                pending = value
                continue
            if pending is None:
                raise ParseError(f"line {number}: a {second!r} line without a {first!r} line before it")
            key = value.rstrip(".").casefold()
            if key in seen:
                raise ParseError(f"line {number}: repeats an earlier entry: {line[:60]!r}")
            seen.add(key)
            found.append((pending, value))
            pending = None
        if pending is not None:
            raise ParseError(f"the last {_shown(first, pending)} has no {second!r} line")
        if not found:
            raise ParseError("there are no entries")
        if len(found) > MAX_ENTRIES:
            raise ParseError(f"{len(found)} entries; at most {MAX_ENTRIES} are allowed")
        return found

    def claims(self, text: str) -> list[str]:
        """Each entry whole: of a question, the answer "1698" alone says nothing that a passage could support."""
        return [f"{first} {second}" for first, second in self.entries(text)]

    def render(self, text: str, topic: str = "The passage") -> str:
        """An answer of one entry, its text on one line."""
        return self._entry(topic, " ".join(text.split()))

    def append(self, answer: str, text: str, topic: str = "A further fact") -> str:
        """An answer with one more entry at its end."""
        return f"{answer}\n\n{self.render(text, topic)}"

    def _entry(self, first: str, second: str) -> str:
        return f"{self.headings[0]} {first}\n{self.headings[1]} {second}"


def _shown(heading: str, value: str) -> str:
    return repr(f"{heading} {value[:60]}")
