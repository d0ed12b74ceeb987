"""rephrase: say the passage again in other words, nothing lost, nothing added. The words of the prompt are ours."""

from __future__ import annotations

from synpro.operations.base import LONG_PASSAGE, Example, OperationConfig
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
    default_examples = (
        Example(
            source=(
                "The Danube rises in the Black Forest of Germany and flows southeast for about 2,850 kilometres to the Black "
                "Sea. It passes through ten countries, more than any other river in the world. Vienna, Bratislava, Budapest "
                "and Belgrade are capitals on its banks. For several centuries it was a frontier of the Roman Empire."
            ),
            answer=(
                f"{HEADING}\nFrom its source in Germany's Black Forest, the Danube runs roughly 2,850 kilometres southeast "
                "until it meets the Black Sea. No other river on Earth crosses as many countries: it touches ten. Four "
                "capitals, Vienna, Bratislava, Budapest and Belgrade, were built along it. The Romans used it as a border of "
                "their empire for hundreds of years."
            ),
        ),
    )

    def instruction(self, text: str) -> str:
        long = "Keep its paragraphs, and say as much as it does. " if len(text) >= LONG_PASSAGE else ""
        return (
            f"Say the passage again in your own words. Keep every fact, name and number, and add nothing. {long}"
            f'Answer with "{HEADING}" and then the new text only.'
        )
