"""news: a short news story about an event, generated without any source.

A control like `topic`, for a corpus of news: nearer to its manner, and without its content. What rephrasings gain beyond it is
content, and whatever of the corpus' manner this prompt does not have.
"""

from __future__ import annotations

from typing import ClassVar

from synpro.operations.base import OperationConfig, read_examples
from synpro.operations.topic import Topic


class News(Topic):
    """A news story about an event of `news.txt`, under the heading `Story:`."""

    name = "news"
    headings = ("Story:",)
    defaults = OperationConfig(name, weights={"format": 1.0}, steps=0, max_copied=1.0)
    default_examples = read_examples(__file__)
    topics_file = "news.txt"
    aspects: ClassVar[tuple[str, ...]] = (
        "what happened",
        "what officials say about it",
        "what people who are affected say",
        "what led to it",
        "what is to happen next",
    )

    def instruction(self, text: str) -> str:
        """What is asked about an event; `text` says which, and which side of it."""
        return (
            f"Write a short news story about {text}, as a newspaper would print it, of three to five sentences. Invent the "
            f'names and places. Answer with "{self.headings[0]}" and then the story only.'
        )
