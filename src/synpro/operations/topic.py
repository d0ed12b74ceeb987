"""topic: a short encyclopedic passage about a topic, generated without any source.

A control, not an operation of the method: the arm generator-text of a comparison trains on what the generator can say by
itself, about topics that are not in the corpus. What SynPro gains beyond it comes from the corpus. The passage only chooses the
topic; its text is never shown.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import ClassVar

from synpro.operations.base import OperationConfig, read_examples
from synpro.operations.prose import ProseOperation
from synpro.records import Chat, Passage


class Topic(ProseOperation):
    """A passage about a topic of `topics.txt`, under the heading `Passage:`."""

    name = "topic"
    headings = ("Passage:",)
    defaults = OperationConfig(name, weights={"format": 1.0}, steps=0, max_copied=1.0)
    default_examples = read_examples(__file__)
    topics_file: ClassVar[str] = "topics.txt"
    aspects: ClassVar[tuple[str, ...]] = (
        "what it is",
        "how it is made or comes about",
        "its history",
        "how it is used",
        "its kinds and parts",
    )

    def instruction(self, text: str) -> str:
        """What is asked about a topic; `text` is its name."""
        return (
            f"Write a short passage for an encyclopedia about {text}, of three to five sentences. "
            f'Answer with "{self.headings[0]}" and then the passage only.'
        )

    def parse(self, answer: str) -> str:
        """The text. The heading may be missing: there is no passage that an answer could repeat in its place, and SmolLM2-135M
        leaves it out of 85% of its answers (docs/LOG.md). Raises ParseError."""
        (heading,) = self.headings
        return super().parse(answer if heading in answer else f"{heading}\n{answer}")

    def prompt(self, passage: Passage) -> Chat:
        """The chat that asks for a passage about the topic that falls to this one."""
        turns = []
        for example in self.examples_for(""):
            turns.append({"role": "user", "content": self.instruction(f"{example.source}: {self.aspects[0]}")})
            turns.append({"role": "assistant", "content": example.answer})
        return (*turns, {"role": "user", "content": self.instruction(self.topic_of(passage.id))})

    def topic_of(self, key: str) -> str:
        """A topic and an aspect of it, always the same ones for the same key."""
        number = int(hashlib.sha256(key.encode()).hexdigest()[:12], 16)
        number, aspect = divmod(number, len(self.aspects))
        topics = lines_beside(self.topics_file)
        return f"{topics[number % len(topics)]}: {self.aspects[aspect]}"


@cache
def lines_beside(name: str) -> tuple[str, ...]:
    """The lines of a text file beside this one."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())
