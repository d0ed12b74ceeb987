"""rephrase: say the passage again in other words, nothing lost, nothing added. The words of the prompt are ours."""

from __future__ import annotations

from synpro.operations.base import LONG_PASSAGE, OperationConfig, read_examples
from synpro.operations.prose import ProseOperation

HEADING = "Rephrased:"


class Rephrase(ProseOperation):
    """The passage in other words, under the heading `Rephrased:`."""

    name = "rephrase"
    headings = (HEADING,)
    defaults = OperationConfig(
        name,
        weights={"influence": 3.0, "quality": 1.0, "similarity": 1.0, "structure": 1.0, "length": 1.0, "format": 1.0},
        steps=300,
        max_copied=0.85,
    )
    default_examples = read_examples(__file__)

    def instruction(self, text: str) -> str:
        long = "Keep its paragraphs, and say as much as it does. " if len(text) >= LONG_PASSAGE else ""
        return (
            f"Say the passage again in your own words. Keep every fact, name and number, and add nothing. {long}"
            f'Answer with "{HEADING}" and then the new text only.'
        )
