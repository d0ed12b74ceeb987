"""rephrase: say the passage again in other words, nothing lost, nothing added.

One worked example stands in the chat, because a model of 135M
parameters keeps the form only when it has seen it (measured; see OperationConfig.examples). The words are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from synpro.operations.base import MARK, Example, Unparsable, quote, sentences, worked
from synpro.records import Chat, Passage

HEADING = "Rephrased:"

INSTRUCTION = (
    "Say the passage again in your own words. Keep every fact, name and number, and add nothing. "
    f'Answer with "{HEADING}" and then the new text only.'
)

EXAMPLES = (
    Example(
        source=(
            "The Danube rises in the Black Forest of Germany and flows southeast for about 2,850 kilometres to the Black Sea. "
            "It passes through ten countries, more than any other river in the world. Vienna, Bratislava, Budapest and "
            "Belgrade are capitals on its banks. For several centuries it was a frontier of the Roman Empire."
        ),
        answer=(
            f"{HEADING}\nFrom its source in Germany's Black Forest, the Danube runs roughly 2,850 kilometres southeast until "
            "it meets the Black Sea. No other river on Earth crosses as many countries: it touches ten. Four capitals, "
            "Vienna, Bratislava, Budapest and Belgrade, were built along it. The Romans used it as a border of their empire "
            "for hundreds of years."
        ),
    ),
)


class Rephrase:
    """The passage in other words, under the heading `Rephrased:`."""

    name = "rephrase"

    def __init__(self, examples: Sequence[Example] = ()) -> None:
        self.examples = tuple(examples) or EXAMPLES
        self._shown = worked(self.examples, self._ask)

    def _ask(self, text: str) -> str:
        return f"{INSTRUCTION}\n\n{quote(text, (HEADING,))}"

    def prompt(self, passage: Passage) -> Chat:
        """Worked examples, then the passage: a shared prefix of the same tokens for every passage."""
        return (*self._shown, {"role": "user", "content": self._ask(passage.text)})

    def parse(self, answer: str) -> str:
        """The text under the heading, which starts the answer and stands exactly once.

        Raises Unparsable. An answer cut at the length limit still parses: whether a clipped text is used is for the caller
        to say, who knows why generation ended (`Rewrite.finish`).
        """
        found = answer.count(HEADING)
        if found == 0:
            raise Unparsable(f"the heading {HEADING!r} is missing")
        if found > 1:
            raise Unparsable(f"the heading {HEADING!r} stands {found} times; it must stand once")
        before, text = (part.strip() for part in answer.split(HEADING))
        if before:
            raise Unparsable(f"there is text before the heading {HEADING!r}: {before[:60]!r}")
        if not text:
            raise Unparsable(f"nothing follows the heading {HEADING!r}")
        if MARK in text:
            raise Unparsable(f"the mark {MARK} of a passage stands in the text")
        if not any(c.isalnum() for c in text):
            raise Unparsable(f"no words follow the heading {HEADING!r}")
        return text

    def claims(self, text: str) -> list[str]:
        """The sentences."""
        return sentences(text)
