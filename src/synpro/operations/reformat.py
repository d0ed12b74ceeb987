"""reformat: turn the passage into up to 8 entries (`Topic` / `Content`): facts, definitions, comparisons, analyses, steps.

As in the paper, an answer is a list of entries; the words of the prompt and the worked examples are ours. How many entries are
asked for, and of which kinds, follows the passage's length. A short passage is asked for two facts: SmolLM2-135M-Instruct then
ends its turn in form for two passages in three. Asked for three entries, or for kinds that a short passage may not have, it
goes on and repeats headings, and one answer in three or fewer is in form. A passage of 7,000 characters is asked for up to
eight.
"""

from __future__ import annotations

from synpro.operations.base import OperationConfig, read_examples
from synpro.operations.entries import COUNTS, EntryOperation

FEW = 3
"""Most entries that are asked for without naming kinds."""


class Reformat(EntryOperation):
    """The passage as entries of a topic and what the passage says about it."""

    name = "reformat"
    headings = ("Topic:", "Content:")
    defaults = OperationConfig(
        name,
        weights={"influence": 3.0, "quality": 1.0, "faithfulness": 1.0, "format": 1.0},
        steps=240,
        max_copied=0.95,  # a fact can often be said in the passage's own words only
        enough_words=80,
        min_recall=0.45,
        min_precision=0.65,
    )
    default_examples = read_examples(__file__)
    long_examples = read_examples(__file__, "long_examples")

    def instruction(self, text: str) -> str:
        topic, content = self.headings
        lines = f'each with a line "{topic}" and a line "{content}"'
        number = self.asked(text)
        if number <= FEW:
            return f"Write {COUNTS[number]} short notes about the passage, {lines}."
        return (
            f"Write up to {COUNTS[number]} notes about the passage, {lines}: facts, definitions, analyses, comparisons, or a "
            "problem and the steps that solve it. Use only what the passage says, and name the kind in the topic."
        )

    def claims(self, text: str) -> list[str]:
        """The contents of the entries."""
        return [content for _, content in self.entries(text)]
