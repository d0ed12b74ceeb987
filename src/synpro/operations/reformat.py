"""reformat: turn the passage into up to 8 entries (`Topic` / `Content`) of several kinds: facts, definitions, comparisons, ...

As in the paper, an answer is a list of entries; the words of the prompt and the worked example are ours. The number of entries
that the prompt asks for, and their kinds, follow the worked example. The default asks for two facts: SmolLM2-135M-Instruct then
ends its turn in form for two passages in three. Asked for three entries, or for kinds that the passage may not have
(comparisons, definitions), it goes on and repeats headings, and one answer in three or fewer is in form.
"""

from __future__ import annotations

from synpro.operations.base import Example, OperationConfig
from synpro.operations.entries import EntryOperation


class Reformat(EntryOperation):
    """The passage as entries of a topic and what the passage says about it."""

    name = "reformat"
    headings = ("Topic:", "Content:")
    defaults = OperationConfig(
        name,
        weights={"influence": 3.0, "quality": 1.0, "faithfulness": 1.0, "format": 1.0},
        steps=240,
        max_copied=0.95,  # a fact can often be said in the passage's own words only
    )
    default_examples = (
        Example(
            source=(
                "The Danube rises in the Black Forest of Germany and flows southeast for about 2,850 kilometres to the Black "
                "Sea. It passes through ten countries, more than any other river in the world. Vienna, Bratislava, Budapest "
                "and Belgrade are capitals on its banks."
            ),
            answer=(
                "Topic: Fact\nContent: The Danube flows about 2,850 kilometres from the Black Forest to the Black Sea.\n"
                "Topic: Another fact\nContent: Ten countries and four capitals lie along the river."
            ),
        ),
    )

    def instruction(self) -> str:
        topic, content = self.headings
        return f'Write {self.asked} short notes about the passage, each with a line "{topic}" and a line "{content}".'

    def claims(self, text: str) -> list[str]:
        """The contents of the entries."""
        return [content for _, content in self.entries(text)]
