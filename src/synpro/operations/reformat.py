"""reformat: turn the passage into up to 8 entries (`Topic` / `Content`) of several kinds: facts, definitions, comparisons, ...

As in the paper, an answer is a list of entries; the words of the prompt and the worked example are ours. How many entries the
prompt asks for, and of what kinds, follows the worked example. The default asks for two facts: SmolLM2-135M-Instruct then ends
its turn in form for two passages in three; asked for three entries or for kinds that the passage may not have (comparisons,
definitions) it runs on and repeats headings, and one answer in three or fewer is in form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synpro.operations.base import Example, Unparsable, quote, worked
from synpro.records import Chat, Passage

MAX_ENTRIES = 8
TOPIC, CONTENT = "Topic:", "Content:"

COUNTS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight")

EXAMPLES = (
    Example(
        source=(
            "The Danube rises in the Black Forest of Germany and flows southeast for about 2,850 kilometres to the Black Sea. "
            "It passes through ten countries, more than any other river in the world. Vienna, Bratislava, Budapest and "
            "Belgrade are capitals on its banks."
        ),
        answer=(
            "Topic: Fact\nContent: The Danube flows about 2,850 kilometres from the Black Forest to the Black Sea.\n"
            "Topic: Another fact\nContent: Ten countries and four capitals lie along the river."
        ),
    ),
)

_HEADING = re.compile(rf"{TOPIC}|{CONTENT}")


class Reformat:
    """The passage as entries of a topic and what the passage says about it."""

    name = "reformat"

    def __init__(self, examples: Sequence[Example] = ()) -> None:
        self.examples = tuple(examples) or EXAMPLES
        self._count = COUNTS[max(len(entries(example.answer)) for example in self.examples)]
        self._shown = worked(self.examples, self._ask)

    def _ask(self, text: str) -> str:
        ask = f'Write {self._count} short notes about the passage, each with a line "{TOPIC}" and a line "{CONTENT}".'
        return f"{ask}\n\n{quote(text, (TOPIC, CONTENT))}"

    def prompt(self, passage: Passage) -> Chat:
        """Worked examples, then the passage: a shared prefix of the same tokens for every passage."""
        return (*self._shown, {"role": "user", "content": self._ask(passage.text)})

    def parse(self, answer: str) -> str:
        """The entries, a blank line between them. Raises Unparsable."""
        return "\n\n".join(f"{TOPIC} {topic}\n{CONTENT} {content}" for topic, content in entries(answer))

    def claims(self, text: str) -> list[str]:
        """The contents of the entries."""
        return [content for _, content in entries(text)]


def entries(answer: str) -> list[tuple[str, str]]:
    """The (topic, content) pairs of an answer, each on its line.

    Strict: raises Unparsable for any line that is neither, so that prose around the entries, a topic without a content and an
    entry cut off at the length limit (its topic alone) are not trained on. A content that was cut in its sentence still has the
    form; `Rewrite.finish` tells it.
    """
    found: list[tuple[str, str]] = []
    seen: set[str] = set()
    topic: str | None = None
    for number, raw in enumerate(answer.split("\n"), 1):
        line = raw.strip()
        if not line:
            continue
        heading = next((h for h in (TOPIC, CONTENT) if line.startswith(h)), None)
        if heading is None:
            raise Unparsable(f"line {number}: neither a topic nor a content: {line[:60]!r}")
        value = line.removeprefix(heading).strip()
        if _HEADING.search(value):
            raise Unparsable(f"line {number}: a heading stands inside a line: {line[:60]!r}")
        if heading == TOPIC:
            if topic is not None:
                raise Unparsable(f"line {number}: the topic {topic!r} has no content")
            if not any(c.isalnum() for c in value):
                raise Unparsable(f"line {number}: the topic is empty")
            topic = value
            continue
        if topic is None:
            raise Unparsable(f"line {number}: a content without a topic before it")
        if not any(c.isalnum() for c in value):
            raise Unparsable(f"line {number}: the topic {topic!r} has an empty content")
        same = value.rstrip(".").casefold()
        if same in seen:
            raise Unparsable(f"line {number}: the same content stands twice: {value[:60]!r}")
        seen.add(same)
        found.append((topic, value))
        topic = None
    if topic is not None:
        raise Unparsable(f"the last topic {topic!r} has no content")
    if not found:
        raise Unparsable("there are no entries")
    if len(found) > MAX_ENTRIES:
        raise Unparsable(f"{len(found)} entries; at most {MAX_ENTRIES} are allowed")
    return found
