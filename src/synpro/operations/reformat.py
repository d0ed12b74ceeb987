"""reformat: turn the passage into up to 8 entries (`Topic` / `Content`) of several kinds: facts, definitions, comparisons, ...

As in the paper, an answer is a list of entries; the words of the prompt and the worked example are ours (see rephrase.py for
why there is one).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synpro.operations.base import Example, Unparsable, quote
from synpro.records import Chat, Passage

MAX_ENTRIES = 8
TOPIC, CONTENT = "Topic:", "Content:"

INSTRUCTION = (
    "Turn the passage into a few study notes: facts, definitions, reasons or comparisons that it states. "
    f'Write each note as a line "{TOPIC}" and a line "{CONTENT}". Add nothing that is not in the passage.'
)

EXAMPLES = (
    Example(
        source=(
            "The Danube rises in the Black Forest of Germany and flows southeast for about 2,850 kilometres before it empties into "
            "the Black Sea. It passes through ten countries, more than any other river in the world. Four national capitals, "
            "Vienna, Bratislava, Budapest and Belgrade, stand on its banks. For several centuries it marked a frontier of the "
            "Roman Empire."
        ),
        answer=(
            "Topic: Course of the Danube\n"
            "Content: The Danube starts in Germany's Black Forest and runs about 2,850 kilometres southeast to the Black Sea.\n\n"
            "Topic: Compared with other rivers\n"
            "Content: The Danube crosses ten countries, and no other river in the world crosses as many.\n\n"
            "Topic: Role in history\n"
            "Content: The Danube was a border of the Roman Empire for several centuries."
        ),
    ),
)

_ENTRY = re.compile(rf"{TOPIC}[ \t]*(?P<topic>[^\n]*)\n+{CONTENT}[ \t]*(?P<content>[^\n]*(?:\n(?!\s*\n)[^\n]+)*)")


class Reformat:
    """The passage as entries of a topic and what the passage says about it."""

    name = "reformat"

    def __init__(self, examples: Sequence[Example] = ()) -> None:
        self.examples = tuple(examples) or EXAMPLES
        shown: list[dict[str, str]] = []
        for example in self.examples:
            shown += [
                {"role": "user", "content": self._ask(example.source)},
                {"role": "assistant", "content": example.answer},
            ]
        self._shown = tuple(shown)

    def _ask(self, text: str) -> str:
        return f"{INSTRUCTION}\n{quote(text, (TOPIC, CONTENT))}"

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
    """The (topic, content) pairs of an answer. Strict: a line that is neither makes the whole answer unparsable."""
    found: list[tuple[str, str]] = []
    topic: str | None = None
    for number, line in enumerate(answer.split("\n"), 1):
        line = line.strip()
        if not line:
            continue
        if line.startswith(TOPIC):
            if topic is not None:
                raise Unparsable(f"line {number}: the topic {topic!r} has no content")
            topic = line.removeprefix(TOPIC).strip()
            if not topic:
                raise Unparsable(f"line {number}: the topic is empty")
        elif line.startswith(CONTENT):
            content = line.removeprefix(CONTENT).strip()
            if topic is None:
                raise Unparsable(f"line {number}: a content without a topic before it")
            if not content:
                raise Unparsable(f"line {number}: the topic {topic!r} has an empty content")
            if content in (c for _, c in found):
                raise Unparsable(f"line {number}: the same content stands twice: {content[:60]!r}")
            found.append((topic, content))
            topic = None
        else:
            raise Unparsable(f"line {number}: neither a topic nor a content: {line[:60]!r}")
    if topic is not None:
        raise Unparsable(f"the last topic {topic!r} has no content")
    if not found:
        raise Unparsable("there are no entries")
    if len(found) > MAX_ENTRIES:
        raise Unparsable(f"{len(found)} entries; at most {MAX_ENTRIES} are allowed")
    return found
