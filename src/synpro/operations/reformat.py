"""reformat: turn the passage into up to 8 entries (`Topic` / `Content`): facts, definitions, comparisons, analyses, steps.

As in the paper, an answer is a list of entries; the words of the prompt and the worked examples are ours. How many entries are
asked for, and of which kinds, follows the passage's length. A short passage is asked for two facts: SmolLM2-135M-Instruct then
ends its turn in form for two passages in three. Asked for three entries, or for kinds that a short passage may not have, it
goes on and repeats headings, and one answer in three or fewer is in form. A passage of 7,000 characters is asked for up to
eight.
"""

from __future__ import annotations

from synpro.operations.base import Example, OperationConfig
from synpro.operations.entries import COUNTS, DANUBE, EntryOperation

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
    default_examples = (
        Example(
            source=DANUBE,
            answer=(
                "Topic: Fact\nContent: The Danube flows about 2,850 kilometres from the Black Forest to the Black Sea.\n"
                "Topic: Another fact\nContent: Ten countries and four capitals lie along the river."
            ),
        ),
    )

    long_examples = (
        Example(
            source=(
                "Yoghurt is made by warming milk to about 85 degrees, letting it cool to 43 degrees and adding a spoonful of "
                "older yoghurt. The bacteria in it, mainly Lactobacillus bulgaricus, turn lactose, the sugar of milk, into "
                "lactic acid. The acid makes the proteins of the milk stick together, so after six hours the milk is thick and "
                "sour. People who cannot digest lactose often bear yoghurt better than milk, as part of the sugar is gone. "
                "If the milk is too hot when the spoonful is added, the bacteria die and the milk stays liquid."
            ),
            answer=(
                "Topic: Fact: the bacteria\nContent: The bacterium that does most of the work in yoghurt is Lactobacillus "
                "bulgaricus.\n"
                "Topic: Definition: lactose\nContent: Lactose is the name of the sugar that milk contains.\n"
                "Topic: Analysis: why yoghurt thickens\nContent: Bacteria make lactic acid out of lactose, and this acid lets "
                "the milk's proteins cling to each other.\n"
                "Topic: Comparison: yoghurt and milk\nContent: Yoghurt holds less lactose than milk, which is why people who "
                "digest it badly prefer yoghurt.\n"
                "Topic: Problem: the milk stays liquid\nContent: First check the heat: above the right 43 degrees the added "
                "bacteria are killed, so let the milk cool before the spoonful goes in."
            ),
        ),
    )

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
