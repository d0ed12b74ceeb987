"""How much of a text a tokenizer loses: it is encoded, decoded, and compared."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

SAMPLES = {
    "English": "The keeper of the old harbour counted 27 boats; each evening he wrote down their names.",
    "code": 'def f(x):\n    return {"a": [x % 3, x ** 2]}  # <b>&amp;</b> \\n',
    "German": "Der Wärter des alten Hafens zählte die Schiffe und übersah dabei größere Körbe.",
    "Greek": "Ο φύλακας του παλιού λιμανιού μετρούσε τις βάρκες.",
    "Arabic": "كان حارس الميناء القديم يعد القوارب كل مساء.",
    "Chinese": "老港口的看守人每天傍晚都数船，并写下它们的名字。",
    "Hindi": "पुराने बंदरगाह का रखवाला हर शाम नावें गिनता था।",
}
"""A sentence per script, for a look at a tokenizer before there is a corpus."""


def lost_share(texts: Iterable[str], roundtrip: Callable[[str], str]) -> float:
    """The share of characters that are gone after `roundtrip` (encode, then decode), 0 to 1.

    White space, and the two ways to write an accented letter, do not count. Letters in another case do.
    """
    lost = total = 0
    for text in texts:
        before, after = (Counter(unicodedata.normalize("NFC", t)) for t in (text, roundtrip(text)))
        for space in [c for c in before if c.isspace()]:
            del before[space]
        lost += (before - after).total()
        total += before.total()
    return lost / total if total else 0.0


def changed_space(texts: Iterable[str], roundtrip: Callable[[str], str]) -> float:
    """The share of white space (spaces, indents, line ends) that is gone or was added after `roundtrip`, 0 to 1.

    That around a text does not count: many tokenizers begin every text with a space.
    """
    changed = total = 0
    for text in texts:
        before, after = (Counter(re.findall(r"\s", t.strip())) for t in (text, roundtrip(text)))
        changed += (before - after).total() + (after - before).total()
        total += before.total()
    return min(1.0, changed / total) if total else 0.0


def excerpt(text: str, characters: int, piece: int = 500) -> str:
    """At most so many characters of a text, in pieces from its beginning to its end: what is lost may stand anywhere."""
    if len(text) <= characters:
        return text
    pieces = max(2, characters // piece)
    starts = (number * (len(text) - piece) // (pieces - 1) for number in range(pieces))
    return "".join(text[start : start + piece] for start in starts)
